"""The named sizes of language models are files; each is read and built here, on no device."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import torch
import yaml

from seqkit.config.base import default_of, option_info
from seqkit.config.validate import build_config
from seqkit.models.base import build_model
from seqkit.registry import registry
from tests.unit.models.language_models import DictionaryTask

FOLDER = Path(__file__).parents[3] / "configs" / "model"
MODELS = ("fconv_lm", "lightconv_lm", "decoder_lm")
FILES = [path for path in sorted(FOLDER.glob("*.yaml")) if path.stem.startswith(MODELS)]


def test_the_named_architectures_are_there() -> None:
    assert {path.stem for path in FILES} >= {
        "fconv_lm_dauphin_gbw",
        "fconv_lm_dauphin_wikitext103",
        "lightconv_lm_gbw",
        *(f"decoder_lm_{size}" for size in ("125m", "350m", "1b", "3b", "7b", "8b", "70b")),
    }


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_a_named_architecture_says_only_what_differs_and_builds(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    loaded = yaml.safe_load(text)
    (name,) = loaded.pop("defaults")
    config_class = registry("model").get(name).config
    fields = {item.name: item for item in dataclasses.fields(config_class)}
    assert loaded.keys() <= fields.keys()
    superfluous = [
        key
        for key, value in loaded.items()
        if default_of(fields[key]) == value and option_info(fields[key]).follows is None
    ]
    assert not superfluous, "these are the defaults already"
    with torch.device("meta"):
        model = build_model(build_config(config_class, {"_name": name, **loaded}, where="model"), DictionaryTask())
    if name != "decoder_lm":
        return
    inside = [
        parameter.numel()
        for key, parameter in model.named_parameters()
        if "embed_tokens" not in key and "output_projection" not in key
    ]
    written = re.match(r"# ([\d.]+) (million|billion) parameters beside the embeddings", text)
    assert written, "the first line says how many parameters there are"
    unit = {"million": 1e6, "billion": 1e9}[written[2]]
    assert sum(inside) / unit == pytest.approx(float(written[1]), abs=0.51 if unit == 1e6 else 0.051)


def test_the_table_of_sizes_is_right() -> None:
    lines = (FOLDER / "README.md").read_text(encoding="utf-8").splitlines()
    rows = {
        cells[1].strip(" `"): cells for line in lines if len(cells := line.split("|")) > 8 and "decoder_lm_" in line
    }
    files = {path.stem for path in FILES if path.stem.startswith("decoder_lm")}
    assert rows.keys() == files
    for name, cells in rows.items():
        loaded = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
        del loaded["defaults"]
        config = build_config(registry("model").get("decoder_lm").config, {"_name": "decoder_lm", **loaded})
        with torch.device("meta"):
            model = build_model(config, DictionaryTask(32000 - 4))
        heads = vars(config)["decoder_attention_heads"]
        assert [int(cell) for cell in cells[2:7]] == [
            vars(config)["decoder_embed_dim"],
            vars(config)["decoder_layers"],
            heads,
            vars(config)["decoder_kv_heads"] or heads,
            model.decoder.layers[0].feed_forward.down_proj.in_features,
        ]
        total = sum(parameter.numel() for parameter in model.parameters())
        assert int(cells[9].replace(",", "")) == total, f"{name} has {total:,} parameters"
