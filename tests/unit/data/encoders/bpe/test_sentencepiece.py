"""sentencepiece and byte_bpe, with models trained on the spot."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import pytest

from seqkit.data.encoders.bpe._byte_characters import to_byte_characters
from seqkit.data.encoders.bpe.byte_bpe import ByteBpe, ByteBpeConfig
from seqkit.data.encoders.bpe.sentencepiece import Sentencepiece, SentencepieceConfig
from seqkit.errors import ConfigError, DataError

LINES = ["the cat sat on the mat", "the dog sat on the cat", "naïve cats and dogs", "a cat is not a dog"] * 5


def train(path: Path, lines: list[str], size: int, kind: str) -> str:
    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=size,
        model_type=kind,
        character_coverage=1.0,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    path.write_bytes(model.getvalue())
    return str(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return train(tmp_path_factory.mktemp("spm") / "unigram.model", LINES, 23, "unigram")


def test_encode_and_decode(model: str) -> None:
    made = Sentencepiece(SentencepieceConfig(sentencepiece_model=model))
    encoded = made.encode("the cat is naïve")
    assert encoded.startswith("▁")
    assert made.decode(encoded) == "the cat is naïve"
    assert made.encode("") == ""
    assert made.encode("the cat is naïve") == encoded


def test_sampling_draws_other_segmentations_of_the_same_text(model: str) -> None:
    made = Sentencepiece(
        SentencepieceConfig(sentencepiece_model=model, sentencepiece_enable_sampling=True, sentencepiece_alpha=0.1)
    )
    drawn = {made.encode("the dog sat on the cat") for _ in range(50)}
    assert len(drawn) > 1
    assert {made.decode(encoded) for encoded in drawn} == {"the dog sat on the cat"}


def test_beginnings_of_words(model: str) -> None:
    made = Sentencepiece(SentencepieceConfig(sentencepiece_model=model))
    assert made.is_beginning_of_word("▁the")
    assert made.is_beginning_of_word("<unk>")
    assert not made.is_beginning_of_word("at")


def test_it_goes_to_workers(model: str) -> None:
    made = pickle.loads(pickle.dumps(Sentencepiece(SentencepieceConfig(sentencepiece_model=model))))
    assert made.decode(made.encode("a cat")) == "a cat"


def test_byte_bpe(tmp_path: Path) -> None:
    path = train(tmp_path / "bytes.model", [to_byte_characters(line) for line in LINES], 50, "bpe")
    made = ByteBpe(ByteBpeConfig(sentencepiece_model_path=path))
    assert made.decode(made.encode("the naïve  cat")) == " the naïve cat"
    assert made.is_beginning_of_word("▁the")


def test_models_that_cannot_be_read(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.model"
    damaged.write_text("no model", encoding="utf-8")
    with pytest.raises(DataError, match=r"bpe\.sentencepiece_model=.*cannot be read as a SentencePiece model"):
        Sentencepiece(SentencepieceConfig(sentencepiece_model=str(damaged)))
    with pytest.raises(DataError, match="does not exist; give the path of a SentencePiece model"):
        ByteBpe(ByteBpeConfig(sentencepiece_model_path=str(tmp_path / "nowhere.model")))
    with pytest.raises(ConfigError, match=r"bpe\.sentencepiece_model is not given"):
        Sentencepiece(SentencepieceConfig())
