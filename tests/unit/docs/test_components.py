import importlib.util
from pathlib import Path
from types import ModuleType

DOCS = Path(__file__).resolve().parents[3] / "docs"


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_components", DOCS / "make_components.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_component_catalogue_is_current() -> None:
    written = (DOCS / "components.md").read_text(encoding="utf-8")
    assert written == load_generator().render(), "run `make docs`"
