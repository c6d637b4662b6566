import re
from pathlib import Path

import pytest
import torch

from seqkit.config.compose import compose
from seqkit.config.recipes import recipe_names
from seqkit.registry import import_user_dir, registry

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "configuration.md").read_text(encoding="utf-8")


def test_the_recipe_on_the_page_composes(tmp_path: Path) -> None:
    (tmp_path / "my_recipe.yaml").write_text(re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)[0])
    config = compose("my_recipe", ["task.data=data-bin"], tmp_path)
    assert config.model is not None
    assert config.model._name == "transformer"
    assert config.optimization.lr == [0.002]


def test_the_component_on_the_page_works(tmp_path: Path) -> None:
    code = next(block for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL) if "@register" in block)
    folder = tmp_path / "plugins_of_the_page"
    folder.mkdir()
    (folder / "halved.py").write_text(code)
    import_user_dir(folder)
    try:
        component = registry("criterion").get("halved_cross_entropy")
        assert component.config().factor == 0.5
        assert issubclass(component.cls, torch.nn.Module)
    finally:
        registry("criterion").unregister("halved_cross_entropy")


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_is_whole(name: str) -> None:
    config = compose(name, ["task.data=data-bin"])
    assert None not in (config.task, config.model, config.criterion, config.optimizer, config.lr_scheduler)
