"""GPT-2's byte-level BPE (Radford et al., 2019): tokens are the numbers of its `encoder.json`.

Knows nothing of dictionaries, and downloads nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from seqkit.config.base import Config, option
from seqkit.data.encoders._files import model_file
from seqkit.data.encoders.base import TextEncoder, register_bpe
from seqkit.data.encoders.bpe._byte_level import ByteLevelCoder, read_merges, read_vocabulary

_ADDRESS = "https://dl.fbaipublicfiles.com/fairseq/gpt2_bpe"


@dataclass
class Gpt2Config(Config):
    gpt2_encoder_json: str = option(
        f"{_ADDRESS}/encoder.json", "local path of GPT-2's encoder.json (pieces and their numbers)"
    )
    gpt2_vocab_bpe: str = option(f"{_ADDRESS}/vocab.bpe", "local path of GPT-2's vocab.bpe (merges)")


@register_bpe("gpt2", config=Gpt2Config)
class Gpt2(TextEncoder):
    """Loses nothing: white space, case and unseen characters come back as they were."""

    config: Gpt2Config

    def __init__(self, config: Gpt2Config) -> None:
        super().__init__(config)
        vocabulary = model_file(config.gpt2_encoder_json, "bpe.gpt2_encoder_json", "GPT-2's encoder.json")
        merges = model_file(config.gpt2_vocab_bpe, "bpe.gpt2_vocab_bpe", "GPT-2's vocab.bpe")
        self._coder = ByteLevelCoder(
            read_vocabulary(vocabulary, "bpe.gpt2_encoder_json"),
            read_merges(merges, "bpe.gpt2_vocab_bpe"),
            str(vocabulary),
        )

    def encode(self, text: str) -> str:
        """Text to numbers."""
        return self._coder.encode(text)

    def decode(self, tokens: str) -> str:
        """Numbers to text."""
        return self._coder.decode(tokens.split())

    def is_beginning_of_word(self, token: str) -> bool:
        """A piece begins a word when it begins with a space."""
        return self._coder.begins_with_space(token)
