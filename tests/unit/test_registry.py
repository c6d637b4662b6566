"""Registries: names without imports, one import for one component, plugins, and clashes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

import seqkit.registry
from seqkit.config.base import Config
from seqkit.errors import DuplicateNameError, SeqkitError, UnknownNameError, UserError
from seqkit.registry import REGISTRIES, Registry, import_user_dir, registry


@dataclass
class SomeConfig(Config):
    pass


@pytest.fixture
def optimizers() -> Iterator[Registry[object]]:
    members = registry("optimizer")
    yield members
    members.unregister("thing_of_test")


def test_names_are_listed_without_importing_any_component() -> None:
    code = (
        "import sys\n"
        "from seqkit.registry import REGISTRIES\n"
        "assert 'adam' in REGISTRIES['optimizer'].names()\n"
        "assert 'transformer' in REGISTRIES['model'].names()\n"
        "assert 'torch' not in sys.modules\n"
        "assert not [name for name in sys.modules if name.startswith('seqkit.') and name.count('.') > 1]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_component_says_what_it_is_for_and_which_paper_it_is_of() -> None:
    assert registry("optimizer").get("adam").purpose == (
        "Adam with decoupled weight decay (Kingma and Ba, 2015; Loshchilov and Hutter, 2019). "
        "Adam as fairseq computes it."
    )
    assert registry("optimizer").get("cpu_adam").purpose.count("2015") == 1


def test_helper_files_are_not_components() -> None:
    for kind, members in REGISTRIES.items():
        for name in members.names():
            assert not name.startswith("_"), kind
            assert name != "base", kind
    assert "lr_scheduler" not in registry("optimizer").names()


def test_every_component_registers_under_its_files_name_and_is_documented() -> None:
    for kind, members in REGISTRIES.items():
        for name in sorted(members.builtin_names):
            component = members.get(name)
            assert component.name == name, kind
            assert issubclass(component.config, Config), (kind, name)
            assert (component.cls.__doc__ or "").strip(), f"{kind}={name} has no docstring"


def test_registering_a_name_twice_names_both_places(optimizers: Registry[object]) -> None:
    optimizers.register("thing_of_test", config=SomeConfig)(type("First", (), {}))
    with pytest.raises(DuplicateNameError, match=r"optimizer 'thing_of_test' is registered twice: in .*First.* and in"):
        optimizers.register("thing_of_test", config=SomeConfig)(type("Second", (), {}))


def test_a_builtin_name_cannot_be_taken(optimizers: Registry[object]) -> None:
    with pytest.raises(DuplicateNameError, match=r"'adam' is registered twice: in .*optim.adam.* and in .*Mine"):
        optimizers.register("adam", config=SomeConfig)(type("Mine", (), {}))


def test_unknown_names_list_near_matches_or_everything() -> None:
    with pytest.raises(UnknownNameError, match="unknown optimizer 'adm'; did you mean 'adam'"):
        registry("optimizer").get("adm")
    with pytest.raises(UnknownNameError, match="unknown optimizer 'zzzzzz'; there are: ada"):
        registry("optimizer").get("zzzzzz")


def test_entry_points_are_components(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "plugin_of_test.py").write_text(
        "from dataclasses import dataclass\nfrom seqkit.config.base import Config\n"
        "from tests.unit.test_registry import PLUGGED\n"
        "@PLUGGED.register('from_elsewhere', config=Config)\nclass Elsewhere:\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    points = EntryPoints(
        [
            EntryPoint("from_elsewhere", "plugin_of_test", "seqkit.gadget"),
            EntryPoint("idle", "json", "seqkit.gadget"),
            EntryPoint("other", "json", "seqkit.model"),
        ]
    )
    monkeypatch.setattr(seqkit.registry, "_installed_entry_points", lambda: points)
    assert PLUGGED.names() == ["from_elsewhere", "idle"]
    assert PLUGGED.get("from_elsewhere").cls.__name__ == "Elsewhere"
    with pytest.raises(SeqkitError, match="importing gadget 'idle' did not register that name"):
        PLUGGED.get("idle")


PLUGGED: Registry[object] = Registry("gadget", "seqkit.interop")
PLUGGED.__dict__["builtin_names"] = frozenset()


class TestUserDir:
    def plugin(self, name: str) -> str:
        return (
            "from seqkit.config.base import Config\nfrom seqkit.registry import registry\n"
            f"@registry('tokenizer').register('{name}', config=Config)\nclass Plugin:\n    pass\n"
        )

    def test_files_and_known_subfolders_are_imported_once(self, tmp_path: Path) -> None:
        folder = tmp_path / "plugins_of_registry_test"
        (folder / "models").mkdir(parents=True)
        (folder / "top.py").write_text(self.plugin("user_top"))
        (folder / "_private.py").write_text("raise RuntimeError")
        (folder / "models" / "deep.py").write_text(self.plugin("user_deep"))
        import_user_dir(folder)
        import_user_dir(str(folder))
        try:
            assert {"user_top", "user_deep"} <= set(registry("tokenizer").names())
        finally:
            registry("tokenizer").unregister("user_top")
            registry("tokenizer").unregister("user_deep")

    def test_a_missing_folder(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="is not a folder; give the folder that holds your plugins"):
            import_user_dir(tmp_path / "nowhere")

    def test_a_name_that_is_taken(self, tmp_path: Path) -> None:
        (tmp_path / "json").mkdir()
        with pytest.raises(UserError, match="a module of that name is already loaded; rename the folder"):
            import_user_dir(tmp_path / "json")


def test_a_variant_is_chosen_as_a_component_is_but_is_none() -> None:
    toys = Registry[Any]("toy", "seqkit.scoring")
    toys.register("car", config=Config)(type("Car", (), {}))
    toys.register_variant("car", "racing_car", doors=2)
    assert toys.variants["racing_car"].of == "car"
    assert toys.variants["racing_car"].options == {"doors": 2}
    assert toys.variants["racing_car"].origin.startswith(__file__)
    assert "racing_car" not in toys.names()
    for name in ("racing_car", "car", "bleu"):
        with pytest.raises(DuplicateNameError, match=f"toy '{name}' is registered twice: in .* and in .*test_registry"):
            toys.register_variant("car", name)
    toys.unregister("racing_car")
    assert toys.variants == {}
