"""Words that an output must contain, and how far a hypothesis has got with them.

`packed` rows are what a batch carries; `ConstraintState`s are what lexically constrained beam search (Post and Vilar,
2018; Hu et al., 2019) asks. Knows nothing of scores or of search.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seqkit.errors import DataError

_BOUNDARY = 0


def pack_constraints(constraints: Sequence[Sequence[int]]) -> Tensor:
    """The constraints of one sentence as an int64 row: their number, then each one's tokens and a 0.

    Raises:
        DataError: a constraint is empty.
    """
    row = [len(constraints)]
    for tokens in constraints:
        if not len(tokens):
            raise DataError("a constraint has no words; leave it out")
        row += [*tokens, _BOUNDARY]
    return torch.tensor(row, dtype=torch.int64)


def unpack_constraints(row: Tensor) -> list[list[int]]:
    """What `pack_constraints` packed; the row may be padded with zeros on the right."""
    number, *tokens = row.tolist()
    constraints: list[list[int]] = [[]]
    for token in tokens:
        if len(constraints) > number:
            break
        if token == _BOUNDARY:
            constraints.append([])
        else:
            constraints[-1].append(token)
    return constraints[:number]


class ConstraintState(ABC):
    """How far one hypothesis has got. States are values: `advance` makes a new one."""

    @property
    @abstractmethod
    def generated(self) -> int:
        """Tokens of constraints that the hypothesis has, those of a constraint that is under way among them."""

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether it has all constraints."""

    @abstractmethod
    def next_tokens(self) -> set[int]:
        """Tokens that would bring it further."""

    @abstractmethod
    def advance(self, token: int) -> ConstraintState:
        """The state after one more token."""


@dataclass(frozen=True)
class OrderedConstraints(ConstraintState):
    """Constraints that must come in the order given.

    Whatever interrupts a constraint of several words undoes it, and all before it: the sequence begins anew.

    Attributes:
        tokens: of all constraints, one after the other.
        is_last: for each token, whether a constraint ends with it.
        reached: how many tokens have come.
    """

    tokens: tuple[int, ...]
    is_last: tuple[bool, ...]
    reached: int = 0

    @classmethod
    def of(cls, constraints: Iterable[Sequence[int]]) -> OrderedConstraints:
        """No token of them has come yet."""
        tokens: list[int] = []
        is_last: list[bool] = []
        for constraint in constraints:
            tokens += constraint
            is_last += [False] * (len(constraint) - 1) + [True]
        return cls(tuple(tokens), tuple(is_last))

    @property
    def generated(self) -> int:
        return self.reached

    @property
    def finished(self) -> bool:
        return self.reached == len(self.tokens)

    def next_tokens(self) -> set[int]:
        if self.finished:
            return {self.tokens[0]} if len(self.tokens) > 1 else set()
        following = {self.tokens[self.reached]}
        return following | {self.tokens[0]} if self.reached > 1 else following

    def advance(self, token: int) -> OrderedConstraints:
        if self.finished:
            return self
        if token == self.tokens[self.reached]:
            return self._at(self.reached + 1)
        if self.reached == 0 or self.is_last[self.reached - 1]:
            return self
        return self._at(1 if token == self.tokens[0] else 0)

    def _at(self, reached: int) -> OrderedConstraints:
        return OrderedConstraints(self.tokens, self.is_last, reached)


class _Trie:
    """Constraints that share their beginnings. Node 0 is the root.

    Attributes:
        children: for each node, the node that each token leads to.
        parents: for each node, the node before it.
        ends: for each node, how many constraints end there.
        below: for each node, how many constraints end there or further on.
    """

    def __init__(self, constraints: Iterable[Sequence[int]]) -> None:
        self.children: list[dict[int, int]] = [{}]
        self.parents = [0]
        self.ends = [0]
        self.below = [0]
        for constraint in constraints:
            self._add(constraint)

    def _add(self, constraint: Sequence[int]) -> None:
        node = 0
        self.below[0] += 1
        for token in constraint:
            following = self.children[node].get(token)
            if following is None:
                following = len(self.children)
                self.children[node][token] = following
                self.children.append({})
                self.parents.append(node)
                self.ends.append(0)
                self.below.append(0)
            node = following
            self.below[node] += 1
        self.ends[node] += 1


@dataclass(frozen=True)
class UnorderedConstraints(ConstraintState):
    """Constraints that may come in any order; those that begin alike share a trie (Hu et al., 2019).

    Attributes:
        trie: all constraints.
        node: where in the trie the last token led; 0 where it belongs to no constraint.
        passed: for each node, how often it was passed for good.
        completed: for each node, how many constraints that end there are complete and left behind.
    """

    trie: _Trie
    node: int
    passed: tuple[int, ...]
    completed: tuple[int, ...]

    @classmethod
    def of(cls, constraints: Iterable[Sequence[int]]) -> UnorderedConstraints:
        """No token of them has come yet."""
        trie = _Trie(constraints)
        none = (0,) * len(trie.parents)
        return cls(trie, 0, none, none)

    @property
    def generated(self) -> int:
        return sum(self.passed)

    @property
    def finished(self) -> bool:
        at_an_end = self.completed[self.node] < self.trie.ends[self.node]
        return sum(self.completed) + at_an_end == self.trie.below[0]

    def next_tokens(self) -> set[int]:
        return self.trie.children[0].keys() | self.trie.children[self.node].keys()

    def advance(self, token: int) -> UnorderedConstraints:
        following = self._open(self.node, token)
        passed, completed = list(self.passed), list(self.completed)
        if following is None:
            following = self._open(0, token)
            self._leave(passed, completed)
        if following is None:
            following = 0
        else:
            passed[following] += 1
        return UnorderedConstraints(self.trie, following, tuple(passed), tuple(completed))

    def _open(self, node: int, token: int) -> int | None:
        """The node that a token leads to, unless everything behind it has come already."""
        following = self.trie.children[node].get(token)
        if following is None or self.passed[following] >= self.trie.below[following]:
            return None
        return following

    def _leave(self, passed: list[int], completed: list[int]) -> None:
        """Go back from the present node to the last constraint that is complete; what lies behind that has not come."""
        node = self.node
        while node != 0:
            if completed[node] < self.trie.ends[node]:
                completed[node] += 1
                return
            passed[node] -= 1
            node = self.trie.parents[node]
