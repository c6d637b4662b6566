"""Hypotheses as text: fairseq's S/W/C/T/H/D/P/A/I/E lines, or one JSON object for each sentence.

Knows nothing of models, search, or of where the lines go. All scores shown are base 2.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from seqkit.config.sections import CommonEvalConfig, GenerationConfig
from seqkit.data.dictionary import Dictionary
from seqkit.data.encoders.base import TextEncoder
from seqkit.data.post_process import post_process
from seqkit.generation.alignment import (
    hard_alignment,
    load_replacements,
    most_attended,
    replace_unk,
    soft_alignment,
)
from seqkit.generation.hypothesis import Hypothesis
from seqkit.generation.stop_strings import cut_at_stop, stop_strings_of


@dataclass
class HypothesisText:
    """One hypothesis, ready to be shown.

    Attributes:
        pieces: its symbols joined by spaces, subwords undone only as far as `common_eval.post_process` says.
        text: the same, decoded by the subword encoder and the tokenizer.
        tokens: its symbols, the end symbol included.
        score, token_scores: base 2.
        alignment: (source position, target position) pairs; None unless asked for.
        soft_alignment: for each token its weights on the source tokens; None unless asked for.
        steps: refinements it took; None unless asked for, and where it was not made by refinement.
        history: the symbols of each stage of refinement, joined by spaces; None unless asked for.
    """

    pieces: str
    text: str
    tokens: list[str]
    score: float
    token_scores: list[float]
    alignment: list[tuple[int, int]] | None = None
    soft_alignment: list[list[float]] | None = None
    steps: int | None = None
    history: list[str] | None = None


@dataclass
class SentenceResult:
    """One sentence and its hypotheses, best first.

    Attributes:
        id: its number in the data.
        source: what is shown of the source; None where there is no source text.
        target: the reference as text, unknown words escaped; None where there is none.
        target_pieces: the same before the subword encoder and the tokenizer decoded it.
        hypotheses: at most `nbest`.
        seconds: what the search took for the sentence's batch, divided by the batch's sentences.
        error: why there are no hypotheses.
        constraints: what the output must contain, as it is shown.
    """

    id: int
    source: str | None
    target: str | None
    hypotheses: list[HypothesisText]
    seconds: float = 0.0
    error: str | None = None
    constraints: list[str] = field(default_factory=list)
    target_pieces: str | None = None


class HypothesisFormatter:
    """Turns what a generator returns into text.

    Args:
        source_dictionary: None where the source is no text.
        target_dictionary: of the hypotheses.
        generation: the section `generation`.
        common_eval: the section `common_eval`.
        bpe, tokenizer: decoders applied to all text, in this order.

    Raises:
        DataError: the file of `generation.replace_unk` cannot be read.
    """

    def __init__(
        self,
        source_dictionary: Dictionary | None,
        target_dictionary: Dictionary,
        generation: GenerationConfig,
        common_eval: CommonEvalConfig,
        *,
        bpe: TextEncoder | None = None,
        tokenizer: TextEncoder | None = None,
    ) -> None:
        self.source_dictionary = source_dictionary
        self.target_dictionary = target_dictionary
        self.post_process = common_eval.post_process
        self.nbest = generation.nbest
        self.print_alignment = generation.print_alignment
        self.print_step = generation.print_step
        self.stop_strings = stop_strings_of(generation)
        self.bpe = bpe
        self.tokenizer = tokenizer
        self.end = target_dictionary.index(generation.eos_token or target_dictionary.eos_word)
        self.replacements: Mapping[str, str] | None = None
        if generation.replace_unk is not None:
            self.replacements = load_replacements(generation.replace_unk) if generation.replace_unk else {}

    def decode(self, pieces: str) -> str:
        """Undo subwords and tokenization."""
        for encoder in (self.bpe, self.tokenizer):
            if encoder is not None:
                pieces = encoder.decode(pieces)
        return pieces

    def text_of(self, tokens: Tensor) -> str:
        """The text of (T,) target tokens, unknown words as they are."""
        pieces = self.target_dictionary.string(tokens, extra_symbols_to_ignore=(self.end,))
        return self.decode(post_process(pieces, self.post_process))

    def sentence(
        self,
        number: int,
        source: Tensor | None,
        target: Tensor | None,
        hypotheses: Sequence[Hypothesis],
        *,
        source_text: str | None = None,
        target_text: str | None = None,
    ) -> SentenceResult:
        """The text of one sentence.

        Args:
            number: its id.
            source: (S,) source tokens as the model saw them, padded; None where there are none.
            target: (T,) reference tokens; None where there is none.
            hypotheses: from the generator, best first.
            source_text, target_text: the lines as they stand in the data, where they are known; with `replace_unk`
                unknown words are then copied from them, and they are what is shown.
        """
        shown_source, words = None, source_text
        if source is not None and self.source_dictionary is not None:
            kept = source[source.ne(self.source_dictionary.pad())]
            raw = self.source_dictionary.string(kept)
            words = words or raw
            shown_source = post_process(raw, self.post_process)
        shown_target = None
        if target is not None:
            kept = target[target.ne(self.target_dictionary.pad())]
            shown_target = self.target_dictionary.string(
                kept, self.post_process, escape_unk=True, extra_symbols_to_ignore=(self.end,)
            )
        if self.replacements is not None:
            shown_source = source_text or shown_source
            shown_target = target_text or shown_target
        return SentenceResult(
            number,
            None if shown_source is None else self.decode(shown_source),
            None if shown_target is None else self.decode(shown_target),
            [self._hypothesis(hypothesis, source, words or "") for hypothesis in hypotheses[: self.nbest]],
            target_pieces=shown_target,
        )

    def _hypothesis(self, hypothesis: Hypothesis, source: Tensor | None, source_words: str) -> HypothesisText:
        dictionary = self.target_dictionary
        pieces = dictionary.string(hypothesis.tokens, extra_symbols_to_ignore=(self.end,))
        alignment, weights = None, None
        if hypothesis.attention is not None and source is not None and self.source_dictionary is not None:
            pad, eos = self.source_dictionary.pad(), self.source_dictionary.eos()
            source = source.cpu()
            if self.replacements is not None:
                positions = most_attended(hypothesis.attention, source, pad)
                pieces = replace_unk(pieces, source_words, positions, self.replacements, dictionary.unk_string())
            if self.print_alignment == "hard":
                alignment = hard_alignment(hypothesis.attention, source, hypothesis.tokens, pad, eos)
            elif self.print_alignment == "soft":
                weights = soft_alignment(hypothesis.attention, source, hypothesis.tokens, pad)
        pieces = post_process(pieces, self.post_process)
        text = self.decode(pieces)
        if self.stop_strings:
            text = cut_at_stop(text, self.stop_strings, len(self.text_of(hypothesis.tokens[: hypothesis.given])))
        return HypothesisText(
            pieces=pieces,
            text=text,
            tokens=[dictionary[token] for token in hypothesis.tokens.tolist()],
            score=_base2(torch.tensor(hypothesis.score)).item(),
            token_scores=_base2(hypothesis.positional_scores).tolist(),
            alignment=alignment,
            soft_alignment=weights,
            steps=hypothesis.steps if self.print_step else None,
            history=None if hypothesis.history is None else [dictionary.string(stage) for stage in hypothesis.history],
        )


def text_lines(result: SentenceResult, *, with_time: bool = False) -> list[str]:
    """fairseq's lines of a sentence, without line ends.

    `S-id source`, `W-id seconds`, `C-id constraint`, `T-id reference`, then for each hypothesis `H-id score pieces`,
    `D-id score text`, `P-id token scores`, `A-id alignment`, `I-id refinements` and `E-id_stage pieces`; columns are
    separated by tabs, and a line end within a text is written out (\\n).

    Args:
        result: the sentence.
        with_time: also the line `W-`.
    """
    number = result.id
    lines = []
    if result.source is not None:
        lines.append(f"S-{number}\t{_one_line(result.source)}")
    if with_time:
        lines.append(f"W-{number}\t{result.seconds:.3f}\tseconds")
    lines += [f"C-{number}\t{constraint}" for constraint in result.constraints]
    if result.target is not None:
        lines.append(f"T-{number}\t{_one_line(result.target)}")
    for hypothesis in result.hypotheses:
        lines.append(f"H-{number}\t{hypothesis.score}\t{hypothesis.pieces}")
        lines.append(f"D-{number}\t{hypothesis.score}\t{_one_line(hypothesis.text)}")
        lines.append(f"P-{number}\t" + " ".join(f"{score:.4f}" for score in hypothesis.token_scores))
        if hypothesis.alignment is not None:
            lines.append(f"A-{number}\t" + " ".join(f"{source}-{target}" for source, target in hypothesis.alignment))
        if hypothesis.soft_alignment is not None:
            rows = (",".join(f"{weight:.6f}" for weight in weights) for weights in hypothesis.soft_alignment)
            lines.append(f"A-{number}\t" + " ".join(rows))
        if hypothesis.steps is not None:
            lines.append(f"I-{number}\t{hypothesis.steps}")
        lines += [f"E-{number}_{stage}\t{pieces}" for stage, pieces in enumerate(hypothesis.history or [])]
    return lines


def _one_line(text: str) -> str:
    return text.replace("\n", "\\n")


def json_line(result: SentenceResult) -> str:
    """A sentence as one line of JSON, without line end.

    `id`, `source`, `target`, `hypotheses` (each `text`, `tokens`, `score`, `token_scores`, `alignment`); scores are
    base 2, and what there is none of is null. Only where there are such: `constraints`, `error` (why there are no
    hypotheses), and a hypothesis's `steps` and `history`.
    """
    content: dict[str, Any] = {"id": result.id, "source": result.source, "target": result.target}
    if result.constraints:
        content["constraints"] = result.constraints
    content["hypotheses"] = [_json_hypothesis(hypothesis) for hypothesis in result.hypotheses]
    if result.error is not None:
        content["error"] = result.error
    return json.dumps(content, ensure_ascii=False)


def _json_hypothesis(hypothesis: HypothesisText) -> dict[str, Any]:
    content: dict[str, Any] = {
        "text": hypothesis.text,
        "tokens": hypothesis.tokens,
        "score": _finite(hypothesis.score),
        "token_scores": [_finite(round(score, 6)) for score in hypothesis.token_scores],
        "alignment": hypothesis.alignment if hypothesis.soft_alignment is None else hypothesis.soft_alignment,
    }
    if hypothesis.steps is not None:
        content["steps"] = hypothesis.steps
    if hypothesis.history is not None:
        content["history"] = hypothesis.history
    return content


def _finite(value: float) -> float | None:
    """JSON has no infinities."""
    return value if math.isfinite(value) else None


def _base2(scores: Tensor) -> Tensor:
    return scores.float() / math.log(2)
