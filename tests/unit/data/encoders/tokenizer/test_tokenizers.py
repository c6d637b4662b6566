"""space, moses and nltk."""

from __future__ import annotations

import sys

import pytest

from seqkit.data.encoders.base import build_tokenizer
from seqkit.data.encoders.tokenizer.moses import Moses, MosesConfig
from seqkit.data.encoders.tokenizer.space import Space, SpaceConfig
from seqkit.errors import MissingExtraError
from seqkit.registry import registry


def test_space_makes_runs_of_white_space_one() -> None:
    made = Space(SpaceConfig())
    assert made.encode(" a\t b\u3000c\n") == " a b c "
    assert made.decode("a  b") == "a  b"


def test_moses() -> None:
    made = build_tokenizer(MosesConfig(_name="moses", source_lang="en", target_lang="en"))
    assert isinstance(made, Moses)
    assert made.encode('Well-known "cats" aren\'t rare.') == ("Well @-@ known &quot; cats &quot; aren &apos;t rare .")
    assert made.decode("Well @-@ known &quot; cats &quot; aren &apos;t rare .") == 'Well-known "cats" aren\'t rare.'


def test_moses_options() -> None:
    made = Moses(MosesConfig(moses_no_dash_splits=True, moses_no_escape=True))
    assert made.encode('Well-known "cats"') == 'Well-known " cats "'


@pytest.mark.parametrize(("name", "package", "extra"), [("moses", "sacremoses", "moses"), ("nltk", "nltk", "nltk")])
def test_a_missing_package_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch, name: str, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    component = registry("tokenizer").get(name)
    with pytest.raises(MissingExtraError, match=rf"tokenizer={name} needs the package '{package}'.*seqkit\[{extra}\]"):
        component.cls(component.config(_name=name))


def test_no_tokenizer_without_a_name() -> None:
    assert build_tokenizer(None) is None
    assert build_tokenizer(SpaceConfig()) is None
