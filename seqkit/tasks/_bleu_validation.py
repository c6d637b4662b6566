"""BLEU while training: translate each validation batch, count n-grams, and add the counts up over all of them.

Knows nothing of how the model translates; a generator is made for it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from seqkit.config.sections import GenerationConfig
from seqkit.config.validate import build_config
from seqkit.criterions.base import Logging
from seqkit.data.dictionary import Dictionary
from seqkit.data.encoders.base import TextEncoder, build_tokenizer
from seqkit.errors import ConfigError
from seqkit.generation.build import Generator, build_generator
from seqkit.metrics.aggregator import Aggregator
from seqkit.models.base import Model
from seqkit.registry import registry

logger = logging.getLogger(__name__)

ORDER = 4
_COUNTS = [f"_bleu_counts_{n}" for n in range(ORDER)]
_TOTALS = [f"_bleu_totals_{n}" for n in range(ORDER)]
_LENGTHS = ["_bleu_sys_len", "_bleu_ref_len"]

# The tokenizer of BLEU would split "<unk>" and count its parts as matches; these words match nothing.
_UNKNOWN_IN_HYPOTHESIS = "UNKNOWNTOKENINHYP"
_UNKNOWN_IN_REFERENCE = "UNKNOWNTOKENINREF"


class BleuValidation:
    """Corpus BLEU (Papineni et al., 2002; sacrebleu's) of the best hypotheses against detokenized references.

    Args:
        dictionary: target dictionary.
        generation: options of the section `generation`, as a mapping or as JSON text.
        detokenizer: name of a tokenizer component, which turns tokens into text.
        detokenizer_args: its options, as a mapping or as JSON text.
        remove_bpe: subword segmentation to undo.
        tokenized: compare tokens as they are, without sacrebleu's own tokenization.
        print_samples: log the first hypothesis and reference of each batch.

    Raises:
        ConfigError: options that do not exist or do not fit.
    """

    def __init__(
        self,
        dictionary: Dictionary,
        *,
        generation: Any = None,
        detokenizer: str = "space",
        detokenizer_args: Any = None,
        remove_bpe: str | None = None,
        tokenized: bool = False,
        print_samples: bool = False,
    ) -> None:
        self.dictionary = dictionary
        self.remove_bpe = remove_bpe
        self.tokenized = tokenized
        self.print_samples = print_samples
        self.generation = build_config(
            GenerationConfig, _mapping(generation, "task.eval_bleu_args"), "task.eval_bleu_args"
        )
        self._detokenizer = _detokenizer(detokenizer, detokenizer_args)
        self._generator: Generator | None = None

    def begin(self, model: Model) -> None:
        """Make the generator for a model."""
        self._generator = build_generator([model], self.dictionary, self.generation)

    def measure(self, sample: Any, model: Model) -> dict[str, int]:
        """The n-gram counts and lengths of one batch's best hypotheses, to be summed over batches and ranks."""
        from sacrebleu.metrics.bleu import BLEU

        if self._generator is None:
            self.begin(model)
        assert self._generator is not None
        pad = self.dictionary.pad()
        hypotheses = [
            self._text(best[0].tokens, _UNKNOWN_IN_HYPOTHESIS) if best else ""
            for best in self._generator.generate(sample)
        ]
        references = [self._text(row[row != pad], _UNKNOWN_IN_REFERENCE) for row in sample["target"].cpu()]
        if self.print_samples:
            logger.info("example hypothesis: %s", hypotheses[0])
            logger.info("example reference: %s", references[0])
        metric = BLEU(tokenize="none" if self.tokenized else None, force=True)
        bleu = metric.corpus_score(hypotheses, [references])
        figures = [*bleu.counts, *bleu.totals, bleu.sys_len, bleu.ref_len]
        return dict(zip([*_COUNTS, *_TOTALS, *_LENGTHS], figures, strict=True))

    def _text(self, tokens: Tensor, unknown: str) -> str:
        text = self.dictionary.string(tokens, self.remove_bpe, unk_string=unknown)
        return text if self._detokenizer is None else self._detokenizer.decode(text)


def log_bleu(outputs: Sequence[Logging], log: Aggregator) -> None:
    """Add up what `BleuValidation.measure` counted; BLEU is derived from all counts since the log was reset."""
    sums = {key: sum(output.get(key, 0) for output in outputs) for key in (*_COUNTS, *_TOTALS, *_LENGTHS)}
    if max(sums[key] for key in _TOTALS) <= 0:
        return
    for key, value in sums.items():
        log.log_scalar(key, value)
    log.log_derived("bleu", _bleu)


def _bleu(log: Aggregator) -> float:
    from sacrebleu.metrics.bleu import BLEU

    score = BLEU.compute_bleu(
        correct=[int(log[key].sum) for key in _COUNTS],
        total=[int(log[key].sum) for key in _TOTALS],
        sys_len=int(log["_bleu_sys_len"].sum),
        ref_len=int(log["_bleu_ref_len"].sum),
        smooth_method="exp",
    )
    return round(float(score.score), 2)


def _detokenizer(name: str, options: Any) -> TextEncoder | None:
    config_class = registry("tokenizer").get(name).config
    where = "task.eval_bleu_detok_args"
    config = build_config(config_class, _mapping(options, where), where)
    config._name = name
    return build_tokenizer(config)


def _mapping(options: Any, where: str) -> Mapping[str, Any]:
    """Options given as a mapping, as JSON text, or not at all."""
    if isinstance(options, str):
        try:
            options = json.loads(options or "{}")
        except json.JSONDecodeError as error:
            raise ConfigError(f"{where}={options!r} is not JSON: {error}; write e.g. '{{\"beam\": 4}}'") from None
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise ConfigError(f"{where}={options!r} must be a mapping of options, e.g. '{{\"beam\": 4}}'")
    return options
