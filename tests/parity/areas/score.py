"""Scores: fairseq-score's lines, its scorers called one by one, and BLEU of token numbers."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seqkit.registry import registry
from seqkit.scoring.base import Scorer
from seqkit.scoring.bleu import Bleu, BleuConfig
from seqkit_cli.score import main
from tests.parity.loader import Case

_FLAGS = "flags (cwd = score/)"
_DESCRIPTION = {"what", "area", "note", "upstream_broken", "versions", "sacrebleu_version"}
_EXACT = "exact text (scores to printed decimals)"


def run(case: Case) -> None:
    """One of the three forms that cases of this area have."""
    for mark, read, parts in (
        (_FLAGS, _run_command, {"tool", "expected", "tolerance"}),
        ("results", _run_scorers, {"data", "tolerance"}),
        ("rows", _run_tokens, {"one_init", "pad", "eos", "unk", "tolerance"}),
    ):
        if mark in case.spec:
            unknown = set(case.spec) - _DESCRIPTION - parts - {mark}
            assert not unknown, f"parts of the case that no one reads: {sorted(unknown)}"
            return read(case)
    raise AssertionError(f"a case of an unknown form: {sorted(case.spec)}")


def _run_command(case: Case) -> None:
    spec = case.spec
    if spec["tool"] != "fairseq-score":
        case.not_built(f"the tool {spec['tool']}")
    assert spec["tolerance"] == _EXACT
    flags = list(spec[_FLAGS])
    if "--sacrebleu" in flags:  # beside which fairseq passes over the other; seqkit heeds it
        flags = [flag for flag in flags if flag != "--sentence-bleu"]
    output = io.StringIO()
    with _inside(case.area_folder), contextlib.redirect_stdout(output):
        code = main(flags)
    assert code == 0, f"exit code {code}"
    expected = (case.folder / spec["expected"]).read_text(encoding="utf-8").splitlines()
    found = output.getvalue().splitlines()
    assert len(found) == len(expected), f"{len(found)} lines, expected {len(expected)}"
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == theirs, f"{ours!r}, expected {theirs!r}"


def _run_scorers(case: Case) -> None:
    hypotheses, references = (
        (case.area_folder / name.strip()).read_text(encoding="utf-8").splitlines()
        for name in case.spec["data"].split(",")
    )
    for row in case.spec["results"]:
        unknown = set(row) - {"scorer", "settings", "score", "score_error", "result_string"}
        assert not unknown, f"parts of the row that no one reads: {sorted(unknown)}"
        if row["scorer"] not in registry("scoring").names():
            case.not_built(f"scoring={row['scorer']}: a later issue")
        component = registry("scoring").get(row["scorer"])
        scorer: Scorer = component.cls(component.config(_name=row["scorer"], **row["settings"]))
        for reference, hypothesis in zip(references, hypotheses, strict=True):
            scorer.add(reference, hypothesis)
        where = f"{row['scorer']} {row['settings']}"
        if "score" in row:
            _assert_near(scorer.score(), row["score"], case.spec["tolerance"], where)
        assert scorer.result_string() == row["result_string"], f"{where}: {scorer.result_string()!r}"


def _run_tokens(case: Case) -> None:
    spec = case.spec
    config = BleuConfig(_name="bleu", pad=spec["pad"], eos=spec["eos"], unk=spec["unk"])
    scorer = Bleu(config)
    for number, row in enumerate(spec["rows"]):
        scorer.add_tokens(row["ref"], row["pred"])
        _assert_near(scorer.score(), row["cumulative_score"], spec["tolerance"], f"after sentence {number}")
        assert scorer.result_string() == row["string"], f"after sentence {number}: {scorer.result_string()!r}"
    if "one_init" in spec:
        row = spec["one_init"]
        scorer.reset(one_init=True)
        scorer.add_tokens(row["ref"], row["pred"])
        _assert_near(scorer.score(), row["score"], spec["tolerance"], "one_init")
        assert scorer.result_string() == row["string"], f"one_init: {scorer.result_string()!r}"


def _assert_near(found: float, expected: float, tolerance: dict[str, Any], where: str) -> None:
    assert set(tolerance) == {"score_atol"}, f"unknown tolerance {tolerance}"
    assert abs(found - expected) <= tolerance["score_atol"], f"{where}: {found}, expected {expected}"


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
