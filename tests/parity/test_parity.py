"""Every recorded case of the real fairseq, each through the adapter of its area."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.parity.loader import Case, find_cases, parity_folder

ROOT = parity_folder()
CASES = find_cases(ROOT) if ROOT.is_dir() else []


@pytest.mark.skipif(not ROOT.is_dir(), reason=f"no recorded results at SEQKIT_PARITY ({ROOT.name} is absent)")
def test_cases_are_found() -> None:
    assert CASES, f"{ROOT} holds no case.json"


@pytest.mark.parametrize("case", CASES, ids=[case.label for case in CASES])
def test_case(case: Case, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    record_property("parity_area", case.area)
    case.tmp = tmp_path
    run = case.adapter()
    if run is None:
        case.not_built(f"area {case.area}: a later issue")
    if not case.informational:
        run(case)
        return
    try:
        run(case)
        record_property("informational", "equal")
    except AssertionError as difference:
        record_property("informational", f"differs: {str(difference).splitlines()[0] if str(difference) else ''}")
