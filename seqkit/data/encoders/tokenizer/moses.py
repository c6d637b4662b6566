"""The Moses tokenizer, by sacremoses.

Knows nothing of subwords.
"""

from __future__ import annotations

from dataclasses import dataclass

from seqkit.config.base import Config, option
from seqkit.data.encoders.base import TextEncoder, register_tokenizer
from seqkit.errors import require_extra


@dataclass
class MosesConfig(Config):
    source_lang: str = option("en", "language that is tokenized (de, en, fr, …)")
    target_lang: str = option("en", "language that is put together again")
    moses_no_dash_splits: bool = option(False, "leave dashes inside words alone")
    moses_no_escape: bool = option(False, "write & < > ' \" | [ ] as they are instead of as &amp; …")


@register_tokenizer("moses", config=MosesConfig)
class Moses(TextEncoder):
    """Splits off punctuation by the rules of the source language; joins by those of the target language."""

    config: MosesConfig

    def __init__(self, config: MosesConfig) -> None:
        super().__init__(config)
        sacremoses = require_extra("sacremoses", extra="moses", purpose="tokenizer=moses")
        self._tokenizer = sacremoses.MosesTokenizer(config.source_lang)
        self._detokenizer = sacremoses.MosesDetokenizer(config.target_lang)

    def encode(self, text: str) -> str:
        """Text to words."""
        return str(
            self._tokenizer.tokenize(
                text,
                aggressive_dash_splits=not self.config.moses_no_dash_splits,
                return_str=True,
                escape=not self.config.moses_no_escape,
            )
        )

    def decode(self, tokens: str) -> str:
        """Words to text."""
        return str(self._detokenizer.detokenize(tokens.split()))
