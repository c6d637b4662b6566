"""The options of `seqkit-preprocess`: fairseq-preprocess's names and defaults, and subword training.

Holds data only, so that `--help` answers at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from seqkit.config.base import Config, option


@dataclass
class PreprocessConfig(Config):
    """What to read, which dictionaries to build or take, and what to write."""

    source_lang: str | None = option(None, "source language: the ending of its files", flags=("-s", "--source-lang"))
    target_lang: str | None = option(None, "target language: the ending of its files", flags=("-t", "--target-lang"))
    trainpref: str | None = option(
        None, "training files without the language ending; several joined by commas become train, train1, …"
    )
    validpref: str | None = option(None, "validation files without the language ending; several joined by commas")
    testpref: str | None = option(None, "test files without the language ending; several joined by commas")
    align_suffix: str | None = option(
        None, "ending of files of word alignments beside the text (lines of '0-0 1-2 …'), which are binarized too"
    )
    destdir: str = option("data-bin", "folder to write")
    thresholdtgt: int = option(0, "target words counted less often than this become unknown", low=0)
    thresholdsrc: int = option(0, "source words counted less often than this become unknown", low=0)
    tgtdict: str | None = option(None, "target dictionary to take instead of building one")
    srcdict: str | None = option(None, "source dictionary to take instead of building one")
    nwordstgt: int = option(-1, "most target symbols to keep, special ones included; -1: all", low=-1)
    nwordssrc: int = option(-1, "most source symbols to keep, special ones included; -1: all", low=-1)
    alignfile: str | None = option(
        None, "word alignments of the training files, from which a table of translations is written (for unknown words)"
    )
    dataset_impl: str = option(
        "mmap",
        "format of the data: memory-mapped, fairseq's old format, or text",
        choices=("mmap", "cached", "lazy", "raw"),
    )
    joined_dictionary: bool = option(False, "one dictionary for both languages")
    only_source: bool = option(False, "there is no target (language models); files may have no language ending")
    padding_factor: int = option(8, "pad built dictionaries to a multiple of this; 0 or 1: do not", low=0)
    workers: int = option(1, "processes to use; they do not change the result", low=1)
    dict_only: bool = option(False, "write the dictionaries and stop")
    task: str = option("translation", "accepted as in fairseq; dictionaries are built alike for every task")
    user_dir: str | None = option(None, "folder of plugins (for tokenizers and subword encoders of your own)")
    tokenizer: str | None = option(None, "tokenizer to apply to each line; its options become flags")
    bpe: str | None = option(None, "subword encoder to apply to each line; its options become flags")
    bpe_codes: str | None = option(None, "subword codes to apply to each line; implies --bpe subword_nmt")
    train_sentencepiece: int | None = option(
        None, "train a SentencePiece model with this many pieces on the training files, and apply it to all", low=1
    )
    sentencepiece_model_type: str = option(
        "unigram", "kind of model that --train-sentencepiece trains", choices=("unigram", "bpe", "char")
    )
    sentencepiece_character_coverage: float = option(
        1.0, "share of the characters that the trained model knows (0.9995 for Chinese, Japanese)", low=0.9, high=1.0
    )
    sentencepiece_split_digits: bool = option(False, "the trained model makes every digit a piece of its own")
    sentencepiece_input_sentences: int = option(
        10_000_000, "most sentences (drawn at random) that --train-sentencepiece reads", low=1
    )


@dataclass
class PassedOverConfig(Config):
    """Flags of fairseq-preprocess that make no difference to what it writes; accepted so that old scripts run."""

    criterion: str | None = option(None, "makes no difference here")
    optimizer: str | None = option(None, "makes no difference here")
    lr_scheduler: str | None = option(None, "makes no difference here")
    scoring: str | None = option(None, "makes no difference here")
