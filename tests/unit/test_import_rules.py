"""The table of floors of docs/architecture.md: imports go down, in no circles, without side effects."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLOORS = {
    "seqkit": 0,  # its own __init__
    "seqkit.registry": 0,
    "seqkit.errors": 0,
    "seqkit.files": 0,
    "seqkit.config": 1,
    "seqkit.data": 2,
    "seqkit.modules": 2,
    "seqkit.optim": 2,
    "seqkit.distributed": 2,
    "seqkit.metrics": 2,
    "seqkit.scoring": 2,
    "seqkit.models": 3,
    "seqkit.criterions": 4,
    "seqkit.generation": 4,
    "seqkit.tasks": 5,
    "seqkit.checkpoint": 6,
    "seqkit.training": 7,
    "seqkit.hub": 8,
    "seqkit.interop": 8,
    "seqkit_cli": 9,
}
NEIGHBOURS = {("seqkit.hub", "seqkit.interop")}
"""Rooms of one floor of which the first may import the second."""

FILES = sorted([*(ROOT / "seqkit").rglob("*.py"), *(ROOT / "seqkit_cli").rglob("*.py")])


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[0] if parts[0] == "seqkit_cli" else ".".join(parts[:2])


def imports(path: Path, *, at_run_time: bool = True, top_level_only: bool = False) -> Iterator[tuple[str, int]]:
    """The modules of ours that a file imports, with line numbers; those under TYPE_CHECKING only on request."""

    def visit(nodes: list[ast.stmt]) -> Iterator[ast.stmt]:
        for node in nodes:
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                if not at_run_time:
                    yield from visit(node.body)
                continue
            yield node
            for child in ast.iter_child_nodes(node):
                if top_level_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    continue
                if isinstance(child, ast.stmt):
                    yield from visit([child])

    for node in visit(ast.parse(path.read_text(encoding="utf-8")).body):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            for alias in node.names:
                deeper = f"{node.module}.{alias.name}"
                yield deeper if deeper in MODULES else str(node.module), node.lineno


def test_every_room_has_a_floor() -> None:
    assert {room_of(module) for module in MODULES} <= set(FLOORS)


@pytest.mark.parametrize("at_run_time", [True, False], ids=["run time", "types"])
def test_rooms_import_only_from_below(at_run_time: bool) -> None:
    wrong = []
    for module, path in MODULES.items():
        here = room_of(module)
        for target, line in imports(path, at_run_time=at_run_time):
            if target.split(".")[0] not in ("seqkit", "seqkit_cli"):
                continue
            there = room_of(target)
            if here == there or (here, there) in NEIGHBOURS or there == "seqkit":
                continue
            if FLOORS[there] == 0 and FLOORS[here] == 0:
                continue
            if FLOORS[there] >= FLOORS[here]:
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {target}")
    assert not wrong, "\n".join(wrong)


def test_nothing_imports_in_a_circle() -> None:
    graph = {
        module: sorted({target for target, _ in imports(path, top_level_only=True) if target in MODULES} - {module})
        for module, path in MODULES.items()
    }
    done: set[str] = set()

    def walk(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join([*way[way.index(module) :], module])
        if module not in done:
            for target in graph[module]:
                walk(target, (*way, module))
            done.add(module)

    for module in graph:
        walk(module, ())


def test_component_packages_import_nothing() -> None:
    for path in FILES:
        if path.name == "__init__.py" and path.parent.name not in ("seqkit", "seqkit_cli"):
            assert not list(imports(path, at_run_time=False)), path


def test_importing_seqkit_has_no_side_effects() -> None:
    code = (
        "import logging, sys, warnings\n"
        "filters = list(warnings.filters)\n"
        "import seqkit, seqkit_cli, seqkit.config.root, seqkit.registry\n"
        "heavy = [name for name in ('torch', 'hydra', 'omegaconf', 'numpy', 'yaml') if name in sys.modules]\n"
        "assert not heavy, heavy\n"
        "assert not logging.getLogger().handlers\n"
        "assert warnings.filters == filters\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=ROOT)
