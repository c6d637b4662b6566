"""The named architectures of the transformer are files; each is read and built here."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from seqkit.config.base import default_of, option_info
from seqkit.config.validate import build_config
from seqkit.data.dictionary import Dictionary
from seqkit.models.transformer import TransformerConfig, TransformerModel

FOLDER = Path(__file__).parents[3] / "configs" / "model"
FILES = [path for path in sorted(FOLDER.glob("*.yaml")) if path.stem.split("_")[0] == "transformer"]
FILES = [path for path in FILES if yaml.safe_load(path.read_text(encoding="utf-8"))["defaults"] == ["transformer"]]


def test_the_named_architectures_are_there() -> None:
    assert {path.stem for path in FILES} >= {
        "transformer_iwslt_de_en",
        "transformer_tiny",
        "transformer_vaswani_wmt_en_de_big",
        "transformer_vaswani_wmt_en_fr_big",
        "transformer_wmt_en_de",
        "transformer_wmt_en_de_big",
        "transformer_wmt_en_de_big_t2t",
    }


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_a_named_architecture_says_only_what_differs_and_builds(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    values = {key: value for key, value in yaml.safe_load(text).items() if key != "defaults"}
    fields = {item.name: item for item in dataclasses.fields(TransformerConfig)}
    assert values.keys() <= fields.keys()
    # What follows another option unless it is given may be given its default.
    superfluous = [
        key
        for key, value in values.items()
        if default_of(fields[key]) == value and option_info(fields[key]).follows is None
    ]
    assert not superfluous, "these are the defaults already"
    config = build_config(TransformerConfig, {"_name": "transformer", **values}, where="model")
    for side in ("encoder", "decoder"):
        heads = getattr(config, f"{side}_attention_heads")
        setattr(config, f"{side}_embed_dim", 2 * heads)
        setattr(config, f"{side}_ffn_embed_dim", 8)
    model = TransformerModel.build(
        config, SimpleNamespace(source_dictionary=Dictionary(), target_dictionary=Dictionary())
    )
    assert len(model.encoder.layers) == config.encoder_layers
    assert model.decoder.layers[0].normalize_before == config.decoder_normalize_before
