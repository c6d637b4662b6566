"""Turn a folder of Multi30k into data that `seqkit-train` reads: apply the BPE codes, then `seqkit-preprocess`.

    python examples/translation/prepare_multi30k.py MULTI30K OUT

`MULTI30K` holds `train.de`, `train.en`, `valid.*`, `test2016.*` (tokenised, lower-cased, one sentence per line) and
the subword-nmt merges `bpe8k.deen.codes`. `OUT/bpe` gets the split text, `OUT/data-bin` the binary data.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from seqkit.data.encoders.base import build_bpe
from seqkit.data.encoders.bpe.subword_nmt import SubwordNmtConfig
from seqkit_cli import preprocess

SPLITS = {"train": "train", "valid": "valid", "test": "test2016"}


def main() -> int:
    """Prepare the German-English pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("multi30k", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--codes", type=Path, help="merges (default: MULTI30K/bpe8k.deen.codes)")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    codes = arguments.codes or arguments.multi30k / "bpe8k.deen.codes"
    missing = [
        str(path)
        for path in [
            codes,
            *(arguments.multi30k / f"{name}.{side}" for name in SPLITS.values() for side in ("de", "en")),
        ]
        if not path.is_file()
    ]
    if missing:
        parser.error(f"these files are missing: {', '.join(missing)}")
    bpe = build_bpe(SubwordNmtConfig(_name="subword_nmt", bpe_codes=str(codes)))
    assert bpe is not None
    split_folder = arguments.out / "bpe"
    split_folder.mkdir(parents=True, exist_ok=True)
    for split, name in SPLITS.items():
        for side in ("de", "en"):
            source = arguments.multi30k / f"{name}.{side}"
            with (
                source.open(encoding="utf-8", newline="\n") as lines,
                (split_folder / f"{split}.{side}").open("w", encoding="utf-8", newline="\n") as out,
            ):
                out.writelines(f"{bpe.encode(line.rstrip())}\n" for line in lines)
    prefixes = [f"--{split}pref={split_folder / split}" for split in SPLITS]
    return preprocess.main(
        [
            "-s",
            "de",
            "-t",
            "en",
            *prefixes,
            "--joined-dictionary",
            "--workers",
            str(arguments.workers),
            "--destdir",
            str(arguments.out / "data-bin"),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
