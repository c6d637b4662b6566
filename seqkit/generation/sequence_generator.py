"""The search for output sequences: one loop for every model and every search strategy.

Knows nothing of what a model is made of (`ensemble`), of how candidates are chosen (`search/`), of what bounds or bans
tokens (`step_processors`), or of text.
Axes: B sentences still decoded, K hypotheses of each (the beam), N = B·K decoder rows, C candidates, T tokens so far,
P prefix length, S source length, V vocabulary, L longest output with its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqkit.data.dictionary import Dictionary
from seqkit.errors import SeqkitError
from seqkit.generation.beams import Beams, Finished
from seqkit.generation.ensemble import Ensemble
from seqkit.generation.hypothesis import Hypothesis
from seqkit.generation.search.base import Candidates, SearchStrategy
from seqkit.generation.step_processors import Step, StepProcessor

_NONE = float("-inf")
_LOOK_EVERY_ON_GPU = 4
"""Steps between looks at which sentences are finished; at each the host waits for the device."""
_MOST_IDLE = 1 / 8
"""Share of finished sentences that is carried along rather than moving all others together."""


@dataclass(frozen=True)
class LengthRule:
    """How long an output may become.

    Attributes:
        max_len_a, max_len_b: at most int(a·S + b) tokens before the end symbol, S being the source's tokens with EOS.
        match_source_len: S tokens instead; with `LengthBounds(exact=True)` neither more nor fewer.
        per_batch: for a·S + b, S is the padded width of the batch (fairseq's rule: results then depend on the batch)
            rather than the sentence's own length.
    """

    max_len_a: float = 0.0
    max_len_b: int = 200
    match_source_len: bool = False
    per_batch: bool = False

    def limits(self, own: list[int], padded: int, most: int) -> list[int]:
        """The most tokens of each sentence.

        Args:
            own: each source's own length.
            padded: width of the batch.
            most: no sentence may have more.
        """
        if self.match_source_len:
            wanted = own
        else:
            lengths = [padded] * len(own) if self.per_batch else own
            wanted = [int(self.max_len_a * length + self.max_len_b) for length in lengths]
        return [min(length, most) for length in wanted]


class SequenceGenerator:
    """Finds the best hypotheses of every sentence in a batch.

    A hypothesis ends when its end symbol is among the first `beam` candidates; a sentence is finished when `beam`
    hypotheses have ended, or at its maximum length, and then leaves the batch. Hypotheses are ranked by
    score / length**length_penalty, the end symbol counted. Results do not depend on the other sentences of the batch.

    Args:
        ensemble: one or more models.
        dictionary: of the target; gives the special symbols.
        search: strategy that chooses candidates.
        processors: applied to the log-probabilities in this order, at every step.
        lengths: how long outputs may become.
        normalize: divide scores by length**length_penalty.
        length_penalty: above 1 favours longer, below 1 shorter hypotheses.
        end: symbol that ends a hypothesis; by default the dictionary's EOS.
        retain_dropout: leave the models' training mode as it is instead of switching it off.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        dictionary: Dictionary,
        *,
        search: SearchStrategy,
        processors: Sequence[StepProcessor] = (),
        lengths: LengthRule | None = None,
        normalize: bool = True,
        length_penalty: float = 1.0,
        end: int | None = None,
        retain_dropout: bool = False,
    ) -> None:
        self.ensemble = ensemble
        self.search = search
        self.beam = search.beam
        self.processors = list(processors)
        self.lengths = lengths or LengthRule()
        self.normalize = normalize
        self.length_penalty = length_penalty
        self.pad = dictionary.pad()
        self.unk = dictionary.unk()
        self.end = dictionary.eos() if end is None else end
        self.retain_dropout = retain_dropout

    @torch.no_grad()
    def generate(
        self, sample: Any, *, prefix_tokens: Tensor | None = None, begin: int | None = None
    ) -> list[list[Hypothesis]]:
        """Hypotheses for each sentence of a batch, best first; at most `beam`.

        Args:
            sample: the batch; only its `net_input` is read.
            prefix_tokens: (B, P) int64 tokens that outputs begin with, padded on the right with the pad index.
            begin: the symbol put before each output; by default the end symbol.

        Raises:
            SeqkitError: a model gave NaN.
        """
        begin = self.end if begin is None else begin
        if self.retain_dropout:
            return self._generate(sample["net_input"], prefix_tokens, begin)
        with self.ensemble.evaluating():
            return self._generate(sample["net_input"], prefix_tokens, begin)

    def _generate(self, net_input: dict[str, Any], prefix_tokens: Tensor | None, begin: int) -> list[list[Hypothesis]]:
        lengths_B = net_input["src_lengths"]
        limits = self.lengths.limits(
            lengths_B.tolist(), int(net_input["src_tokens"].size(1)), self.ensemble.max_decoder_positions() - 1
        )
        beams = Beams.first(len(limits), self.beam, begin, lengths_B.device)
        finished = Finished(limits, self.beam, lengths_B.device)
        if prefix_tokens is not None:
            prefix_tokens = prefix_tokens.to(lengths_B.device)
        on_cpu = lengths_B.device.type == "cpu"
        sound = torch.ones((), dtype=torch.bool, device=lengths_B.device)

        decoding = self.ensemble.start(net_input, beam=self.beam, max_length=max(limits) + 1)
        self.search.start(len(limits))
        for number in range(max(limits) + 1):
            output = decoding.step(beams.tokens.flatten(0, 1))
            beams = beams.attending(output.attention)
            log_probs_BKV = output.log_probs.view(beams.sentences.numel(), -1, output.log_probs.size(1))
            sound &= ~log_probs_BKV[..., self.end].isnan().any()
            step = self._step(beams, finished, prefix_tokens)
            for processor in self.processors:
                processor(log_probs_BKV, step)
            candidates = self.search.step(number, log_probs_BKV, beams.scores(), self.end)

            ended_BK = candidates.tokens[:, : self.beam].eq(self.end) & candidates.scores[:, : self.beam].ne(_NONE)
            if not on_cpu or bool(ended_BK.any()):
                ending = beams.followed_by(*(part[:, : self.beam] for part in candidates))
                finished.add(ending, ended_BK, self._rank(ending))

            chosen_BK, going_on = self._going_on(candidates)
            staying: Tensor | None = None
            if on_cpu or number % _LOOK_EVERY_ON_GPU == 0 or number == max(limits):
                staying_B = finished.wanting(beams.sentences, number) & going_on.scores.ne(_NONE).any(dim=1)
                staying = staying_B.nonzero().squeeze(1)
                if staying.numel() == 0:
                    break
            if staying is not None and staying.numel() < (1 - _MOST_IDLE) * staying_B.numel():
                decoding.select_sentences(staying)
                beams = beams.select(staying)
                chosen_BK, going_on = chosen_BK[staying], Candidates(*(part[staying] for part in going_on))
                self.search.select(staying)
            self.search.advance(chosen_BK)
            decoding.reorder(beams.rows(going_on.beams))
            beams = beams.followed_by(*going_on)

        if not bool(sound):
            raise SeqkitError("the model gave NaN while decoding: its weights cannot be used at this precision")
        return finished.hypotheses()

    def _step(self, beams: Beams, finished: Finished, prefix_tokens: Tensor | None) -> Step:
        number = beams.length
        limits_B = finished.limits_B[beams.sentences]
        prefix_B: Tensor | None = None
        if prefix_tokens is not None and number < prefix_tokens.size(1):
            prefix_B = prefix_tokens[beams.sentences, number].masked_fill(limits_B.le(number), self.pad)
        return Step(
            number=number,
            sentences=beams.sentences,
            tokens=beams.distinct(beams.tokens),
            limits=limits_B,
            smallest_limit=finished.smallest_limit,
            prefix=prefix_B,
            pad=self.pad,
            unk=self.unk,
            end=self.end,
        )

    def _rank(self, ending: Beams) -> Tensor:
        """(B, K) what ended hypotheses are compared by."""
        scores_BK = ending.scores()
        return scores_BK / ending.length**self.length_penalty if self.normalize else scores_BK

    def _going_on(self, candidates: Candidates) -> tuple[Tensor, Candidates]:
        """The first `beam` candidates that do not end: their positions (B, K) and what they are."""
        is_end_BC = candidates.tokens.eq(self.end)
        positions = torch.arange(is_end_BC.size(1), device=is_end_BC.device)
        chosen_BK = (is_end_BC * is_end_BC.size(1) + positions).topk(self.beam, dim=1, largest=False).indices
        scores_BK = candidates.scores.gather(1, chosen_BK)
        # a strategy may offer too few that go on: those places stay empty
        scores_BK = scores_BK.masked_fill(is_end_BC.gather(1, chosen_BK), _NONE)
        return chosen_BK, Candidates(
            scores_BK, candidates.tokens.gather(1, chosen_BK), candidates.beams.gather(1, chosen_BK)
        )
