"""Preprocessing: the files that fairseq-preprocess wrote, byte for byte, and the main lines of its log."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from seqkit.data.dictionary import OVERWRITE_FLAG
from seqkit.data.indexed_dataset import IMPLEMENTATIONS, open_dataset
from seqkit_cli.preprocess import main
from tests.parity.loader import Case, separated

_FLAGS = "flags (cwd = this directory; expected/ is the destdir)"
_DESCRIPTION = {"what", "area", "note", "versions", "same_as", "files"}
_IN_SUMMARY = "["
_NOT_IN_SUMMARY = "[alignments]"


def run(case: Case) -> None:
    """Run the command on links to the case's input, and compare what it wrote and logged."""
    spec = case.spec
    unknown = set(spec) - _DESCRIPTION - {"tool", _FLAGS, "expected_files", "log_summary", "tolerance"}
    assert not unknown, f"parts of the case that no one reads: {sorted(unknown)}"
    if spec["tool"] != "fairseq-preprocess":
        case.not_built(f"the tool {spec['tool']}")
    assert spec["tolerance"] == "byte-exact"
    flags = separated(spec[_FLAGS])
    destination = _value(flags, "--destdir", "data-bin")
    impl = _value(flags, "--dataset-impl", "mmap")
    if impl not in IMPLEMENTATIONS:
        case.not_built(f"--dataset-impl {impl}: not offered")
    for entry in case.folder.iterdir():
        if entry.name != destination:
            (case.tmp / entry.name).symlink_to(entry)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(case.tmp)
        code = main(_without_passed_over(flags))
    assert code == 0, f"exit code {code}"

    for name, expected in spec["expected_files"].items():
        path = case.tmp / name
        assert path.is_file(), f"{name} was not written"
        content = path.read_bytes()
        if path.name.startswith("dict."):
            # without these, which fairseq leaves away, a dictionary that has a symbol twice could not be read
            content = content.replace(f" {OVERWRITE_FLAG}\n".encode(), b"\n")
        assert len(content) == expected["bytes"], f"{name} has {len(content)} bytes, expected {expected['bytes']}"
        digest = hashlib.sha256(content).hexdigest()
        assert digest == expected["sha256"], f"{name} differs in its bytes"
    written = {f"{destination}/{name}" for name in os.listdir(case.tmp / destination) if name != "preprocess.log"}
    beside = written - set(spec["expected_files"])
    # of several prefixes joined by commas, fairseq passes over the alignments
    beside -= {name for name in beside if ".align." in name and _has_several_prefixes(flags)}
    assert not beside, f"files that fairseq does not write: {sorted(beside)}"

    log = (case.tmp / destination / "preprocess.log").read_text(encoding="utf-8").splitlines()
    logged = [line.split(" | ", 3)[3] for line in log]
    summary = [line for line in logged if line.startswith(_IN_SUMMARY) and not line.startswith(_NOT_IN_SUMMARY)]
    assert summary == spec["log_summary"], f"logged {summary}, expected {spec['log_summary']}"
    for index in sorted((case.folder / destination).glob("*.idx")):
        _same_rows(index.with_suffix(""), case.tmp / destination / index.stem)


def _same_rows(theirs: Path, ours: Path) -> None:
    """fairseq's own files, read by seqkit, hold the rows that seqkit's do."""
    expected, found = open_dataset(theirs), open_dataset(ours)
    assert len(found) == len(expected), f"{ours.name}: {len(found)} rows, expected {len(expected)}"
    for row in range(len(expected)):
        assert found[row].tolist() == expected[row].tolist(), f"{ours.name}: row {row} differs"


def _without_passed_over(flags: list[str]) -> list[str]:
    """The flags without those that fairseq-preprocess passes over in silence; seqkit heeds them."""
    for flag in ("--tokenizer", "--bpe"):
        if flag in flags:
            place = flags.index(flag)
            flags = flags[:place] + flags[place + 2 :]
    return flags


def _has_several_prefixes(flags: list[str]) -> bool:
    return any("," in _value(flags, f"--{split}pref", "") for split in ("train", "valid", "test"))


def _value(flags: list[str], name: str, default: str) -> str:
    return flags[flags.index(name) + 1] if name in flags else default
