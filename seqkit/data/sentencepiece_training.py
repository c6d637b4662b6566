"""Training a SentencePiece model (Kudo and Richardson, 2018) on a stream of sentences.

Knows nothing of files of text, dictionaries or languages.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

from seqkit.errors import UserError
from seqkit.files import atomic_write


def train_sentencepiece(
    sentences: Iterator[str],
    model: str | Path,
    *,
    vocab_size: int,
    model_type: str = "unigram",
    character_coverage: float = 1.0,
    split_digits: bool = False,
    input_sentences: int = 10_000_000,
    seed: int = 1,
) -> None:
    """Train a model and write it; the same sentences and options give the same model.

    Args:
        sentences: raw text, one sentence each.
        model: the `.model` file to write.
        vocab_size: number of pieces, SentencePiece's own three special ones included.
        model_type: `unigram`, `bpe` or `char`.
        character_coverage: share of the characters (by count) that get a piece.
        split_digits: every digit is a piece of its own.
        input_sentences: most sentences to train on; more are sampled down.
        seed: of that sampling.

    Raises:
        UserError: SentencePiece cannot make such a model of these sentences; its own words say why.
    """
    import sentencepiece

    sentencepiece.set_random_generator_seed(seed)
    written = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=sentences,
            model_writer=written,
            vocab_size=vocab_size,
            model_type=model_type,
            character_coverage=character_coverage,
            split_digits=split_digits,
            input_sentence_size=input_sentences,
            shuffle_input_sentence=True,
            num_threads=1,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        reason = str(error).rsplit("] ", 1)[-1].strip() or "it gives no reason"
        raise UserError(f"SentencePiece cannot train a {model_type} model of {vocab_size} pieces: {reason}") from error
    with atomic_write(model, "wb") as file:
        file.write(written.getvalue())
