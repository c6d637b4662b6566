from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from seqkit.config.base import MISSING, Config, option
from seqkit.config.flags import FlagParser, add_flags, config_from_flags
from seqkit.errors import ConfigError


@dataclass
class SampleConfig(Config):
    source_lang: str | None = option(None, "source language", flags=("-s", "--source-lang"))
    path: str = option(MISSING, "the path to read")
    workers: int = option(1, "processes, 100% of them", low=1)
    rates: list[float] = option([0.5], "rates")
    shuffle: bool = option(True, "shuffle")
    joined: bool = option(False, "join")
    impl: str = option("mmap", "format", choices=("mmap", "raw"))


def parse(*arguments: str) -> SampleConfig:
    parser = FlagParser(prog="sample")
    add_flags(parser, SampleConfig)
    problems: list[str] = []
    config = config_from_flags(SampleConfig, parser.parse_flags(arguments), problems)
    if problems:
        raise ConfigError(problems)
    return config


def test_values_are_converted() -> None:
    config = parse("-s", "de", "--path=x", "--workers", "3", "--rates", "0.1,0.2", "--shuffle", "--joined")
    assert config == SampleConfig(
        source_lang="de", path="x", workers=3, rates=[0.1, 0.2], shuffle=False, joined=True, impl="mmap"
    )


def test_defaults_stand_where_nothing_is_given() -> None:
    assert parse("--path", "x") == SampleConfig(path="x")


def test_negative_numbers_are_values() -> None:
    with pytest.raises(ConfigError, match=r"--workers=-1 is out of range; give at least 1"):
        parse("--path", "x", "--workers", "-1")


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        parse("--workers", "many", "--impl", "nmap")
    assert error.value.problems == [
        "--path must be given: the path to read",
        "--workers='many' is not a whole number",
        "--impl='nmap' is not one of mmap, raw; did you mean 'mmap'?",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sorce-lang", "de"], r"unknown flag --sorce-lang; did you mean '--source-lang'"),
        (["--join"], r"unknown flag --join; did you mean '--joined'\?"),
        (["--xyzzy=1"], r"unknown flag --xyzzy$"),
        (["stray"], r"unexpected argument 'stray'"),
        (["--path"], r"argument --path: expected one argument"),
    ],
)
def test_unknown_flags(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(*arguments)


def test_help(capsys: Any) -> None:
    with pytest.raises(SystemExit) as end:
        parse("--help")
    assert end.value.code == 0
    shown = capsys.readouterr().out
    for text in ("-s SOURCE_LANG", "--workers N", "processes, 100% of them (default: 1)", "--impl {mmap,raw}"):
        assert text in shown


def test_hidden_and_skipped_flags(capsys: Any) -> None:
    parser = FlagParser(prog="sample")
    add_flags(parser, SampleConfig, skip={"path"}, hidden={"workers"})
    assert parser.parse_flags(["--workers", "2"]) == {"workers": "2"}
    with pytest.raises(ConfigError, match="unknown flag --path"):
        parser.parse_flags(["--path", "x"])
    parser.print_help()
    shown = capsys.readouterr().out
    assert "--joined" in shown
    assert "--workers" not in shown
