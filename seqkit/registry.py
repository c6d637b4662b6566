"""Named components: one generic `Registry`, one instance for each kind.

The name of a component is the name of its file, so names are listed without importing anything, and
asking for one imports that file alone. Third parties add components by entry points (group
`seqkit.<kind>`, e.g. `seqkit.model`) or by a user directory (`import_user_dir`).

Knows nothing of torch, of configs' contents, or of what a component does.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from seqkit.errors import DuplicateNameError, SeqkitError, UnknownNameError, UserError, did_you_mean

T = TypeVar("T")
ClassT = TypeVar("ClassT", bound=type)

_ROOT = Path(__file__).resolve().parent
_NOT_COMPONENTS = {"base"}
_HELPERS = {"seqkit.optim.clip", "seqkit.optim.loss_scaler"}
"""Public modules that live beside components without being one."""
_YEAR = re.compile(r"\b(19|20)\d\d\b")


@dataclass(frozen=True)
class Component(Generic[T]):
    """One registered class, its config dataclass, and the place it was registered from."""

    name: str
    cls: type[T]
    config: type[Any]
    origin: str

    @property
    def purpose(self) -> str:
        """The first paragraph of its class's description, behind that of its file where that alone names the paper."""
        own = _first_paragraph(self.cls.__doc__)
        of_file = _first_paragraph(getattr(sys.modules.get(self.cls.__module__), "__doc__", None))
        return own if _YEAR.search(own) or not _YEAR.search(of_file) else f"{of_file} {own}"


@dataclass(frozen=True)
class Variant:
    """A name for a component with some of its options set (an architecture), and the place it was registered from."""

    name: str
    of: str
    options: dict[str, Any]
    origin: str


class Registry(Generic[T]):
    """The components of one kind.

    A file `name.py` (or a folder `name/`) in the kind's package is the component `name`; files whose
    name begins with an underscore, and `base.py`, are not components.

    Args:
        kind: what its members are called, and the section of the root config (`"lr_scheduler"`).
        package: the package whose files are the built-in components (`"seqkit.optim.lr_scheduler"`).
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self.variants: dict[str, Variant] = {}
        """Named variants of plugins. (seqkit's own are files: `configs/<kind>/<name>.yaml`.)"""
        self._components: dict[str, Component[T]] = {}

    @cached_property
    def builtin_names(self) -> frozenset[str]:
        """Names of the components that are files of seqkit itself, found without importing them."""
        folder = _ROOT.joinpath(*self.package.split(".")[1:])
        names: set[str] = set()
        for path in folder.iterdir():
            stem = path.stem
            if stem.startswith("_") or stem in _NOT_COMPONENTS or f"{self.package}.{stem}" in _HELPERS:
                continue
            nested_registry = f"{self.package}.{stem}" in _PACKAGES
            if path.suffix == ".py" or ((path / "__init__.py").is_file() and not nested_registry):
                names.add(stem)
        return frozenset(names)

    @cached_property
    def _entry_points(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in _installed_entry_points().select(group=f"seqkit.{self.kind}")}

    def names(self) -> list[str]:
        """All names that can be asked for, sorted. Imports nothing."""
        return sorted(self.builtin_names | set(self._components) | set(self._entry_points))

    def register(self, name: str, *, config: type[Any]) -> Callable[[ClassT], ClassT]:
        """Class decorator: make the class the component `name`, configured by the dataclass `config`.

        Raises:
            DuplicateNameError: the name is taken; the message names both places.
        """

        def decorate(cls: ClassT) -> ClassT:
            origin = _origin(cls)
            taken = self._components.get(name)
            if taken is not None:
                raise DuplicateNameError(f"{self.kind} {name!r} is registered twice: in {taken.origin} and in {origin}")
            home = f"{self.package}.{name}"
            if name in self.builtin_names and cls.__module__ != home:
                raise DuplicateNameError(
                    f"{self.kind} {name!r} is registered twice: in seqkit's own {home} and in {origin}"
                )
            self._components[name] = Component(name, cls, config, origin)
            return cls

        return decorate

    def register_variant(self, of: str, name: str, /, **options: Any) -> None:
        """Make `name` mean the component `of` with some of its options set, wherever a component may be chosen.

        Raises:
            DuplicateNameError: a component or another variant has that name; the message names both places.
        """
        caller = inspect.stack()[1]
        origin = f"{caller.filename}:{caller.lineno}"
        taken = self.variants.get(name) or self._components.get(name)
        place = f"seqkit's own {self.package}.{name}" if name in self.builtin_names else taken and taken.origin
        if place:
            raise DuplicateNameError(f"{self.kind} {name!r} is registered twice: in {place} and in {origin}")
        self.variants[name] = Variant(name, of, options, origin)

    def get(self, name: str) -> Component[T]:
        """The component called `name`; imports its file if that has not happened yet.

        Raises:
            UnknownNameError: no such component; the message lists near matches.
        """
        if name not in self._components:
            if name in self.builtin_names:
                importlib.import_module(f"{self.package}.{name}")
            elif name in self._entry_points:
                self._entry_points[name].load()
            else:
                known = self.names()
                hint = did_you_mean(name, known) or f"; there are: {', '.join(known)}"
                raise UnknownNameError(f"unknown {self.kind} {name!r}{hint}")
            if name not in self._components:
                raise SeqkitError(f"importing {self.kind} {name!r} did not register that name")
        return self._components[name]

    def unregister(self, name: str) -> None:
        """Forget a component or a variant (for tests and notebooks that define one twice)."""
        self._components.pop(name, None)
        self.variants.pop(name, None)


@cache
def _installed_entry_points() -> Any:
    """The entry points of all installed packages, read once: it takes a look into every package's metadata.

    (Its type differs between Python 3.10 and later ones; all have `select(group=...)`.)
    """
    return entry_points()


_PACKAGES = {
    "seqkit.tasks": "task",
    "seqkit.models": "model",
    "seqkit.criterions": "criterion",
    "seqkit.optim": "optimizer",
    "seqkit.optim.lr_scheduler": "lr_scheduler",
    "seqkit.data.encoders.bpe": "bpe",
    "seqkit.data.encoders.tokenizer": "tokenizer",
    "seqkit.scoring": "scoring",
}
REGISTRIES: dict[str, Registry[Any]] = {kind: Registry(kind, package) for package, kind in _PACKAGES.items()}


def registry(kind: str) -> Registry[Any]:
    """The registry of one kind of component (`"task"`, `"model"`, …)."""
    return REGISTRIES[kind]


def import_user_dir(folder: str | Path) -> None:
    """Import a user's folder of plugins so that its components register themselves.

    The folder is imported as a package under its own name (its `__init__.py` if it has one), and then
    every `.py` file in it and in its subfolders `tasks/`, `models/`, `criterions/`, `optim/`.
    Importing the same folder twice does nothing.

    Raises:
        UserError: the folder does not exist, or another module already has its name.
    """
    path = Path(folder).expanduser().resolve()
    if not path.is_dir():
        raise UserError(f"common.user_dir={folder} is not a folder; give the folder that holds your plugins")
    loaded = sys.modules.get(path.name)
    if loaded is not None:
        if str(path) in [str(Path(place).resolve()) for place in getattr(loaded, "__path__", [])]:
            return
        raise UserError(
            f"common.user_dir={folder} cannot be imported as {path.name!r}: a module of that name is "
            "already loaded; rename the folder"
        )
    _import_package(path.name, path)
    for sub in ("", "tasks", "models", "criterions", "optim"):
        place = path / sub if sub else path
        if not place.is_dir():
            continue
        prefix = f"{path.name}.{sub}" if sub else path.name
        if sub and prefix not in sys.modules:
            _import_package(prefix, place)
        for file in sorted(place.glob("*.py")):
            if not file.name.startswith("_"):
                importlib.import_module(f"{prefix}.{file.stem}")


def _import_package(name: str, path: Path) -> None:
    init = path / "__init__.py"
    spec = importlib.util.spec_from_file_location(
        name, init if init.is_file() else None, submodule_search_locations=[str(path)]
    )
    if spec is None and not init.is_file():
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(path)]
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if spec.loader is not None and init.is_file():
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise


def _first_paragraph(docstring: str | None) -> str:
    return " ".join((docstring or "").strip().partition("\n\n")[0].split())


def _origin(cls: type[Any]) -> str:
    try:
        file = inspect.getsourcefile(cls) or "?"
        line = inspect.getsourcelines(cls)[1]
        return f"{file}:{line}"
    except (OSError, TypeError):
        return f"{cls.__module__}.{cls.__qualname__}"
