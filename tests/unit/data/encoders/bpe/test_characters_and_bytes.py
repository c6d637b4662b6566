"""characters and bytes: encoders without a model."""

from __future__ import annotations

import pytest

from seqkit.data.encoders.bpe._byte_characters import BYTE_CHARACTERS, from_byte_characters, to_byte_characters
from seqkit.data.encoders.bpe.bytes import Bytes, BytesConfig
from seqkit.data.encoders.bpe.characters import Characters, CharactersConfig


@pytest.mark.parametrize("text", ["", "a cat", " two  spaces ", "日本 語", "tab\there"])
def test_characters_come_back(text: str) -> None:
    made = Characters(CharactersConfig())
    assert made.decode(made.encode(text)) == text


def test_characters_mark_spaces() -> None:
    assert Characters(CharactersConfig()).encode("a cat") == "a ▁ c a t"


def test_bytes_are_printable_and_come_back() -> None:
    made = Bytes(BytesConfig())
    assert made.encode("é a") == "Ã © ▁ a"
    for text in ["", "a cat", "naïve — 日本語 👩‍👧"]:
        assert made.decode(made.encode(text)) == text
    assert made.decode(made.encode("two \t spaces\n")) == "two spaces "


def test_every_byte_has_a_character_of_its_own() -> None:
    assert len(set(BYTE_CHARACTERS.values())) == 256
    assert not any(character.isspace() for byte, character in BYTE_CHARACTERS.items() if byte != ord(" "))


@pytest.mark.parametrize(
    ("characters", "text"),
    [
        (to_byte_characters("日本")[:-1], "日"),
        (to_byte_characters("日本")[1:], "本"),
        (to_byte_characters("👩")[:3] + "ab", "ab"),
        ("☃ab", "ab"),
        (to_byte_characters("é")[1:], ""),
    ],
)
def test_broken_bytes_are_left_out(characters: str, text: str) -> None:
    assert from_byte_characters(characters) == text
