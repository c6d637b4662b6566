"""Constraint states, token by token."""

from __future__ import annotations

import pytest
import torch

from seqkit.errors import DataError
from seqkit.generation.constraints import (
    ConstraintState,
    OrderedConstraints,
    UnorderedConstraints,
    pack_constraints,
    unpack_constraints,
)

A, B, C, D, X = 5, 6, 7, 8, 9


def after(state: ConstraintState, *tokens: int) -> ConstraintState:
    for token in tokens:
        state = state.advance(token)
    return state


@pytest.mark.parametrize("constraints", [[], [[5]], [[5, 6, 7], [8], [5, 6]]])
def test_packed_rows_are_unpacked_whatever_their_padding(constraints: list[list[int]]) -> None:
    row = pack_constraints(constraints)
    assert unpack_constraints(row) == constraints
    assert unpack_constraints(torch.cat([row, torch.zeros(4, dtype=torch.int64)])) == constraints


def test_a_packed_row_has_the_number_and_a_zero_behind_each() -> None:
    assert pack_constraints([[3, 1, 2], [3], [4, 5]]).tolist() == [3, 3, 1, 2, 0, 3, 0, 4, 5, 0]
    with pytest.raises(DataError, match="has no words"):
        pack_constraints([[]])


def test_ordered_constraints_advance_word_by_word() -> None:
    state = OrderedConstraints.of([[A, B], [C]])
    assert (state.generated, state.finished, state.next_tokens()) == (0, False, {A})
    state = after(state, X, A)
    assert (state.generated, state.next_tokens()) == (1, {B})
    state = after(state, B, X, X)
    assert (state.generated, state.finished, state.next_tokens()) == (2, False, {A, C})
    state = after(state, C)
    assert (state.generated, state.finished) == (3, True)
    assert after(state, X, A).finished


def test_an_interrupted_ordered_constraint_begins_anew() -> None:
    state = OrderedConstraints.of([[D], [A, B]])
    assert after(state, D, A, X).generated == 0
    assert after(state, D, A, D).generated == 1
    assert after(state, B, A).generated == 0


def test_unordered_constraints_may_come_in_any_order() -> None:
    state = UnorderedConstraints.of([[A, B], [C]])
    assert state.next_tokens() == {A, C}
    for order in ((A, B, C), (C, A, B), (X, C, X, A, B, X)):
        assert after(state, *order).finished
        assert after(state, *order).generated == 3
    assert not after(state, C, A).finished
    assert after(state, C, A).next_tokens() == {A, B, C}


def test_an_interrupted_unordered_constraint_alone_is_undone() -> None:
    state = after(UnorderedConstraints.of([[A, B, C], [D]]), D, A, B)
    assert state.generated == 3
    assert after(state, X).generated == 1
    assert after(state, X, A, B, C).finished


def test_a_constraint_that_another_begins_with_is_kept_when_the_longer_one_breaks_off() -> None:
    state = UnorderedConstraints.of([[A], [A, B, C]])
    broken = after(state, A, B, X)
    assert not broken.finished
    assert broken.generated == 1
    assert after(broken, A, B, C).finished


def test_a_constraint_given_twice_must_come_twice() -> None:
    state = UnorderedConstraints.of([[A], [A]])
    assert not after(state, A).finished
    assert after(state, A, A).finished
    assert after(state, A, X, A).finished


def test_without_constraints_everything_is_finished() -> None:
    for kind in (OrderedConstraints, UnorderedConstraints):
        state = after(kind.of([]), X)
        assert state.finished
        assert state.next_tokens() == set()
