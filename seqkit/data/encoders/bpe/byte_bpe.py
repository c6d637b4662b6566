"""Subwords of bytes (Wang et al., 2020): a SentencePiece model over text written as byte characters.

Knows nothing of dictionaries; applies a model, does not train one.
"""

from __future__ import annotations

from dataclasses import dataclass

from seqkit.config.base import MISSING, Config, option
from seqkit.data.encoders.base import TextEncoder, register_bpe
from seqkit.data.encoders.bpe._byte_characters import SPACE_MARK, from_byte_characters, to_byte_characters
from seqkit.data.encoders.bpe._sentencepiece import load_sentencepiece


@dataclass
class ByteBpeConfig(Config):
    sentencepiece_model_path: str = option(MISSING, "SentencePiece model trained on text written as byte characters")


@register_bpe("byte_bpe", config=ByteBpeConfig)
class ByteBpe(TextEncoder):
    """Runs of white space become one space; decoding leaves out bytes that are not UTF-8.

    The space that SentencePiece puts before the first word stays in the decoded text, as in fairseq.
    """

    config: ByteBpeConfig

    def __init__(self, config: ByteBpeConfig) -> None:
        super().__init__(config)
        self._processor = load_sentencepiece(config.sentencepiece_model_path, "bpe.sentencepiece_model_path")

    def encode(self, text: str) -> str:
        """Text to pieces."""
        return " ".join(self._processor.Encode(to_byte_characters(text), out_type=str))

    def decode(self, tokens: str) -> str:
        """Pieces to text."""
        return from_byte_characters(tokens.replace(" ", "").replace(SPACE_MARK, " "))

    def is_beginning_of_word(self, token: str) -> bool:
        """Pieces begin a word when they begin with `▁`."""
        return token.startswith(SPACE_MARK)
