"""Tokenizer and subword encoder together, applied to blocks of lines; can be sent to other processes.

Knows nothing of dictionaries or files of text.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from seqkit.config.base import Config
from seqkit.data.encoders.base import TextEncoder, build_bpe, build_tokenizer
from seqkit.registry import import_user_dir


@dataclass(frozen=True)
class Segmentation:
    """What is done to each line before it is split into words.

    Args:
        tokenizer: config of the tokenizer, or None.
        bpe: config of the subword encoder, applied after the tokenizer, or None.
        user_dir: folder of plugins that may hold them.
    """

    tokenizer: Config | None = None
    bpe: Config | None = None
    user_dir: str | None = None

    @cached_property
    def _encoders(self) -> list[TextEncoder]:
        if self.user_dir is not None:
            import_user_dir(self.user_dir)
        encoders = (build_tokenizer(self.tokenizer), build_bpe(self.bpe))
        return [encoder for encoder in encoders if encoder is not None]

    def __getstate__(self) -> tuple[Config | None, Config | None, str | None]:
        return self.tokenizer, self.bpe, self.user_dir

    def __setstate__(self, state: tuple[Config | None, Config | None, str | None]) -> None:
        for name, value in zip(("tokenizer", "bpe", "user_dir"), state, strict=True):
            object.__setattr__(self, name, value)

    def __bool__(self) -> bool:
        return self.tokenizer is not None or self.bpe is not None

    def apply(self, text: str) -> str:
        """Encode each line of a block of lines that each end in `\\n`."""
        if not self:
            return text
        lines = text.split("\n")[:-1]
        for encoder in self._encoders:
            lines = list(map(encoder.encode, lines))
        return "".join([f"{line}\n" for line in lines])
