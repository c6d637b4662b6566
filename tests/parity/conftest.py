"""The table that ends a parity run: area, cases, passed, expected failures."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    notes: list[str] = []
    reasons: Counter[str] = Counter()
    for outcome in ("passed", "failed", "xfailed", "xpassed", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            properties = dict(getattr(report, "user_properties", []))
            area = properties.get("parity_area")
            if area is None:
                continue
            counts[area][outcome] += 1
            if outcome == "xfailed":
                reasons[f"{area}: {getattr(report, 'wasxfail', '').removeprefix('reason: ')}"] += 1
            if "informational" in properties:
                counts[area]["informational"] += 1
                notes.append(f"{report.nodeid.split('[')[-1].rstrip(']')}: {properties['informational']}")
    if not counts:
        return
    write = terminalreporter.write_line
    terminalreporter.section("parity with the recorded results of fairseq")
    row = "{:<22}{:>7}{:>8}{:>8}{:>20}{:>15}".format
    write(row("area", "cases", "passed", "failed", "expected failures", "informational"))
    total: Counter[str] = Counter()
    for area, count in sorted(counts.items()):
        cases = sum(count[key] for key in ("passed", "failed", "xfailed", "xpassed", "error"))
        failed = count["failed"] + count["error"]
        write(row(area, cases, count["passed"], failed, count["xfailed"], count["informational"]))
        total.update(cases=cases, passed=count["passed"], failed=failed, xfailed=count["xfailed"])
    write(row("all", total["cases"], total["passed"], total["failed"], total["xfailed"], ""))
    for reason, times in sorted(reasons.items()):
        write(f"  {times:>3} x expected failure  {reason}")
    for note in sorted(notes):
        write(f"  informational  {note}")
