from __future__ import annotations

import pytest

from seqkit.data.post_process import POST_PROCESS_NAMES, post_process
from seqkit.errors import UserError


@pytest.mark.parametrize(
    ("text", "symbol", "expected"),
    [
        ("lo@@ wer lo@@ w", None, "lo@@ wer lo@@ w"),
        ("lo@@ wer lo@@ w", "none", "lo@@ wer lo@@ w"),
        ("lo@@ wer lo@@ w", "subword_nmt", "lower low"),
        ("lo@@ wer lo@@ w", "@@ ", "lower low"),
        ("lo@@ wer lo@@", "@@ ", "lower lo"),
        ("lo@@ wer", "@@", "lo wer"),
        ("\u2581lo wer \u2581low", "sentencepiece", "lower low"),
        ("_lo wer _low", "wordpiece", "lower low"),
        ("l o w | e r |", "letter", "low er"),
        ("l o w _EOW e r _EOW", "_EOW", "low er"),
        ("low <SIL>  er <SIL>", "silence", "low er"),
        ("", "sentencepiece", ""),
    ],
)
def test_pieces_become_words(text: str, symbol: str | None, expected: str) -> None:
    assert post_process(text, symbol) == expected


def test_unknown_symbol_names_near_matches() -> None:
    with pytest.raises(UserError, match="unknown post_process symbol 'sentencepeice'; did you mean 'sentencepiece'"):
        post_process("a", "sentencepeice")


def test_unknown_symbol_without_near_match_lists_all() -> None:
    with pytest.raises(UserError) as error:
        post_process("a", "xyzzy")
    assert all(repr(name) in str(error.value) for name in POST_PROCESS_NAMES)
