"""Byte-level BPE with the `vocab.json` and `merges.txt` that Hugging Face's tokenizers write.

Knows nothing of dictionaries; needs no other library.
"""

from __future__ import annotations

from dataclasses import dataclass

from seqkit.config.base import MISSING, Config, option
from seqkit.data.encoders._files import model_file
from seqkit.data.encoders.base import TextEncoder, register_bpe
from seqkit.data.encoders.bpe._byte_level import ByteLevelCoder, read_merges, read_vocabulary


@dataclass
class HfByteBpeConfig(Config):
    bpe_merges: str = option(MISSING, "merges.txt: one pair of pieces on each line")
    bpe_vocab: str = option(MISSING, "vocab.json: pieces and their numbers")
    bpe_add_prefix_space: bool = option(False, "put a space before a text that does not begin with one")


@register_bpe("hf_byte_bpe", config=HfByteBpeConfig)
class HfByteBpe(TextEncoder):
    """Tokens are the numbers of `vocab.json`; loses nothing (but for the space that was put in front)."""

    config: HfByteBpeConfig

    def __init__(self, config: HfByteBpeConfig) -> None:
        super().__init__(config)
        vocabulary = model_file(config.bpe_vocab, "bpe.bpe_vocab", "vocab.json (pieces and their numbers)")
        merges = model_file(config.bpe_merges, "bpe.bpe_merges", "merges.txt (one pair of pieces on each line)")
        self._coder = ByteLevelCoder(
            read_vocabulary(vocabulary, "bpe.bpe_vocab"), read_merges(merges, "bpe.bpe_merges"), str(vocabulary)
        )

    def encode(self, text: str) -> str:
        """Text to numbers."""
        if self.config.bpe_add_prefix_space and text and not text.startswith(" "):
            text = f" {text}"
        return self._coder.encode(text)

    def decode(self, tokens: str) -> str:
        """Numbers to text."""
        return self._coder.decode(tokens.split())

    def is_beginning_of_word(self, token: str) -> bool:
        """A piece begins a word when it begins with a space."""
        return self._coder.begins_with_space(token)
