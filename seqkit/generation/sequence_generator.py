"""The search for output sequences: one loop for every model and every search strategy.

Knows nothing of what a model is made of (`ensemble`), of how candidates are chosen (`search/`), of what bounds or bans
tokens (`step_processors`), or of text.
Axes: B sentences still decoded, K hypotheses of each (the beam), N = B·K decoder rows, C candidates, T tokens so far,
P prefix length, S source length, V vocabulary, L longest output with its end.
"""

from __future__ import annotations

import math
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
        with self.ensemble.evaluating():
            begin = self.end if begin is None else begin
            found = self._generate(sample, prefix_tokens, begin)
            if self.ensemble.need_attention and self.ensemble.aligns_afterwards:
                self._align_afterwards(found, sample["net_input"], begin)
        return found

    @torch.no_grad()
    def rehearse(self, sample: Any) -> None:
        """Take one step with the first sentence of a batch: what models make when it is first needed is there then.

        Layouts of weights among it; processes that are forked afterwards share them.
        """
        net_input = sample["net_input"]
        device = net_input["src_lengths"].device
        with self.ensemble.evaluating():
            for count in (1, 2):  # one row alone is often multiplied in another way
                rows = torch.zeros(count, dtype=torch.int64, device=device)
                same = {name: value[rows] if isinstance(value, Tensor) else value for name, value in net_input.items()}
                self.ensemble.start(same, beam=1, max_length=1).step(torch.full((count, 1), self.end, device=device))
            if self.ensemble.compiled is not None:
                self._compile(net_input, min(2, int(net_input["src_lengths"].numel())))

    def _compile(self, net_input: dict[str, Any], sentences: int) -> None:
        """Take the first two steps with a batch of one sentence or two: the second is compiled."""
        some = {name: value[:sentences] if isinstance(value, Tensor) else value for name, value in net_input.items()}
        decoding = self.ensemble.start(some, beam=self.beam, max_length=2)
        tokens = torch.full((sentences * self.beam, 2), self.end, device=net_input["src_lengths"].device)
        for length in (1, 2):
            decoding.step(tokens[:, :length])

    def _generate(self, sample: Any, prefix_tokens: Tensor | None, begin: int) -> list[list[Hypothesis]]:
        net_input = sample["net_input"]
        lengths_B = net_input["src_lengths"]
        limits = self.lengths.limits(
            lengths_B.tolist(), int(net_input["src_tokens"].size(1)), self.ensemble.max_decoder_positions() - 1
        )
        beams = Beams.first(len(limits), self.beam, begin, lengths_B.device)
        finished = Finished(limits, self.beam, lengths_B.device)
        if prefix_tokens is not None:
            prefix_tokens = prefix_tokens.to(lengths_B.device)
        ids_B = sample.get("id", torch.arange(len(limits))).to(lengths_B.device)
        on_cpu = lengths_B.device.type == "cpu"
        limits_B = finished.limits_B

        decoding = self.ensemble.start(net_input, beam=self.beam, max_length=max(limits) + 1)
        self.search.start(sample)
        for number in range(max(limits) + 1):
            output = decoding.step(beams.tokens.flatten(0, 1))
            beams = beams.attending(output.attention)
            log_probs_BKV = output.log_probs.view(beams.sentences.numel(), -1, output.log_probs.size(1))
            step = self._step(beams, limits_B, finished.smallest_limit, ids_B, prefix_tokens)
            for processor in self.processors:
                processor(log_probs_BKV, step)
            candidates = self.search.step(number, log_probs_BKV, beams.scores(), self.end)

            ended_BK, chosen_BK, going_on = self.search.part(candidates, self.end)
            if ended_BK is not None and (not on_cpu or bool(ended_BK.any())):
                scores, tokens, continued = (part[:, : self.beam] for part in candidates)
                ending = beams.followed_by(scores, tokens, beams.rows(continued))
                finished.add(ending, ended_BK, self._rank(ending))

            if self._may_lose_sentences(number, ended_BK, going_on, finished):
                staying_B = finished.wanting(beams.sentences, number) & going_on.scores.ne(_NONE).any(dim=1)
                staying = staying_B.nonzero().squeeze(1)
                if staying.numel() == 0:
                    break
                if staying.numel() < (1 - _MOST_IDLE) * staying_B.numel():
                    decoding.select_sentences(staying)
                    beams, limits_B = beams.select(staying), limits_B[staying]
                    chosen_BK, going_on = chosen_BK[staying], Candidates(*(part[staying] for part in going_on))
                    self.search.select(staying)
            self.search.advance(chosen_BK)
            rows = beams.rows(going_on.beams)
            if rows is not None:
                decoding.reorder(rows)
            beams = beams.followed_by(going_on.scores, going_on.tokens, rows)

        found = finished.hypotheses()
        if any(math.isnan(hypothesis.score) for hypotheses in found for hypothesis in hypotheses):
            raise SeqkitError("the model gave NaN while decoding: its weights cannot be used at this precision")
        return found

    def _may_lose_sentences(
        self, number: int, ended_BK: Tensor | None, going_on: Candidates, finished: Finished
    ) -> bool:
        """Whether it is time to look which sentences go on: on a CPU whenever one may have been finished or lost."""
        if going_on.scores.device.type != "cpu":
            return number % _LOOK_EVERY_ON_GPU == 0 or number == finished.longest_limit
        if ended_BK is not None or number >= finished.smallest_limit:
            return True
        return going_on.scores.min().item() == _NONE

    def _align_afterwards(self, found: list[list[Hypothesis]], net_input: dict[str, Any], begin: int) -> None:
        """Give each hypothesis the attention of a pass in which every token sees the whole hypothesis."""
        flat = [(sentence, hypothesis) for sentence, hypotheses in enumerate(found) for hypothesis in hypotheses]
        if not flat:
            return
        device = net_input["src_tokens"].device
        sentences = torch.tensor([sentence for sentence, _ in flat], device=device)
        rows = {name: value[sentences] for name, value in net_input.items() if name != "prev_output_tokens"}
        longest = max(hypothesis.tokens.numel() for _, hypothesis in flat)
        rows["prev_output_tokens"] = torch.full((len(flat), longest), self.pad)
        rows["prev_output_tokens"][:, 0] = begin
        for row, (_, hypothesis) in enumerate(flat):
            rows["prev_output_tokens"][row, 1 : hypothesis.tokens.numel()] = hypothesis.tokens[:-1]
        rows["prev_output_tokens"] = rows["prev_output_tokens"].to(device)
        attention = self.ensemble.attention_of(rows).cpu()
        for row, (_, hypothesis) in enumerate(flat):
            hypothesis.attention = attention[row, : hypothesis.tokens.numel()]

    def _step(
        self, beams: Beams, limits_B: Tensor, smallest_limit: int, ids_B: Tensor, prefix_tokens: Tensor | None
    ) -> Step:
        number = beams.length
        prefix_B: Tensor | None = None
        given_B = None if prefix_tokens is None else prefix_tokens[beams.sentences].ne(self.pad).sum(1)
        if prefix_tokens is not None and number < prefix_tokens.size(1):
            prefix_B = prefix_tokens[beams.sentences, number].masked_fill(limits_B.le(number), self.pad)
        return Step(
            number=number,
            sentences=beams.sentences,
            batch_ids=ids_B,
            tokens=beams.distinct(beams.tokens),
            limits=limits_B,
            smallest_limit=smallest_limit,
            prefix=prefix_B,
            pad=self.pad,
            unk=self.unk,
            end=self.end,
            given=given_B,
        )

    def _rank(self, ending: Beams) -> Tensor:
        """(B, K) what ended hypotheses are compared by."""
        scores_BK = ending.scores()
        return scores_BK / ending.length**self.length_penalty if self.normalize else scores_BK
