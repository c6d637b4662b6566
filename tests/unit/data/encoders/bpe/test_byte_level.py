"""gpt2 and hf_byte_bpe: byte-level BPE over hand-made tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seqkit.data.encoders.bpe._byte_characters import GPT2_BYTE_CHARACTERS
from seqkit.data.encoders.bpe._byte_level import read_merges
from seqkit.data.encoders.bpe.gpt2 import Gpt2, Gpt2Config
from seqkit.data.encoders.bpe.hf_byte_bpe import HfByteBpe, HfByteBpeConfig
from seqkit.errors import ConfigError, DataError

MERGES = ["Ġ c", "a t", "Ġc at", "' s"]


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    pieces = [*GPT2_BYTE_CHARACTERS.values(), *(merge.replace(" ", "") for merge in MERGES)]
    vocabulary = tmp_path / "encoder.json"
    vocabulary.write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}), encoding="utf-8")
    merges = tmp_path / "vocab.bpe"
    merges.write_text("#version: 0.2\n" + "\n".join(MERGES) + "\n", encoding="utf-8")
    return str(vocabulary), str(merges)


def test_the_byte_table_is_gpt2s() -> None:
    assert GPT2_BYTE_CHARACTERS[ord("!")] == "!"
    assert GPT2_BYTE_CHARACTERS[ord(" ")] == "Ġ"
    assert GPT2_BYTE_CHARACTERS[ord("\n")] == "Ċ"
    assert GPT2_BYTE_CHARACTERS[0xAD] == "Ń"
    assert len(set(GPT2_BYTE_CHARACTERS.values())) == 256


def test_gpt2_merges_within_words(files: tuple[str, str]) -> None:
    made = Gpt2(Gpt2Config(gpt2_encoder_json=files[0], gpt2_vocab_bpe=files[1]))
    number = json.loads(Path(files[0]).read_text(encoding="utf-8"))
    assert made.encode("a cat's") == " ".join(str(number[piece]) for piece in ["a", "Ġcat", "'s"])
    assert made.is_beginning_of_word(str(number["Ġcat"]))
    assert not made.is_beginning_of_word(str(number["at"]))


@pytest.mark.parametrize(
    "text", ["", "  two  spaces\tand\n lines ", "naïve 日本語 👩‍👧 3.5%", "x" * 40, "I'll we've 12ab"]
)
def test_gpt2_loses_nothing(files: tuple[str, str], text: str) -> None:
    made = Gpt2(Gpt2Config(gpt2_encoder_json=files[0], gpt2_vocab_bpe=files[1]))
    assert made.decode(made.encode(text)) == text


def test_gpt2_decodes_what_is_no_number_as_itself(files: tuple[str, str]) -> None:
    made = Gpt2(Gpt2Config(gpt2_encoder_json=files[0], gpt2_vocab_bpe=files[1]))
    assert made.decode(f"{made.encode('a cat')} <unk> {made.encode('a')}") == "a cat<unk>a"


def test_gpt2_downloads_nothing() -> None:
    with pytest.raises(ConfigError, match=r"gpt2_encoder_json=https.*downloads nothing; fetch that file yourself"):
        Gpt2(Gpt2Config())


def test_hf_byte_bpe_can_put_a_space_in_front(files: tuple[str, str]) -> None:
    plain = HfByteBpe(HfByteBpeConfig(bpe_vocab=files[0], bpe_merges=files[1]))
    spaced = HfByteBpe(HfByteBpeConfig(bpe_vocab=files[0], bpe_merges=files[1], bpe_add_prefix_space=True))
    assert spaced.encode("cat cat") == plain.encode(" cat cat")
    assert spaced.encode(" cat") == plain.encode(" cat")
    assert spaced.decode(spaced.encode("cat")) == " cat"
    assert plain.is_beginning_of_word(spaced.encode("cat"))


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is not JSON"), ("[1]", "must be one JSON object"), ('{"a": "b"}', "must be one JSON object")],
)
def test_a_damaged_vocabulary(files: tuple[str, str], tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        Gpt2(Gpt2Config(gpt2_encoder_json=str(tmp_path / "bad.json"), gpt2_vocab_bpe=files[1]))


def test_damaged_merges(files: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "bad.bpe").write_text("#version: 0.2\na b\na b c\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 3: 'a b c' is not two symbols"):
        Gpt2(Gpt2Config(gpt2_encoder_json=files[0], gpt2_vocab_bpe=str(tmp_path / "bad.bpe")))
    (tmp_path / "empty.bpe").write_text("#version: 0.2\n", encoding="utf-8")
    with pytest.raises(DataError, match="holds no merges"):
        read_merges(tmp_path / "empty.bpe", "bpe.bpe_merges")


def test_files_that_do_not_belong_together(files: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "small.json").write_text('{"a": 0}', encoding="utf-8")
    made = Gpt2(Gpt2Config(gpt2_encoder_json=str(tmp_path / "small.json"), gpt2_vocab_bpe=files[1]))
    with pytest.raises(DataError, match=r"small\.json has no piece 'b'; it and the merges are not a pair"):
        made.encode("ab")
