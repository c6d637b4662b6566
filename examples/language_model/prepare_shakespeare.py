"""Turn a text into data for a language model of characters: nine tenths for training, the rest for validation.

    python examples/language_model/prepare_shakespeare.py INPUT.TXT OUT

`INPUT.TXT` is any text in UTF-8; for "tiny Shakespeare" see the README.md beside this file. `OUT/text` gets each part
as one line of characters, white space and line ends spelled out (`bpe=code_points`); `OUT/data-bin` the binary data.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from seqkit.data.encoders.bpe.code_points import CodePoints, CodePointsConfig
from seqkit_cli import preprocess

PUBLISHED = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"


def main() -> int:
    """Split, spell and binarise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    if not arguments.text.is_file():
        parser.error(f'{arguments.text} is not a file; "tiny Shakespeare" is at {PUBLISHED}')
    try:
        text = arguments.text.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        parser.error(f"{arguments.text} is not text in UTF-8: {error}")
    border = len(text) * 9 // 10
    if not 0 < border < len(text):
        parser.error(f"{arguments.text} has {len(text)} characters, too few for two parts")
    encoder = CodePoints(CodePointsConfig())
    folder = arguments.out / "text"
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", text[:border]), ("valid", text[border:])):
        (folder / name).write_text(encoder.encode(part) + "\n", encoding="utf-8")
        print(f"{name}: {len(part):,} characters, {len(set(part))} different ones")
    return preprocess.main(
        [
            "--only-source",
            f"--trainpref={folder / 'train'}",
            f"--validpref={folder / 'valid'}",
            # no made-up words: the model's vocabulary is the characters
            "--padding-factor=1",
            "--destdir",
            str(arguments.out / "data-bin"),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
