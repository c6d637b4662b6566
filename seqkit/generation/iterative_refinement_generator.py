"""Decoding by refinement: whole outputs are written at once and corrected until they stay as they are.

Mask-predict (Ghazvininejad et al., 2019), the Levenshtein Transformer (Gu et al., 2019) and their kin are models; this
is what they share. Knows nothing of how a model refines, or of text.
Axes: B sentences, K lengths tried for each, N outputs still refined, T their padded length, S source length.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seqkit.data.dictionary import Dictionary
from seqkit.errors import ConfigError
from seqkit.generation.dropout import evaluating
from seqkit.generation.hypothesis import Hypothesis
from seqkit.models.base import EncoderDecoderModel, EncoderOutput, IterativeModel, RefinedOutput


class IterativeRefinementGenerator:
    """Refines the outputs of a batch; each leaves it when a refinement changes nothing.

    Its score is the mean log-probability of its tokens (or what the reranker gives it). `Hypothesis.steps` is the
    number of refinements, and `Hypothesis.history` the stages on the way.

    Args:
        model: what refines.
        dictionary: of the target; gives the special symbols.
        max_iter: most refinements after the first pass.
        eos_penalty: see `IterativeModel.refine`.
        max_ratio: see `IterativeModel.refine`.
        length_beam: K, lengths tried for each sentence; the output with the best score is taken.
        stop_early: stop where nothing changes; False always takes all refinements.
        retain_history: keep the stages on the way.
        reranker: a model that writes token by token; its mean log-probability chooses among the lengths instead.
        decoding_format: see `IterativeModel.refine`.
        retain_dropout, retain_dropout_modules: see `seqkit.generation.dropout.evaluating`.
    """

    def __init__(
        self,
        model: IterativeModel,
        dictionary: Dictionary,
        *,
        max_iter: int = 10,
        eos_penalty: float = 0.0,
        max_ratio: float = 2.0,
        length_beam: int = 1,
        stop_early: bool = True,
        retain_history: bool = False,
        reranker: EncoderDecoderModel | None = None,
        decoding_format: str | None = None,
        retain_dropout: bool = False,
        retain_dropout_modules: Collection[str] | None = None,
    ) -> None:
        self.model = model
        self.max_iter = max_iter
        self.eos_penalty = eos_penalty
        self.max_ratio = max_ratio
        self.length_beam = length_beam
        self.stop_early = stop_early
        self.retain_history = retain_history
        self.reranker = reranker
        self.decoding_format = decoding_format
        self.retain_dropout = retain_dropout
        self.retain_dropout_modules = retain_dropout_modules
        self.beam = 1
        self.pad = dictionary.pad()
        self.end = dictionary.eos()

    @torch.no_grad()
    def generate(
        self, sample: Any, *, prefix_tokens: Tensor | None = None, begin: int | None = None
    ) -> list[list[Hypothesis]]:
        """One hypothesis for each sentence.

        Args:
            sample: the batch; only its `net_input` is read.
            prefix_tokens, begin: refused, since refinement has no first token.

        Raises:
            ConfigError: a prefix or a beginning symbol is given.
        """
        if prefix_tokens is not None or begin is not None:
            raise ConfigError("models that refine whole outputs take no prefix and no beginning symbol")
        models = [self.model] if self.reranker is None else [self.model, self.reranker]
        with evaluating(models, retain_dropout=self.retain_dropout, retain_in=self.retain_dropout_modules):
            sources = {name: value for name, value in sample["net_input"].items() if name != "prev_output_tokens"}
            found = self._refined(sources)
            if self.reranker is not None:
                self._rerank(self.reranker, found, sources)
        beam = self.length_beam
        return [
            [max(found[start : start + beam], key=lambda hypothesis: hypothesis.score)]
            for start in range(0, len(found), beam)
        ]

    def _refined(self, sources: dict[str, Any]) -> list[Hypothesis]:
        """The finished outputs, those of a sentence's lengths one after the other."""
        model = self.model
        encoder_out: EncoderOutput = model.encoder(**sources)
        output = model.first_output(encoder_out, sources["src_tokens"])
        if self.length_beam > 1:
            rows = torch.arange(output.tokens.size(0), device=output.tokens.device)
            encoder_out = encoder_out.select(rows.repeat_interleave(self.length_beam))
            output = model.try_lengths(output, self.length_beam)
        if self.retain_history:
            output = replace(output, history=[output.tokens])
        found: dict[int, Hypothesis] = {}
        numbers = torch.arange(output.tokens.size(0))
        for step in range(self.max_iter + 1):
            before = output.tokens
            output = model.refine(
                replace(output, step=step, max_step=self.max_iter + 1),
                encoder_out,
                eos_penalty=self.eos_penalty,
                max_ratio=self.max_ratio,
                decoding_format=self.decoding_format,
            )
            done = torch.zeros(numbers.numel(), dtype=torch.bool)
            if step == self.max_iter:
                done.fill_(True)
            elif self.stop_early:
                done = self._unchanged(before, output.tokens).cpu()
            for row in done.nonzero()[:, 0].tolist():
                found[int(numbers[row])] = self._hypothesis(output, row, step)
            if bool(done.all()):
                break
            if bool(done.any()):
                staying = (~done).nonzero()[:, 0]
                numbers = numbers[staying]
                staying = staying.to(output.tokens.device)
                output = _rows(output, staying)
                encoder_out = encoder_out.select(staying)
        return [found[number] for number in range(len(found))]

    def _unchanged(self, before: Tensor, after: Tensor) -> Tensor:
        """(N,) True where two stages differ in padding at most."""
        width = max(before.size(1), after.size(1))
        before, after = (F.pad(tokens, (0, width - tokens.size(1)), value=self.pad) for tokens in (before, after))
        return before.eq(after).all(dim=1)

    def _hypothesis(self, output: RefinedOutput, row: int, step: int) -> Hypothesis:
        kept = output.tokens[row].ne(self.pad)
        scores = output.scores[row][kept].float().cpu()
        attention = output.attention
        history = None
        if output.history is not None:
            history = [stage[row][stage[row].ne(self.pad)].cpu() for stage in output.history]
        return Hypothesis(
            tokens=output.tokens[row][kept].cpu(),
            score=float(scores.mean()),
            positional_scores=scores,
            attention=None if attention is None else attention[row][kept].float().cpu(),
            steps=step,
            history=history,
        )

    def _rerank(self, reranker: EncoderDecoderModel, found: list[Hypothesis], sources: dict[str, Any]) -> None:
        """Put the reranker's mean log-probability of the tokens behind the first in the place of the scores."""
        longest = max(hypothesis.tokens.numel() for hypothesis in found)
        tokens_NT = torch.full((len(found), longest), self.pad)
        for row, hypothesis in enumerate(found):
            tokens_NT[row, : hypothesis.tokens.numel()] = hypothesis.tokens
        tokens_NT[:, 0] = self.end
        tokens_NT = tokens_NT.to(sources["src_tokens"].device)
        output = reranker.decoder(tokens_NT[:, :-1], reranker.encoder(**sources))
        scores_NT = reranker.target_log_probs(output.logits, tokens_NT[:, 1:])
        counted_NT = tokens_NT[:, 1:].ne(self.pad)
        means_N = scores_NT.masked_fill(~counted_NT, 0.0).sum(dim=1) / counted_NT.sum(dim=1)
        for hypothesis, score in zip(found, means_N.tolist(), strict=True):
            hypothesis.score = score


def _rows(output: RefinedOutput, index: Tensor) -> RefinedOutput:
    """The outputs `index` (N',)."""
    return replace(
        output,
        tokens=output.tokens[index],
        scores=output.scores[index],
        attention=None if output.attention is None else output.attention[index],
        history=None if output.history is None else [stage[index] for stage in output.history],
    )
