"""What a generator returns for each sentence: hypotheses, best first.

Knows nothing of dictionaries or of how the hypotheses were found.
Axes: T target length, S source length.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Hypothesis:
    """One output sequence. All tensors are on the CPU.

    Attributes:
        tokens: (T,) int64, the end symbol included.
        score: what hypotheses are ranked by: sum of `positional_scores`, divided by T**lenpen where scores are
            normalised; natural logarithms.
        positional_scores: (T,) float32, each token's own log-probability (penalties for unknown words, temperature
            and language model weight included); natural logarithms.
        attention: (T, S) float32 cross-attention over the padded source of the batch, when asked for.
        alignment: (source position, target position) pairs, when asked for.
        soft_alignment: for each target token, its attention to each source token that is not padding, when asked for.
        steps: refinements it took, where it was made by refinement.
        history: (T',) tokens of each stage of refinement, the first included, when asked for.
        given: how many of the tokens it had to begin with.
    """

    tokens: Tensor
    score: float
    positional_scores: Tensor
    attention: Tensor | None = None
    alignment: list[tuple[int, int]] = field(default_factory=list)
    soft_alignment: list[list[float]] = field(default_factory=list)
    steps: int | None = None
    history: list[Tensor] | None = None
    given: int = 0
