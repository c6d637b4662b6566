from __future__ import annotations

import pytest

from seqkit.config.root import RootConfig
from seqkit.generation.output import HypothesisText, SentenceResult
from seqkit.scoring.bleu import Bleu, BleuConfig
from seqkit.scoring.wer import Wer, WerConfig
from seqkit_cli.generate import _score, _scores_pieces


def config(post_process: str | None = None, replace_unk: str | None = None) -> RootConfig:
    made = RootConfig()
    made.common_eval.post_process = post_process
    made.generation.replace_unk = replace_unk
    return made


@pytest.mark.parametrize(("post_process", "replace_unk"), [("subword_nmt", None), (None, ""), ("none", "words.txt")])
def test_words_are_scored_where_the_output_has_them(post_process: str | None, replace_unk: str | None) -> None:
    assert not _scores_pieces(Bleu(BleuConfig()), config(post_process, replace_unk))
    assert not _scores_pieces(Wer(WerConfig()), config())


def test_bleu_counts_the_subwords_that_were_not_undone_in_the_output() -> None:
    assert _scores_pieces(Bleu(BleuConfig()), config())
    best = HypothesisText("a lit@@ tle dog", "a little dog", [], 0.0, [])
    result = SentenceResult(0, None, "a little cat", [best], target_pieces="a lit@@ tle cat")
    of_pieces, of_words, of_nothing = Bleu(BleuConfig()), Bleu(BleuConfig()), Bleu(BleuConfig())
    _score(of_pieces, result, by_pieces=True)
    _score(of_words, result, by_pieces=False)
    assert (of_pieces.reference_length, of_words.reference_length) == (4, 3)
    assert of_pieces.precisions()[:2] == [3 / 4, 2 / 3]
    assert of_words.precisions()[:2] == [2 / 3, 1 / 2]
    _score(of_nothing, SentenceResult(0, None, None, [best]), by_pieces=True)
    assert of_nothing.reference_length == 0
