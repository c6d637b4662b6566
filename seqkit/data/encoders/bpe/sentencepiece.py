"""Subwords by SentencePiece (Kudo and Richardson, 2018), with subword sampling (Kudo, 2018).

Knows nothing of dictionaries; applies a model, does not train one.
"""

from __future__ import annotations

from dataclasses import dataclass

from seqkit.config.base import MISSING, Config, option
from seqkit.data.encoders.base import TextEncoder, register_bpe
from seqkit.data.encoders.bpe._sentencepiece import load_sentencepiece

_WORD_MARK = "\u2581"
_SPECIAL_SYMBOLS = frozenset({"<unk>", "<s>", "</s>", "<pad>"})


@dataclass
class SentencepieceConfig(Config):
    sentencepiece_model: str = option(MISSING, "SentencePiece model (the .model file)")
    sentencepiece_enable_sampling: bool = option(False, "draw a random segmentation each time instead of the best one")
    sentencepiece_alpha: float | None = option(
        None,
        "sharpness of the sampling (unigram models), or the share of merges left out (BPE models); "
        "SentencePiece's own default (0.1) when not given",
    )


@register_bpe("sentencepiece", config=SentencepieceConfig)
class Sentencepiece(TextEncoder):
    """Pieces of the model; `▁` at the start of a piece stands for the space before it."""

    config: SentencepieceConfig

    def __init__(self, config: SentencepieceConfig) -> None:
        super().__init__(config)
        self._processor = load_sentencepiece(config.sentencepiece_model, "bpe.sentencepiece_model")

    def encode(self, text: str) -> str:
        """Text to pieces."""
        if not self.config.sentencepiece_enable_sampling:
            return " ".join(self._processor.Encode(text, out_type=str))
        return " ".join(
            self._processor.Encode(text, out_type=str, enable_sampling=True, alpha=self.config.sentencepiece_alpha)
        )

    def decode(self, tokens: str) -> str:
        """Pieces to text."""
        return tokens.replace(" ", "").replace(_WORD_MARK, " ").strip()

    def is_beginning_of_word(self, token: str) -> bool:
        """Special symbols stand alone; other pieces begin a word when they begin with `▁`."""
        return token in _SPECIAL_SYMBOLS or token.startswith(_WORD_MARK)
