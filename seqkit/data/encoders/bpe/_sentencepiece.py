"""Loading a SentencePiece model. Knows nothing of what is encoded with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seqkit.data.encoders._files import model_file
from seqkit.errors import DataError

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor


def load_sentencepiece(path: str, option: str) -> SentencePieceProcessor:
    """The processor of the model at `path`.

    Raises:
        DataError: no such file, or not a SentencePiece model.
    """
    from sentencepiece import SentencePieceProcessor

    file = model_file(path, option, "a SentencePiece model (the .model file)")
    try:
        return SentencePieceProcessor(model_file=str(file))
    except (RuntimeError, OSError) as error:
        raise DataError(f"{option}={path} cannot be read as a SentencePiece model: {error}") from error
