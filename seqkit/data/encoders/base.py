"""What every tokenizer and every subword encoder promises: text to tokens and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from seqkit.config.base import Config
from seqkit.registry import registry

register_bpe = registry("bpe").register
register_tokenizer = registry("tokenizer").register


class TextEncoder(ABC):
    """Base of tokenizers and subword encoders. `encode` gives tokens joined by single spaces."""

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def encode(self, text: str) -> str:
        """Text to space-separated tokens."""

    @abstractmethod
    def decode(self, tokens: str) -> str:
        """Space-separated tokens to text."""

    def is_beginning_of_word(self, token: str) -> bool:
        """Whether a token begins a word (for whole-word masking and word-level figures)."""
        return True


def build_tokenizer(config: Config | None) -> TextEncoder | None:
    """Build the tokenizer that `config._name` names; None without a config."""
    return _build("tokenizer", config)


def build_bpe(config: Config | None) -> TextEncoder | None:
    """Build the subword encoder that `config._name` names; None without a config."""
    return _build("bpe", config)


def _build(kind: str, config: Config | None) -> TextEncoder | None:
    if config is None or config._name is None:
        return None
    encoder: TextEncoder = registry(kind).get(config._name).cls(config)
    return encoder
