"""What the exports to other libraries share: a model's symbols, its positions as a table, refusals, whole folders.

Knows nothing of any one library.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from seqkit.data.dictionary import Dictionary
from seqkit.errors import CheckpointError, ConfigError
from seqkit.files import sync_folder
from seqkit.models._transformer_stack import TransformerDecoder, TransformerEncoder
from seqkit.models.base import Model
from seqkit.models.decoder_lm import DecoderLMConfig
from seqkit.models.transformer import TransformerConfig
from seqkit.models.transformer_lm import TransformerLMConfig
from seqkit.modules.transformer_layer import TransformerDecoderLayer, TransformerEncoderLayer
from seqkit.tasks.base import Task
from seqkit.tasks.language_modeling import LanguageModeling
from seqkit.tasks.translation import Translation

_NORMFORMER = ("scale_fc", "scale_attn", "scale_heads", "scale_resids")


@dataclass(frozen=True)
class Symbols:
    """What a model's ids mean.

    Attributes:
        source: dictionary of the input; a language model's only one.
        target: dictionary of the output.
        begin: id of the symbol that outputs, or a language model's texts, begin with.
        source_name, target_name: names of the dictionaries' files in a data folder.
    """

    source: Dictionary
    target: Dictionary
    begin: int
    source_name: str = "dict.txt"
    target_name: str = "dict.txt"

    @property
    def are_joined(self) -> bool:
        """Whether input and output have the same symbols."""
        return self.source.symbols == self.target.symbols


def symbols_of(task: Task) -> Symbols:
    """The symbols of a task whose texts begin and end as other libraries expect.

    Raises:
        ConfigError: it is another task.
    """
    if type(task) is LanguageModeling:
        return Symbols(task.source_dictionary, task.target_dictionary, task.begin_symbol)
    if type(task) is Translation:
        source_name, target_name = _names(task)
        target = task.target_dictionary
        return Symbols(task.source_dictionary, target, target.eos(), source_name, target_name)
    raise ConfigError(
        f"models of task={task.config._name} cannot be exported to other libraries; those of translation and "
        "language_modeling can, and safetensors holds any"
    )


def save_dictionaries(task: Task, folder: Path) -> None:
    """Write a task's dictionaries as its data folder has them."""
    source = task.source_dictionary
    if isinstance(task, Translation):
        source_name, target_name = _names(task)
        task.source_dictionary.save(folder / source_name)
        task.target_dictionary.save(folder / target_name)
    else:
        (task.target_dictionary if source is None else source).save(folder / "dict.txt")


def _names(task: Translation) -> tuple[str, str]:
    return f"dict.{task.config.source_lang}.txt", f"dict.{task.config.target_lang}.txt"


def require_fit(library: str, model: Model, problems: Sequence[str]) -> None:
    """Raise a `ConfigError` with everything that keeps a model from being one of another library's."""
    if not problems:
        return
    reasons = "\n".join(f"  - {problem}" for problem in problems)
    raise ConfigError(f"this model (model={model.config._name}) does not fit {library}:\n{reasons}")


def unknown_model(model: Model, known: Sequence[str]) -> str:
    """Why a model of a kind that an export does not know is refused."""
    return f"there is no form for model={model.config._name}; the models that can be exported are {', '.join(known)}"


def transformer_problems(config: TransformerConfig | TransformerLMConfig) -> Iterator[str]:
    """The options that no other library knows."""
    if config.adaptive_softmax_cutoff is not None:
        yield "model.adaptive_softmax_cutoff: an adaptive softmax is no projection to the vocabulary"
    if config.adaptive_input:
        yield "model.adaptive_input=true: adaptive embeddings are no table"
    if isinstance(config, TransformerConfig):
        if config.no_encoder_final_norm and config.encoder_normalize_before:
            yield "model.no_encoder_final_norm=true: pre-norm encoders end with a layer norm there"
        if config.no_cross_attention:
            yield "model.no_cross_attention=true: decoders that do not attend to the source are not known there"
        if config.cross_self_attention:
            yield "model.cross_self_attention=true: self-attention that reads the source is not known there"
        return
    if config.character_embeddings:
        yield "model.character_embeddings=true: word vectors made of characters are no table"
    yield from (
        f"model.{name}=true: NormFormer's norms and factors are not known there"
        for name in _NORMFORMER
        if getattr(config, name)
    )


def vocabulary_problems(symbols: Symbols) -> Iterator[str]:
    """Why a language model's dictionaries may not do."""
    if not symbols.are_joined:
        yield (
            f"task.output_dictionary_size: input and output must have the same symbols, but there are "
            f"{len(symbols.source)} and {len(symbols.target)}"
        )


def position_table(stack: TransformerEncoder | TransformerDecoder, length: int | None = None) -> Tensor:
    """(length, C): the vector of each position, learned, sinusoidal, or zero where a model knows no positions.

    Args:
        length: how many; by default as many as the longest text has. Learned ones are no more than that.
    """
    length = stack.max_positions() if length is None else length
    if stack.embed_positions is None:
        return torch.zeros(length, width_of(stack))
    vectors: Tensor = stack.embed_positions(None, length)
    return vectors.detach().clone()


def width_of(stack: TransformerEncoder | TransformerDecoder) -> int:
    """C."""
    layer = stack.layers[0]
    assert isinstance(layer, TransformerEncoderLayer | TransformerDecoderLayer)
    return layer.fc1.in_features


def rotary_theta(config: DecoderLMConfig, head_dim: int) -> float:
    """The base of rotary frequencies; `ntk` scaling is a larger one."""
    if config.rope_scaling == "ntk":
        return float(config.rope_theta * config.rope_factor ** (head_dim / (head_dim - 2)))
    return config.rope_theta


def rotary_problems(config: DecoderLMConfig, allowed: Sequence[str]) -> Iterator[str]:
    """Whether the stretching of positions is one of the `allowed` kinds, or can be done without."""
    if config.rope_scaling not in ("none", "ntk", *allowed):
        yield (
            f"model.rope_scaling={config.rope_scaling}: positions are stretched otherwise there; known are none, ntk, "
            f"{', '.join(allowed)}"
        )


@contextlib.contextmanager
def new_folder(output: str | Path, *, force: bool = False) -> Iterator[Path]:
    """A folder to write in, which becomes `output` as a whole once all in it is on the disk; on failure, none is left.

    Args:
        output: the folder to make. Its parent must be there.
        force: it may hold files already; those of the same names are replaced, others stay.

    Raises:
        CheckpointError: it holds files and `force` is false, it cannot be made, or writing fails. What was there before
            is as it was.
    """
    target = Path(output).resolve()
    if target.exists() and not target.is_dir():
        raise CheckpointError(f"{target} is a file; give the folder to make")
    is_taken = target.is_dir() and any(target.iterdir())
    if is_taken and not force:
        raise CheckpointError(
            f"{target} is there already and not empty; give another name, or --force to write into it"
        )
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir()
        yield temporary
        if is_taken:
            _add_missing(target, temporary)
        _sync_tree(temporary)
        _put_in_place(temporary, target)
    except OSError as error:
        raise CheckpointError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _add_missing(source: Path, folder: Path) -> None:
    """What is in `source` and not in `folder`, in both; a file is linked where that can be, else copied."""
    for entry in source.iterdir():
        place = folder / entry.name
        if entry.is_dir() and not entry.is_symlink():
            if not place.exists():
                place.mkdir()
            if place.is_dir():
                _add_missing(entry, place)
        elif not place.exists():
            try:
                os.link(entry, place, follow_symlinks=False)
            except OSError:
                shutil.copy2(entry, place, follow_symlinks=False)


def _sync_tree(folder: Path) -> None:
    """Every file of a folder, and the folder, on the disk."""
    for entry in folder.rglob("*"):
        if entry.is_dir():
            sync_folder(entry)
        elif not entry.is_symlink():
            descriptor = os.open(entry, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    sync_folder(folder)


def _put_in_place(folder: Path, target: Path) -> None:
    """Rename `folder` to `target`; a folder that is there already is put aside for that moment, and then deleted."""
    if not target.exists():
        os.rename(folder, target)
    else:
        aside = target.with_name(f".{target.name}.{os.getpid()}.old")
        os.rename(target, aside)
        try:
            os.rename(folder, target)
        except OSError:
            os.rename(aside, target)
            raise
        shutil.rmtree(aside, ignore_errors=True)
    sync_folder(target.parent)
