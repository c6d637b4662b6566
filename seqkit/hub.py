"""Trained models ready for use from Python.

    from seqkit.hub import from_pretrained

    hub = from_pretrained("checkpoints", data="data-bin", bpe="subword_nmt", bpe_codes="codes")
    hub.translate("eine frau liest .")
    hub.translate(["…", "…"], beam=10, lenpen=0.6)

The commands that decode are thin faces of the same class. Knows nothing of checkpoint formats, or of how a model or a
search works.
"""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, Protocol, overload, runtime_checkable

import torch
from torch import Tensor

from seqkit.config.root import COMPONENTS, SECTIONS, RootConfig
from seqkit.config.sections import GenerationConfig
from seqkit.config.validate import build_config, options_of, to_dict
from seqkit.data.collate import collate_tokens
from seqkit.data.dictionary import Dictionary
from seqkit.data.encoders.base import build_bpe, build_tokenizer
from seqkit.data.indexed_dataset import RawTextDataset
from seqkit.data.iterators import CountingIterator, EpochBatchIterator
from seqkit.data.language_pair_dataset import LanguagePairDataset
from seqkit.data.length_limits import smallest
from seqkit.data.sequence_dataset import SequenceDataset
from seqkit.distributed.forked_map import can_fork, forked_map
from seqkit.errors import CheckpointError, ConfigError, DataError
from seqkit.generation.alignment import hard_alignment, soft_alignment
from seqkit.generation.build import Generator, build_generator
from seqkit.generation.compile import CompiledSteps
from seqkit.generation.constraints import pack_constraints
from seqkit.generation.hypothesis import Hypothesis
from seqkit.generation.output import HypothesisFormatter, SentenceResult
from seqkit.generation.sequence_generator import SequenceGenerator
from seqkit.generation.step_processors import AllowedTokensFunction
from seqkit.interop.load_model import load_ensemble, load_language_model, prepare_for_use, split_paths
from seqkit.models.base import LanguageModel, Model
from seqkit.registry import registry
from seqkit.tasks.base import Task
from seqkit.training.device import choose_device, move_to_device

_DEFAULT_MAX_TOKENS = 12000
_FILES_BESIDE_MODELS = {
    "bpe_codes": ("bpecodes", "code", "codes"),
    "sentencepiece_model": ("sentencepiece.bpe.model", "spm.model"),
    "bpe_merges": ("merges.txt",),
    "bpe_vocab": ("vocab.json",),
}
"""Names under which the files of a subword encoder lie beside published models, by option."""
_FORKED_FROM = 8
"""Batches from which starting processes pays."""
_SECTIONS_OF_FLAT_OPTIONS = ("generation", "common", "common_eval", "dataset", "interactive", "checkpoint")


OriginalText = Callable[[int], tuple[str | None, str | None]]
"""Source and target of a sentence as they stand in the data, where that is known."""


@runtime_checkable
class _TakesTokens(Protocol):
    """A task that makes a dataset of token rows."""

    def build_dataset_for_inference(
        self, src_tokens: Sequence[Tensor], src_lengths: Sequence[int], constraints: Sequence[Tensor] | None = None
    ) -> SequenceDataset:
        """A dataset of sources alone, or of sources and what their outputs must contain."""
        ...


def from_pretrained(
    model: str | Path, checkpoint_file: str = "checkpoint_best.pt", data: str | Path | None = None, **overrides: Any
) -> Hub:
    """Load a trained model, or an ensemble.

    Args:
        model: the folder that holds the checkpoint, or the checkpoint itself.
        checkpoint_file: the checkpoint's name in that folder; several joined by ':' make an ensemble.
        data: the folder that holds the dictionaries; by default the model's own folder if it has them, else the one it
            was trained on.
        overrides: options of any section by their bare names (`beam=10`, `bpe_codes="codes"`, `cpu=True`), components
            by their kind (`bpe="subword_nmt"`), or whole sections (`generation={"beam": 10}`).

    Raises:
        CheckpointError, ConfigError, DataError: what is missing, or does not fit.
    """
    place = Path(model)
    if place.is_file():
        folder, paths = place.parent, [str(place)]
    elif place.is_dir():
        folder, paths = place, [str(place / name) for name in checkpoint_file.split(":")]
    else:
        raise CheckpointError(f"{model} does not exist; give the folder of a trained model, or a checkpoint file")
    given, loose = _given(overrides)
    if data is None and any(folder.glob("dict.*txt")):
        data = folder
    if data is not None:
        given.setdefault("task", {}).setdefault("data", str(data))
    bpe = given.get("bpe")
    if bpe is not None and bpe.get("_name"):
        _add_files_beside(folder, bpe)
    loaded = load_ensemble(paths, given, model_overrides=loose)
    return Hub(loaded.models, loaded.config, loaded.task)


class _Options(NamedTuple):
    """What one call of a method asks for."""

    generation: GenerationConfig
    seed: int
    allowed_tokens: AllowedTokensFunction | None


class _Search(NamedTuple):
    """What one set of options comes to."""

    options: _Options
    generator: Generator
    formatter: HypothesisFormatter


class _Line(NamedTuple):
    """A line of input: its tokens, what its output must contain, and why it cannot be decoded."""

    tokens: Tensor
    constraints: list[Tensor]
    error: str | None


class Hub:
    """Models, the task they belong to, and everything between text and tokens.

    The `options` of methods are those of the section `generation` (`beam=10, lenpen=0.6`), which then hold for that
    call alone, and two more: `seed` of sampling (by default `common.seed`, so that the same call draws the same), and
    `prefix_allowed_tokens_fn`, a function that is given a sentence's number and the tokens of an output so far (its
    beginning symbol first) and returns the tokens that may come next.

    Args:
        models: one model, or several that make an ensemble.
        config: how they are used; its sections `generation`, `bpe` and `tokenizer` are the defaults of all methods.
        task: gives the dictionaries.
        device: where models run; by default the GPU, if there is one and `common.cpu` is not set.

    Attributes:
        trained_with: the config that a command's first checkpoint was trained with, as it is saved; none elsewhere.
        forks: whether batches are decoded side by side by forked processes, as commands do, where that is possible
            (on a CPU, under Linux) and there are enough of them, rather than by threads. What the caller's own
            functions change stays in these processes.
    """

    def __init__(
        self, models: Sequence[Model], config: RootConfig, task: Task, device: torch.device | str | None = None
    ) -> None:
        self.models = list(models)
        self.config = config
        self.task = task
        self.tokenizer = build_tokenizer(config.tokenizer)
        self.bpe = build_bpe(config.bpe)
        self.trained_with: Mapping[str, Any] = {}
        self.forks = False
        self._language_models: dict[str, LanguageModel] = {}
        self._last_search: _Search | None = None
        self._compiled: CompiledSteps | None = None
        self.device = torch.device("cpu")
        self.to(choose_device(config.common, config.distributed_training.device_id) if device is None else device)
        self.max_positions = smallest(task.max_positions(), *(model.max_positions() for model in self.models))

    @classmethod
    def load(cls, config: RootConfig) -> Hub:
        """The hub that a command's config describes: the checkpoints of `common_eval.path`, with what was given.

        Raises:
            CheckpointError, ConfigError, DataError: what is missing, or does not fit.
        """
        loaded = load_ensemble(
            split_paths(config.common_eval.path),
            config.given,
            model_overrides=config.common_eval.model_overrides,
            trust_pickle=config.checkpoint.trust_pickle,
            suffix=config.checkpoint.checkpoint_suffix,
            shard_count=config.checkpoint.checkpoint_shard_count,
        )
        hub = cls(loaded.models, loaded.config, loaded.task)
        hub.trained_with = loaded.trained_with
        return hub

    def to(self, device: torch.device | str) -> Hub:
        """Move the models to a device, in the precision that `common.fp16`, `common.bf16` or `generation.quantize` say.

        Raises:
            ConfigError: quantised models run on a CPU alone.
        """
        device = torch.device(device)
        self._prepare([*self.models, *self._language_models.values()], device)
        self._compiled = None
        self.device = device
        return self

    @property
    def source_dictionary(self) -> Dictionary:
        """Dictionary of the input."""
        dictionary = self.task.source_dictionary
        if dictionary is None:
            raise ConfigError(f"task={self.task.config._name} has no text as input")
        return dictionary

    @property
    def target_dictionary(self) -> Dictionary:
        """Dictionary of the output."""
        return self.task.target_dictionary

    # text to text

    @overload
    def translate(self, sentences: str, **options: Any) -> str: ...

    @overload
    def translate(self, sentences: Sequence[str], **options: Any) -> list[str]: ...

    def translate(self, sentences: str | Sequence[str], **options: Any) -> str | list[str]:
        """The best output for each sentence, as text; a language model goes on writing the text.

        Args:
            sentences: one sentence, or several (decoded in batches, returned in their order).
            options: see the class.

        Raises:
            DataError: a sentence is longer than the model takes, or has constraints that cannot be met.
        """
        if isinstance(sentences, str):
            return self.translate([sentences], **options)[0]
        results = self.answer(sentences, **options)
        for result in results:
            if result.error is not None:
                raise DataError(f"sentence {result.id}: {result.error}")
        return [result.hypotheses[0].text for result in results]

    @overload
    def sample(self, sentences: str, beam: int = 1, **options: Any) -> str: ...

    @overload
    def sample(self, sentences: Sequence[str], beam: int = 1, **options: Any) -> list[str]: ...

    def sample(self, sentences: str | Sequence[str], beam: int = 1, **options: Any) -> str | list[str]:
        """As `translate`, with one hypothesis for each sentence by default: for `sampling=True, sampling_topk=10`."""
        return self.translate(sentences, beam=beam, **options)

    def answer(self, lines: Sequence[str], *, first: int = 0, **options: Any) -> list[SentenceResult]:
        """Everything about the output for each line, in their order.

        A line that cannot be decoded (it is longer than the model takes, or its constraints cannot be met) gets no
        hypotheses but an `error`, and stops nothing. With `constraints`, a line is the sentence and, behind tabs, what
        its output must contain.

        Args:
            lines: text.
            first: the number of the first line.
            options: see the class.
        """
        asked = self._options(options)
        read = [self._line(line, asked.generation) for line in lines]
        results: dict[int, SentenceResult] = {}
        for place, line in enumerate(read):
            if line.error is not None:
                results[place] = SentenceResult(first + place, None, None, [], error=line.error)
        places = [place for place in range(len(read)) if place not in results]
        if places:
            constraints = [
                pack_constraints([tokens.tolist() for tokens in read[place].constraints]) for place in places
            ]
            has_constraints = asked.generation.constraints is not None
            dataset = self._dataset([read[place].tokens for place in places], constraints if has_constraints else None)
            numbers = torch.tensor(places) + first
            samples = (
                {**sample, "id": numbers[sample["id"]]} for sample in self.batches(dataset, in_memory=True) if sample
            )
            for batch in self._decode(samples, lambda number: (self._pieces(lines[number - first]), None), asked):
                results |= {result.id - first: replace(result, target=None, target_pieces=None) for result in batch}
        for place, line in enumerate(read):
            # of a line that was typed, what is shown is what the model reads: symbols, not decoded again
            kept = line.tokens[line.tokens.ne(self.source_dictionary.pad())]
            shown = self.source_dictionary.string(kept, self.config.common_eval.post_process)
            constraints_shown = [self.string(tokens) for tokens in line.constraints]
            results[place] = replace(results[place], source=shown, constraints=constraints_shown)
        return [results[place] for place in range(len(read))]

    # tokens to tokens

    @overload
    def generate(self, tokens: Tensor, *, prefix_tokens: Tensor | None = None, **options: Any) -> list[Hypothesis]: ...

    @overload
    def generate(
        self, tokens: Sequence[Tensor], *, prefix_tokens: Sequence[Tensor] | None = None, **options: Any
    ) -> list[list[Hypothesis]]: ...

    def generate(
        self,
        tokens: Tensor | Sequence[Tensor],
        *,
        prefix_tokens: Tensor | Sequence[Tensor] | None = None,
        **options: Any,
    ) -> list[Hypothesis] | list[list[Hypothesis]]:
        """Hypotheses for encoded sentences, best first.

        Args:
            tokens: one (S,) row that ends in EOS, as from `encode`, or several.
            prefix_tokens: for each of them, the (P,) tokens that outputs begin with.
            options: see the class.

        Raises:
            DataError: a sentence is longer than the model takes, or there are not as many prefixes as sentences.
        """
        if isinstance(tokens, Tensor):
            if not isinstance(prefix_tokens, Tensor | None):
                raise DataError("one sentence takes one row of prefix_tokens")
            return self.generate([tokens], prefix_tokens=None if prefix_tokens is None else [prefix_tokens], **options)[
                0
            ]
        if prefix_tokens is not None and len(prefix_tokens) != len(tokens):
            raise DataError(f"there are {len(tokens)} sentences but {len(prefix_tokens)} prefixes; they must be pairs")
        search = self._search(self._options(options))
        found: dict[int, list[Hypothesis]] = {}
        for sample in self.batches(self._dataset(tokens), in_memory=True):
            numbers = sample["id"].tolist()
            prefix = None
            if prefix_tokens is not None:
                pad = self.target_dictionary.pad()
                prefix = collate_tokens([prefix_tokens[number] for number in numbers], pad)
            with torch.inference_mode():
                hypotheses = self._generate(search.generator, sample, prefix)
            self._align(hypotheses, sample, search.options.generation)
            found.update(zip(numbers, hypotheses, strict=True))
        return [found[place] for place in range(len(tokens))]

    @overload
    def score(self, sources: str, targets: str | None = None) -> Hypothesis: ...  # type: ignore[overload-overlap]  # str is a Sequence

    @overload
    def score(self, sources: Sequence[str], targets: Sequence[str] | None = None) -> list[Hypothesis]: ...

    def score(
        self, sources: str | Sequence[str], targets: str | Sequence[str] | None = None
    ) -> Hypothesis | list[Hypothesis]:
        """The log-probability of given texts, token by token; the score is their mean (natural logarithms).

        Args:
            sources: one sentence, or several; for a language model, what is scored.
            targets: as many outputs; none for a language model.

        Raises:
            DataError: the numbers of sources and targets differ, or targets are missing.
        """
        if isinstance(sources, str):
            if not isinstance(targets, str | None):
                raise DataError("score takes two sentences or two lists of sentences")
            return self.score([sources], None if targets is None else [targets])[0]
        if isinstance(targets, str):
            raise DataError("score takes two sentences or two lists of sentences")
        source_rows = [self.encode(text) for text in sources]
        dataset: SequenceDataset
        if targets is None:
            if not isinstance(self.models[0], LanguageModel):
                raise DataError("score needs the targets that the model is to score beside their sources")
            dataset = self._dataset(source_rows)
        else:
            if len(sources) != len(targets):
                raise DataError(f"there are {len(sources)} sources but {len(targets)} targets; they must be pairs")
            target_rows = [self._encoded(text, self.target_dictionary) for text in targets]
            dataset = LanguagePairDataset(
                source_rows,
                [row.numel() for row in source_rows],
                self.source_dictionary,
                target_rows,
                [row.numel() for row in target_rows],
                self.target_dictionary,
                shuffle=False,
            )
        # How outputs are searched for has no bearing on given ones.
        scoring = GenerationConfig(score_reference=True)
        generator = self._search(_Options(scoring, self.config.common.seed, None)).generator
        found: dict[int, Hypothesis] = {}
        for sample in self.batches(dataset, in_memory=True):
            with torch.inference_mode():
                hypotheses = generator.generate(self._moved(sample))
            found.update((number, best[0]) for number, best in zip(sample["id"].tolist(), hypotheses, strict=True))
        return [found[place] for place in range(len(sources))]

    # batches, for commands

    def batches(self, dataset: SequenceDataset, *, in_memory: bool = False) -> CountingIterator[Any]:
        """The batches of a dataset in the order of its lengths, as the section `dataset` says.

        Args:
            dataset: what to go over.
            in_memory: it is small and at hand: no workers, no shards, batches of any size.

        Raises:
            DataError: sentences that are too long, unless `dataset.skip_invalid_size_inputs_valid_test` is set.
        """
        return self.batch_iterator(dataset, in_memory=in_memory).next_epoch_itr(shuffle=False)

    def batch_iterator(
        self, dataset: SequenceDataset, *, in_memory: bool = False, leave_out_too_long: bool = False
    ) -> EpochBatchIterator:
        """What gives the `batches`.

        Args:
            dataset, in_memory: see `batches`.
            leave_out_too_long: sentences that are too long are no mistake, but left out (and `ignored`).
        """
        settings = self.config.dataset
        max_tokens = settings.max_tokens
        if max_tokens is None and settings.batch_size is None:
            max_tokens = _DEFAULT_MAX_TOKENS
        return self.task.batch_iterator(
            dataset,
            max_tokens=max_tokens,
            max_sentences=settings.batch_size,
            max_positions=self.max_positions,
            ignore_invalid_inputs=leave_out_too_long or settings.skip_invalid_size_inputs_valid_test,
            required_batch_size_multiple=1 if in_memory else settings.required_batch_size_multiple,
            seed=self.config.common.seed,
            num_shards=1 if in_memory else settings.num_shards,
            shard_id=0 if in_memory else settings.shard_id,
            num_workers=0 if in_memory else settings.num_workers,
            buffer_size=settings.data_buffer_size,
            shuffle_batches=False,
        )

    def left_out(self, dataset: SequenceDataset, numbers: Sequence[int]) -> list[SentenceResult]:
        """Results without hypotheses for sentences that are too long to be decoded, in the order of their numbers."""
        formatter = self._search(self._options({})).formatter
        results = []
        for number in sorted(numbers):
            sample = dataset.collater([dataset[number]])
            target = sample.get("target")
            source_text, target_text = _original_text(dataset, number)
            result = formatter.sentence(
                number,
                sample["net_input"]["src_tokens"][0],
                None if target is None else target[0],
                [],
                source_text=source_text,
                target_text=target_text,
            )
            limits = f"the longest that can be decoded is {self.max_positions}"
            result.error = f"{dataset.size(number)} tokens (source, target) are too many: {limits}"
            if self.config.dataset.max_tokens is not None:
                result.error += f", and a batch holds dataset.max_tokens={self.config.dataset.max_tokens}"
            results.append(result)
        return results

    def decode_batches(
        self, samples: Iterable[Any], dataset: SequenceDataset | None = None, **options: Any
    ) -> Iterator[list[SentenceResult]]:
        """The results of each batch, in the order of the batches.

        On a CPU as many batches are decoded side by side as PyTorch has threads (`torch.set_num_threads`): small
        models gain little from sharing out single operations. With `forks` it is done by as many processes.

        Args:
            samples: batches on the CPU, such as those of `batches`.
            dataset: where they come from; gives the original text for `generation.replace_unk`.
            options: see the class.
        """
        return self._decode(samples, lambda number: _original_text(dataset, number), self._options(options))

    def _decode(
        self, samples: Iterable[Any], original: OriginalText, options: _Options
    ) -> Iterator[list[SentenceResult]]:
        threads = torch.get_num_threads() if self.device.type == "cpu" else 1
        rest = iter(samples)
        ahead = list(islice(rest, _FORKED_FROM if self.forks else 2))
        samples = chain(ahead, rest)
        # A batch alone is decoded by all threads together.
        if threads == 1 or len(ahead) < 2 or options.generation.retain_dropout:
            search = self._new_search(options)
            for sample in samples:
                yield self._results(search, sample, original)
            return
        if len(ahead) == _FORKED_FROM and self.forks and can_fork():
            search = self._new_search(options)
            try:
                # This process only makes batches, beside those that need the cores; and what it makes for them now is
                # made as they will use it, with one thread.
                torch.set_num_threads(1)
                if isinstance(search.generator, SequenceGenerator) and ahead[0]:
                    with torch.inference_mode():
                        search.generator.rehearse(ahead[0])
                yield from forked_map(lambda sample: self._results(search, sample, original), samples, threads)
            finally:
                torch.set_num_threads(threads)
            return
        free: SimpleQueue[_Search] = SimpleQueue()
        for _ in range(threads):
            free.put(self._new_search(options))

        def work(sample: Any) -> list[SentenceResult]:
            search = free.get()
            try:
                return self._results(search, sample, original)
            finally:
                free.put(search)

        pool = ThreadPoolExecutor(threads, "seqkit-decode", initializer=torch.set_num_threads, initargs=(1,))
        waiting: deque[Future[list[SentenceResult]]] = deque()
        try:
            for sample in samples:
                waiting.append(pool.submit(work, sample))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
            # what the workers set is also the number for threads that are made later
            torch.set_num_threads(threads)

    def results(self, sample: Any, dataset: SequenceDataset | None = None, **options: Any) -> list[SentenceResult]:
        """Decode a batch; results are in the batch's order. See `decode_batches` for the arguments."""
        search = self._search(self._options(options))
        return self._results(search, sample, lambda number: _original_text(dataset, number))

    def _generate(self, generator: Generator, sample: Any, prefix: Tensor | None = None) -> list[list[Hypothesis]]:
        """Decode a batch; without a `prefix`, outputs begin as the task says (a language model's with the text)."""
        start, begin = self.task.generation_start(sample)
        prefix = start if prefix is None else prefix
        prefix = None if prefix is None else prefix.to(self.device)
        found = generator.generate(self._moved(sample), prefix_tokens=prefix, begin=begin)
        if prefix is not None:
            lengths = prefix.ne(self.target_dictionary.pad()).sum(1).tolist()
            for given, hypotheses in zip(lengths, found, strict=True):
                for hypothesis in hypotheses:
                    hypothesis.given = given
        return found

    def _results(self, search: _Search, sample: Any, original: OriginalText) -> list[SentenceResult]:
        if not sample:
            return []
        generation = search.options.generation
        target = sample.get("target")
        prefix = None
        if generation.prefix_size:
            if target is None:
                raise DataError(f"generation.prefix_size={generation.prefix_size} needs data with targets")
            prefix = target[:, : generation.prefix_size]
        started = time.perf_counter()
        with torch.inference_mode():
            found = self._generate(search.generator, sample, prefix)
        seconds = (time.perf_counter() - started) / max(len(found), 1)
        source = sample["net_input"]["src_tokens"]
        results = []
        for row, (number, hypotheses) in enumerate(zip(sample["id"].tolist(), found, strict=True)):
            source_text, target_text = original(number)
            result = search.formatter.sentence(
                number,
                source[row],
                None if target is None else target[row],
                hypotheses,
                source_text=source_text,
                target_text=target_text,
            )
            result.seconds = seconds
            if not hypotheses:
                result.error = _why_nothing(generation)
            results.append(result)
        return results

    def _align(self, found: list[list[Hypothesis]], sample: Any, generation: GenerationConfig) -> None:
        """Fill in the alignments that `generation.print_alignment` asks for."""
        pad, eos = self.source_dictionary.pad(), self.source_dictionary.eos()
        for source, hypotheses in zip(sample["net_input"]["src_tokens"], found, strict=True):
            for hypothesis in hypotheses:
                if hypothesis.attention is None:
                    continue
                if generation.print_alignment == "hard":
                    hypothesis.alignment = hard_alignment(hypothesis.attention, source, hypothesis.tokens, pad, eos)
                elif generation.print_alignment == "soft":
                    hypothesis.soft_alignment = soft_alignment(hypothesis.attention, source, hypothesis.tokens, pad)

    def decode_pieces(self, pieces: str) -> str:
        """Undo subwords and tokenization in a line of output."""
        return self.detokenize(self.remove_bpe(pieces))

    # between text and tokens

    def encode(self, sentence: str) -> Tensor:
        """Text to (S,) int64 source tokens, EOS last."""
        return self._encoded(sentence, self.source_dictionary)

    def decode(self, tokens: Tensor) -> str:
        """(T,) target tokens to text."""
        return self.decode_pieces(self.string(tokens))

    def tokenize(self, sentence: str) -> str:
        """What the tokenizer makes of a sentence; the sentence itself without one."""
        return sentence if self.tokenizer is None else self.tokenizer.encode(sentence)

    def detokenize(self, sentence: str) -> str:
        """Undo `tokenize`."""
        return sentence if self.tokenizer is None else self.tokenizer.decode(sentence)

    def apply_bpe(self, sentence: str) -> str:
        """What the subword encoder makes of a sentence; the sentence itself without one."""
        return sentence if self.bpe is None else self.bpe.encode(sentence)

    def remove_bpe(self, sentence: str) -> str:
        """Undo `apply_bpe`."""
        return sentence if self.bpe is None else self.bpe.decode(sentence)

    def binarize(self, sentence: str) -> Tensor:
        """Symbols joined by spaces to (S,) int64 source tokens, EOS last."""
        return self.source_dictionary.encode_line(sentence, add_if_not_exist=False).long()

    def string(self, tokens: Tensor) -> str:
        """(T,) target tokens to symbols joined by spaces, subwords undone as `common_eval.post_process` says."""
        return self.target_dictionary.string(tokens, self.config.common_eval.post_process)

    def _pieces(self, sentence: str) -> str:
        return self.apply_bpe(self.tokenize(sentence))

    def _encoded(self, sentence: str, dictionary: Dictionary) -> Tensor:
        return dictionary.encode_line(self._pieces(sentence), add_if_not_exist=False).long()

    def _line(self, line: str, generation: GenerationConfig) -> _Line:
        """Encode a line, and what stands behind its tabs where there are constraints."""
        phrases: list[str] = []
        if generation.constraints is not None:
            line, *phrases = line.split("\t")
        tokens = self.encode(line)
        constraints = [self._encoded(phrase, self.target_dictionary)[:-1] for phrase in phrases if phrase.strip()]
        error = None
        limit = self._longest_source()
        if limit is not None and tokens.numel() > limit:
            error = f"{tokens.numel()} tokens, more than the {limit} that can be decoded"
        unknown = [
            phrase
            for phrase, row in zip((phrase for phrase in phrases if phrase.strip()), constraints, strict=True)
            if bool(row.eq(self.target_dictionary.unk()).any())
        ]
        if error is None and unknown:
            error = f"the constraint {unknown[0]!r} has words that the target dictionary lacks, so it cannot be met"
        return _Line(tokens, constraints, error)

    def _moved(self, sample: Any) -> Any:
        return move_to_device(sample, self.device)

    def _longest_source(self) -> int | None:
        sides = self.max_positions
        own = sides[0] if isinstance(sides, Sequence) else sides
        limits = [limit for limit in (own, self.config.dataset.max_tokens) if limit is not None]
        return min(limits, default=None)

    def _dataset(self, rows: Sequence[Tensor], constraints: Sequence[Tensor] | None = None) -> SequenceDataset:
        if not isinstance(self.task, _TakesTokens):
            raise ConfigError(f"task={self.task.config._name} cannot decode sentences that are not in a data set")
        return self.task.build_dataset_for_inference(list(rows), [row.numel() for row in rows], constraints)

    def _options(self, options: Mapping[str, Any]) -> _Options:
        given = dict(options)
        seed = given.pop("seed", self.config.common.seed)
        allowed_tokens = given.pop("prefix_allowed_tokens_fn", None)
        generation = self.config.generation
        if given:
            generation = build_config(GenerationConfig, to_dict(generation) | given, "generation")
        if generation.quantize != self.config.generation.quantize:
            raise ConfigError(
                f"generation.quantize={generation.quantize}: models are quantised when they are loaded, not for one "
                f'call; give it to from_pretrained (quantize="{generation.quantize}")'
            )
        return _Options(copy.copy(generation), seed, allowed_tokens)

    def _search(self, options: _Options) -> _Search:
        """The generator and the formatter for these options; those made last are used again."""
        if self._last_search is None or self._last_search.options != options:
            self._last_search = self._new_search(options)
        return self._last_search

    def _new_search(self, options: _Options) -> _Search:
        generation = options.generation
        formatter = HypothesisFormatter(
            self.task.source_dictionary,
            self.target_dictionary,
            generation,
            self.config.common_eval,
            bpe=self.bpe,
            tokenizer=self.tokenizer,
        )
        generator = build_generator(
            self.models,
            self.target_dictionary,
            generation,
            seed=options.seed,
            language_model=None if generation.lm_path is None else self._language_model(generation.lm_path),
            allowed_tokens=options.allowed_tokens,
            text_of=formatter.text_of,
            compiled=self._compiled_steps() if generation.compile else None,
        )
        return _Search(options, generator, formatter)

    def _compiled_steps(self) -> CompiledSteps:
        """What `generation.compile` makes; all searches share it."""
        if self._compiled is None:
            self._compiled = CompiledSteps(self.device)
        return self._compiled

    def _prepare(self, models: Sequence[Model], device: torch.device) -> None:
        prepare_for_use(models, device, self.config.common, self.config.generation.quantize)

    def _language_model(self, path: str) -> LanguageModel:
        """What `generation.lm_path` names; opened once."""
        if path not in self._language_models:
            data = to_dict(self.task.config).get("data")
            trust = self.config.checkpoint.trust_pickle
            model = load_language_model(path, data, self.target_dictionary, trust_pickle=trust)
            self._prepare([model], self.device)
            self._language_models[path] = model
        return self._language_models[path]


def _why_nothing(generation: GenerationConfig) -> str:
    if generation.constraints is not None:
        return (
            "no output contains all constraints within the maximum length (generation.max_len_a, max_len_b) and the "
            f"beam of {generation.beam}; raise them, or give fewer constraints"
        )
    return "no output is possible within the maximum length under the given bounds and prefixes"


def _given(overrides: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Overrides by section, and those by a bare name that no section has (they are the model's or the task's)."""
    given: dict[str, Any] = {}
    for name, value in overrides.items():
        if name in SECTIONS or name in COMPONENTS:
            given[name] = {"_name": value} if isinstance(value, str) else dict(value)
    loose: dict[str, Any] = {}
    for name, value in overrides.items():
        if name in given:
            continue
        homes = [section for section in _SECTIONS_OF_FLAT_OPTIONS if name in options_of(SECTIONS[section])]
        for kind in ("bpe", "tokenizer"):
            component = given.get(kind, {}).get("_name")
            if component is not None and name in options_of(registry(kind).get(component).config):
                homes.append(kind)
        for home in homes:
            given.setdefault(home, {})[name] = value
        if not homes:
            loose[name] = value
    return given, loose


def _add_files_beside(folder: Path, bpe: dict[str, Any]) -> None:
    """Fill in a subword encoder's files that lie beside the model under a usual name."""
    options = options_of(registry("bpe").get(str(bpe["_name"])).config)
    for option, names in _FILES_BESIDE_MODELS.items():
        found = [folder / name for name in names if (folder / name).is_file()]
        if option in options and option not in bpe and found:
            bpe[option] = str(found[0])


def _original_text(dataset: SequenceDataset | None, number: int) -> tuple[str | None, str | None]:
    """Source and target as they stand in the data, where the data is text."""
    if not isinstance(dataset, LanguagePairDataset):
        return None, None
    sides = (dataset.src, dataset.tgt)
    source, target = (side.get_original_text(number) if isinstance(side, RawTextDataset) else None for side in sides)
    return source, target
