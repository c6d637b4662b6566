"""The family of errors and their words."""

from __future__ import annotations

import pytest

from seqkit.errors import (
    ConfigError,
    DuplicateNameError,
    MissingExtraError,
    SeqkitError,
    UserError,
    did_you_mean,
    near_matches,
    require_extra,
)


def test_one_problem_is_told_as_it_is_and_several_as_a_list() -> None:
    assert str(ConfigError("a is wrong")) == "a is wrong"
    error = ConfigError(["a is wrong", "b is wrong"])
    assert str(error) == "2 problems in the configuration:\n  - a is wrong\n  - b is wrong"
    assert error.problems == ["a is wrong", "b is wrong"]


def test_the_users_mistakes_exit_with_2_and_others_with_1() -> None:
    assert UserError.exit_code == ConfigError.exit_code == 2
    assert SeqkitError.exit_code == DuplicateNameError.exit_code == 1


def test_near_matches_are_best_first_and_blind_to_case_and_dashes() -> None:
    assert near_matches("Adm", ["sgd", "adam", "adamax"])[0] == "adam"
    assert near_matches("label-smoothed", ["label_smoothed"]) == ["label_smoothed"]
    assert near_matches("zzz", ["adam"]) == []


def test_did_you_mean() -> None:
    assert did_you_mean("adm", ["adam", "sgd"]) == "; did you mean 'adam'?"
    assert did_you_mean("zzz", ["adam"]) == ""


def test_require_extra_imports_or_says_what_to_install() -> None:
    assert require_extra("json", extra="x", purpose="a test").dumps([]) == "[]"
    with pytest.raises(MissingExtraError) as error:
        require_extra("no_such_package_here.inner", extra="moses", purpose="tokenizer=moses")
    assert str(error.value) == (
        "tokenizer=moses needs the package 'no_such_package_here', which is not installed; "
        "install it with: pip install 'seqkit[moses]'"
    )
