"""Adaptive softmax: frequent words are scored directly, rare words by way of their cluster (Grave et al., 2017).

    p(w) = p(w | head)                                for the words of the first cluster
    p(w) = p(cluster of w | head) · p(w | cluster)    for all others

Words are sorted by frequency. Knows nothing of models, losses or padding.
Axes: … any leading axes, N positions, C channels, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqkit.modules.adaptive_input import AdaptiveInput, check_cutoffs
from seqkit.modules.dropout import Dropout
from seqkit.modules.linear import TiedLinear, linear_of_any_size


class ClusterScores(NamedTuple):
    """What one cluster has to say of a batch's targets.

    Attributes:
        rows: (M,) positions, of the N, whose target is in the cluster; None for the head, which scores all.
        logits: (M, words of the cluster); of the head, (N, its words and one for each other cluster).
        target: (M,) the target's index among them.
    """

    rows: Tensor | None
    logits: Tensor
    target: Tensor


class _TiedHead(nn.Module):
    """The head on the vectors of the input's first band, with weights of its own for the other clusters."""

    def __init__(self, vectors: Tensor, input_dim: int, clusters: int) -> None:
        super().__init__()
        width = vectors.size(1)
        self.word_proj: nn.Module = TiedLinear(vectors)
        if input_dim != width:
            self.word_proj = nn.Sequential(nn.Linear(input_dim, width, bias=False), self.word_proj)
        self.class_proj = nn.Linear(input_dim, clusters, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.word_proj(x), self.class_proj(x)), dim=-1)


class AdaptiveSoftmax(nn.Module):
    """A distribution over V words in clusters, of which cluster i is computed at width `input_dim // factor**i`.

    Args:
        vocab_size: V.
        input_dim: C.
        cutoff: where clusters end; V is added where it is missing.
        dropout: on features, and between the two maps of each cluster.
        factor: what each cluster is narrower by than the one before.
        adaptive_inputs: share the vectors of these input embeddings, which have the same cutoffs and factor.
        tie_proj: share their maps between the widths too.

    Raises:
        ValueError: cutoffs that do not rise or lie outside the vocabulary.
    """

    def __init__(
        self,
        vocab_size: int,
        input_dim: int,
        cutoff: Sequence[int],
        *,
        dropout: float = 0.0,
        factor: float = 4.0,
        adaptive_inputs: AdaptiveInput | None = None,
        tie_proj: bool = False,
    ) -> None:
        super().__init__()
        self.cutoff = check_cutoffs(cutoff, vocab_size)
        self.vocab_size = vocab_size
        self.input_dim = input_dim
        self.dropout_module = Dropout(dropout)
        tails = len(self.cutoff) - 1
        self.head: nn.Module
        if adaptive_inputs is None:
            self.head = nn.Linear(input_dim, self.cutoff[0] + tails, bias=False)
        else:
            self.head = _TiedHead(adaptive_inputs.weights_for_band(0)[0], input_dim, tails)
        self.tail = nn.ModuleList()
        for place in range(tails):
            words = self.cutoff[place + 1] - self.cutoff[place]
            width = int(input_dim // factor ** (place + 1))
            projection: nn.Module
            output: nn.Module
            if adaptive_inputs is None:
                projection = linear_of_any_size(input_dim, width, bias=False)
                output = linear_of_any_size(width, words, bias=False)
            else:
                vectors, upward = adaptive_inputs.weights_for_band(place + 1)
                projection = (
                    TiedLinear(upward, transpose=True)
                    if tie_proj
                    else linear_of_any_size(upward.size(0), upward.size(1), bias=False)
                )
                output = TiedLinear(vectors)
            self.tail.append(nn.Sequential(projection, Dropout(dropout), output))
        for module in self.modules():
            if isinstance(module, nn.Linear) and module.weight.numel():
                nn.init.xavier_uniform_(module.weight)

    def clusters(self, features: Tensor, target: Tensor) -> list[ClusterScores]:
        """Logits of the head, and of each other cluster at the positions whose target lies in it.

        The loss of a position is the sum of the cross-entropies of the clusters that score it.

        Args:
            features: (N, C).
            target: (N,) indices below V.
        """
        features = self.dropout_module(features)
        head_target = target.clone()
        tails: list[ClusterScores] = []
        for place, tail in enumerate(self.tail):
            start, end = self.cutoff[place], self.cutoff[place + 1]
            inside = (target >= start) & (target < end)
            head_target.masked_fill_(inside, self.cutoff[0] + place)
            # A cluster without a word in this batch is run all the same, so that its weights get a gradient.
            rows = inside.nonzero().squeeze(1)
            tails.append(
                ClusterScores(rows, tail(features.index_select(0, rows)), target.index_select(0, rows) - start)
            )
        return [ClusterScores(None, self.head(features), head_target), *tails]

    def log_prob(self, features: Tensor) -> Tensor:
        """Log-probabilities (…, V) of all words, float32, from features (…, C)."""
        features = self.dropout_module(features)
        head = _log_softmax(self.head(features))
        first = self.cutoff[0]
        parts = [head[..., :first]]
        for place, tail in enumerate(self.tail):
            parts.append(_log_softmax(tail(features)) + head[..., first + place, None])
        return torch.cat(parts, dim=-1)

    def target_log_prob(self, features: Tensor, target: Tensor) -> Tensor:
        """Log-probabilities (…), float32, of the words `target` (…) alone; clusters are computed where needed."""
        flat = target.reshape(-1)
        head, *tails = self.clusters(features.reshape(-1, features.size(-1)), flat)
        result = _of_target(head)
        for tail in tails:
            assert tail.rows is not None
            result = result.index_add(0, tail.rows, _of_target(tail))
        return result.view(target.shape)


def _log_softmax(logits: Tensor) -> Tensor:
    return F.log_softmax(logits, dim=-1, dtype=torch.float64 if logits.dtype == torch.float64 else torch.float32)


def _of_target(scores: ClusterScores) -> Tensor:
    return _log_softmax(scores.logits).gather(1, scores.target.unsqueeze(1)).squeeze(1)
