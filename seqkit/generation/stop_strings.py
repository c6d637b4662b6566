"""Strings at which an output ends: where they stand in a text, and the search's end at them.

Knows nothing of models, or of how tokens become text. Axes: B sentences, K hypotheses of each, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from seqkit.config.sections import GenerationConfig
from seqkit.generation.step_processors import Step, StepProcessor

TextOf = Callable[[Tensor], str]
"""The text of (T,) tokens."""


def stop_strings_of(config: GenerationConfig) -> list[str]:
    r"""The strings of `generation.stop_strings`; \n and \t written out stand for a line end and a tab."""
    return [string.replace("\\n", "\n").replace("\\t", "\t") for string in config.stop_strings or ()]


def cut_at_stop(text: str, strings: Sequence[str], start: int = 0) -> str:
    """`text` up to the first of `strings` that begins at `start` or behind it; all of it where there is none."""
    places = [place for string in strings if (place := text.find(string, start)) >= 0]
    return text[: min(places)] if places else text


class StopAtStrings(StepProcessor):
    """A hypothesis whose text has one of some strings ends with the next token, at no cost (log-probability 0).

    What a prefix gave does not count.

    Args:
        strings: none of them empty.
        text_of: gives the text of a hypothesis, its beginning symbol left out.
    """

    def __init__(self, strings: Sequence[str], text_of: TextOf) -> None:
        self.strings = list(strings)
        self.text_of = text_of

    def __call__(self, log_probs_BKV: Tensor, step: Step) -> None:
        given_B = [0] * step.tokens.size(0) if step.given is None else step.given.tolist()
        for sentence, (given, rows) in enumerate(zip(given_B, step.tokens.cpu(), strict=True)):
            if step.number <= given:
                continue
            start = len(self.text_of(rows[0, 1 : given + 1])) if given else 0
            for hypothesis, tokens in enumerate(rows[:, 1:]):
                if bool(tokens[given:].eq(step.end).any()):
                    continue  # the empty place of a hypothesis that has ended
                text = self.text_of(tokens)
                if cut_at_stop(text, self.strings, start) != text:
                    log_probs_BKV[sentence, hypothesis] = float("-inf")
                    log_probs_BKV[sentence, hypothesis, step.end] = 0.0
