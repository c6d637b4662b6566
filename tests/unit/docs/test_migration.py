"""The migration page: its table is current, and what it says is there is there."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from seqkit.config.recipes import variant_names
from seqkit.config.root import SECTIONS
from seqkit.registry import registry

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGE = (DOCS / "migrating_from_fairseq.md").read_text(encoding="utf-8")


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_migration", DOCS / "make_migration.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows(title: str) -> list[tuple[list[str], str]]:
    """The rows below a heading: the names in the first cell, and the second cell."""
    section = PAGE.partition(f"\n### {title}\n")[2].partition("\n##")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `") and not line.endswith("| |")]
    cells = [line.strip("| ").split(" | ") for line in lines]
    return [(re.findall(r"`([^`]+)`", names), standing) for names, standing in cells]


def test_the_table_is_current() -> None:
    generator = load_generator()
    place = generator.inventory_file()
    if not place.is_file():
        pytest.skip("the recorded inventory of fairseq is not beside the repository")
    generated = generator.render(json.loads(place.read_text(encoding="utf-8")))
    assert generator.with_generated(PAGE, generated) == PAGE, "run `make docs`"


def test_every_component_that_the_page_calls_there_is_there_and_no_other() -> None:
    for kind, title in load_generator().KINDS.items():
        listed = rows(title)
        assert listed, title
        for names, standing in listed:
            assert (names[0] in registry(kind).builtin_names) == (standing == "there"), (kind, names)
            assert re.match("there$|elsewhere: .|not: .|not yet$", standing), (kind, names, standing)


def test_every_architecture_that_the_page_calls_there_is_there_and_no_other() -> None:
    known = registry("model").builtin_names | set(variant_names("model"))
    listed = rows("Architectures")
    assert len(listed) > 10
    for names, standing in listed:
        for name in names:
            assert (name in known) == (standing == "there"), name


def test_every_command_and_section_that_the_page_calls_there_is_there() -> None:
    commands = {names[0]: standing for names, standing in rows("Commands")}
    for name, standing in commands.items():
        file = DOCS.parent / "seqkit_cli" / f"{name.removeprefix('fairseq-').replace('-', '_')}.py"
        assert file.is_file() == standing.startswith("there"), name
    for names, standing in rows("Groups of options"):
        if standing != "there: the options of the component chosen":
            assert (names[0] in SECTIONS) == standing.startswith("there"), names


def test_without_an_inventory_only_the_generated_part_would_change() -> None:
    generator = load_generator()
    changed = generator.with_generated(PAGE, "nothing")
    assert f"{generator.BEGIN}\n\nnothing\n{generator.END}" in changed
    assert changed.startswith("# Migrating from fairseq\n")
    assert "## What is different, and why" in changed
