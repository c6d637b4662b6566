import pytest

from seqkit.data.encoders.bpe.code_points import CodePoints, CodePointsConfig

TEXTS = [
    "",
    "a cat",
    " two  spaces ",
    "two\nlines\n",
    "<U+0020> as it stands",
    "日本\u3000語",
    "tab\there",
    "▁ \u2028 \x1c \x85",
]


@pytest.mark.parametrize("text", TEXTS)
def test_every_text_comes_back_and_every_character_is_a_token(text: str) -> None:
    encoder = CodePoints(CodePointsConfig())
    tokens = encoder.encode(text)
    assert len(tokens.split()) == len(text)
    assert encoder.decode(tokens) == text


def test_white_space_is_written_by_its_number() -> None:
    assert CodePoints(CodePointsConfig()).encode("a b\n") == "a <U+0020> b <U+000A>"


def test_unknown_symbols_stay() -> None:
    assert CodePoints(CodePointsConfig()).decode("a <unk> <U+0020> b") == "a<unk> b"
