"""Mappings to config dataclasses: coercions, checks, and every problem told at once."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

import pytest

from seqkit.config.base import MISSING, Config, option
from seqkit.config.validate import build_config, coerce, to_dict
from seqkit.errors import ConfigError


class Shade(enum.Enum):
    LIGHT = "light"
    DARK = "dark"


@dataclass
class InnerConfig(Config):
    depth: int = option(2, "depth", low=1)


@dataclass
class SampleConfig(Config):
    """A section for tests."""

    data: str = option(MISSING, "the data folder")
    rate: float = option(0.5, "a rate", low=0.0, high=1.0)
    steps: int = option(10, "steps", low=1)
    limit: int | None = option(None, "a limit")
    betas: list[float] = option([0.9, 0.999], "decays", low=0.0, high=1.0)
    names: list[str] | None = option(None, "names")
    on: bool = option(False, "a switch")
    kind: str = option("a", "a kind", choices=("alpha", "beta", "a"))
    table: dict[str, Any] = option({}, "a table")
    pair: tuple[int, int] = option((1, 2), "a pair")
    shade: Shade = option(Shade.LIGHT, "a shade")
    old: int = option(1, "old", refused="it is gone; use steps")
    anything: Any = option(None, "anything")
    inner: InnerConfig = field(default_factory=InnerConfig, metadata={"help": "nested"})


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (3, float, 3.0),
        ("1e-4", float, 1e-4),
        ("inf", float, float("inf")),
        (4096.0, int, 4096),
        ("4096", int, 4096),
        ("1e3", int, 1000),
        ("True", bool, True),
        ("no", bool, False),
        (1, bool, True),
        (12, str, "12"),
        ("None", int | None, None),
        ("null", str | None, None),
        (None, list[int] | None, None),
        (0.1, list[float], [0.1]),
        ("0.1,0.2", list[float], [0.1, 0.2]),
        ("(0.9, 0.98)", list[float], [0.9, 0.98]),
        ("[4,8]", list[int], [4, 8]),
        ("[de, en]", list[str], ["de", "en"]),
        ("", list[str], []),
        ((1, 2), list[int], [1, 2]),
        ("[[1, 2], [3]]", list[list[int]], [[1, 2], [3]]),
        ("(1, 2)", tuple[int, int], (1, 2)),
        ([1, "2", 3], tuple[int, ...], (1, 2, 3)),
        ("{'a': 1}", dict[str, Any], {"a": 1}),
        ("", dict[str, Any], {}),
        ("dark", Shade, Shade.DARK),
        (7, int | str, 7),
        ("x", int | str, "x"),
        ("7", float | list[float], 7.0),
        ([7], float | list[float], [7.0]),
    ],
)
def test_coerce_takes_every_spelling(value: Any, kind: Any, expected: Any) -> None:
    result = coerce(value, kind)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (True, int, "is not a whole number"),
        (1.5, int, "is not a whole number"),
        ("many", int | None, "is not a whole number or null"),
        ("nan", float, "is not a number"),
        (2, bool, "is not true or false"),
        (False, str, "put it in quotes"),
        (["a", "b"], str, 'write a list as one text, "a,b"'),
        (["a"], list[int], "is not a list of whole numbers"),
        ({"a": 1}, list[int], "is not a list of whole numbers"),
        ((1, 2, 3), tuple[int, int], "is not a list of 2 values"),
        ("__import__('os')", dict[str, Any], "is not a mapping"),
        ("drk", Shade, "is not one of light, dark; did you mean 'dark'"),
        ([], int | str, "is not a whole number or text"),
    ],
)
def test_coerce_says_what_would_be_right(value: Any, kind: Any, text: str) -> None:
    with pytest.raises(ValueError, match="is not") as error:
        coerce(value, kind)
    assert text in str(error.value)


def test_defaults_are_kept_and_not_shared() -> None:
    first, second = build_config(SampleConfig, {"data": "x"}), build_config(SampleConfig, {"data": "x"})
    first.betas.append(1.0)
    assert second.betas == [0.9, 0.999]
    assert second == SampleConfig(data="x")


def test_all_problems_are_in_one_message() -> None:
    with pytest.raises(ConfigError) as error:
        build_config(
            SampleConfig,
            {
                "rate": 1.5,
                "stps": 3,
                "limit": "many",
                "betas": [0.9, 2],
                "kind": "alfa",
                "old": 2,
                "inner": {"depth": 0},
                "zzzzzzzz": 1,
            },
            "sample",
        )
    assert error.value.problems == [
        "sample.rate=1.5 is out of range; give at least 0 and at most 1",
        "unknown option sample.stps; did you mean sample.steps?",
        "sample.limit='many' is not a whole number or null",
        "sample.betas=[0.9, 2] is out of range; give at least 0 and at most 1",
        "sample.kind='alfa' is not one of alpha, beta, a; did you mean 'alpha'?",
        "sample.old=2 cannot be used: it is gone; use steps",
        "sample.inner.depth=0 is out of range; give at least 1",
        "unknown option sample.zzzzzzzz",
        "sample.data must be given: the data folder",
    ]
    assert str(error.value).startswith("9 problems in the configuration:\n  - sample.rate")


def test_a_refused_option_is_taken_at_its_default() -> None:
    assert build_config(SampleConfig, {"data": "x", "old": "1"}).old == 1


def test_a_missing_value_may_be_allowed() -> None:
    assert build_config(SampleConfig, {"data": MISSING}, missing_allowed=True).data == MISSING
    with pytest.raises(ConfigError, match="data must be given"):
        build_config(SampleConfig, {"data": MISSING})


def test_to_dict_is_undone_by_build_config() -> None:
    config = build_config(
        SampleConfig, {"_name": "s", "data": "x", "shade": "dark", "pair": [3, 4], "inner": {"depth": 5}}
    )
    plain = to_dict(config)
    assert next(iter(plain)) == "_name"
    assert plain["shade"] == "dark"
    assert plain["pair"] == [3, 4]
    assert plain["inner"] == {"depth": 5}
    assert build_config(SampleConfig, plain) == config


def test_a_few_options_are_all_listed_when_nothing_is_near() -> None:
    with pytest.raises(ConfigError, match=r"unknown option inner\.zzz; there are: depth"):
        build_config(InnerConfig, {"zzz": 1}, "inner")
