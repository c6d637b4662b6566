"""From folders of raw text to a `data-bin`: dictionaries, binarized splits, alignments, subword models.

Everything is written into a hidden folder inside the destination and moved to its place when all is done, so that a
failure leaves nothing behind. Knows nothing of the command line.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from seqkit.config.base import Config, default_of
from seqkit.data.binarizer import (
    BinarizeSummary,
    WorkerPool,
    add_counts,
    bad_alignment,
    binarize_alignments,
    binarize_file,
    count_file,
    parse_alignment,
)
from seqkit.data.dictionary import Dictionary
from seqkit.data.preprocess_config import PreprocessConfig
from seqkit.data.segmentation import Segmentation
from seqkit.data.text_file import count_lines, text_blocks
from seqkit.errors import ConfigError, DataError
from seqkit.files import atomic_write, sync_folder

Log = Callable[[str], str]
"""Shows a line of the log, and returns it as shown."""

_NOT_OF_WRITING = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
_ADVICE = {
    errno.ENOSPC: "free some space, or choose another --destdir",
    errno.EDQUOT: "free some space, or choose another --destdir",
    errno.EACCES: "choose a --destdir that you may write to",
    errno.EPERM: "choose a --destdir that you may write to",
    errno.EROFS: "choose a --destdir that you may write to",
    errno.ENOTDIR: "choose a --destdir that is a folder",
    errno.EEXIST: "choose a --destdir that is a folder",
}


@dataclass(frozen=True)
class Split:
    """One file pair to binarize: its name in the destination and where its text is, without the language ending."""

    name: str
    prefix: str

    def file(self, language: str | None) -> str:
        """Path of the text in a language (of the text itself where there are no languages)."""
        return self.prefix if language is None else f"{self.prefix}.{language}"


def preprocess(
    config: PreprocessConfig, *, log: Log, tokenizer: Config | None = None, bpe: Config | None = None
) -> None:
    """Do all that `seqkit-preprocess` does.

    Args:
        config: see `PreprocessConfig`.
        log: shows each line of the log; what it returns is appended to `preprocess.log` in the destination.
        tokenizer, bpe: configs of what is applied to each line first.

    Raises:
        ConfigError: options that are missing or contradict each other; all in one message.
        DataError: input that is missing, damaged or does not fit, or a destination that cannot be written.
    """
    check_options(config)
    with _destination(config.destdir) as staging, WorkerPool(config.workers) as pool:
        _Preprocess(config, staging, pool, log, tokenizer, bpe).run()


def check_options(config: PreprocessConfig) -> None:
    """Check the options against each other.

    Raises:
        ConfigError: everything that is wrong.
    """
    problems = []
    languages = (("--source-lang", config.source_lang), ("--target-lang", config.target_lang))
    missing = [flag for flag, language in languages if language is None]
    if not config.only_source and missing:
        problems.append(f"{' and '.join(missing)} must be given (or --only-source, for text without a target)")
    elif not config.only_source and config.source_lang == config.target_lang:
        problems.append(f"--source-lang and --target-lang are both {config.source_lang!r}; give two different endings")
    if config.joined_dictionary and config.srcdict and config.tgtdict:
        problems.append("--joined-dictionary takes --srcdict or --tgtdict, not both: the dictionary is the same")
    elif config.joined_dictionary and config.only_source and not (config.srcdict or config.tgtdict or not missing):
        problems.append(f"--joined-dictionary builds the dictionary from both languages; give {' and '.join(missing)}")
    if config.only_source and config.alignfile:
        problems.append("--alignfile needs a target; leave --only-source out")
    if config.only_source and config.align_suffix:
        problems.append("--align-suffix needs a target; leave --only-source out")
    if not (config.trainpref or config.validpref or config.testpref):
        problems.append("there is nothing to do: give --trainpref, --validpref or --testpref")
    elif not config.trainpref:
        if config.joined_dictionary and not (config.srcdict or config.tgtdict):
            problems.append("--trainpref must be given where there is no dictionary (--srcdict) to take")
        elif not config.joined_dictionary:
            given = {"--srcdict": config.srcdict, "--tgtdict": config.tgtdict or config.only_source}
            absent = [flag for flag, value in given.items() if not value]
            problems += [f"--trainpref must be given where there is no {flag} to take" for flag in absent]
        if config.alignfile:
            problems.append("--alignfile needs --trainpref, the text that is aligned")
        if config.train_sentencepiece:
            problems.append("--train-sentencepiece needs --trainpref, the text to train on")
    if config.train_sentencepiece and (config.bpe or config.bpe_codes):
        problems.append("--train-sentencepiece makes the subwords; leave --bpe and --bpe-codes out")
    if problems:
        raise ConfigError(problems)


class _Preprocess:
    """One run: reads by `config`, writes into `staging`."""

    def __init__(
        self,
        config: PreprocessConfig,
        staging: Path,
        pool: WorkerPool,
        log: Log,
        tokenizer: Config | None,
        bpe: Config | None,
    ) -> None:
        self.config = config
        self.staging = staging
        self.pool = pool
        self.source, self.target = config.source_lang, config.target_lang
        self.languages = [self.source] if config.only_source else [self.source, self.target]
        self.pair = f"{self.source}-{self.target}"
        self.train = _splits("train", config.trainpref)
        self.splits = [*self.train, *_splits("valid", config.validpref), *_splits("test", config.testpref)]
        self.segmentation = {
            language: Segmentation(_for_language(tokenizer, language), bpe, config.user_dir)
            for language in (self.source, self.target)
        }
        self.lines: list[str] = []
        self._log = log

    def log(self, line: str) -> None:
        self.lines.append(self._log(line))

    def run(self) -> None:
        self.log(_options_given(self.config))
        self._check_input()
        if self.config.train_sentencepiece:
            self._train_sentencepiece()
        dictionaries = self._dictionaries()
        for language, dictionary in dictionaries.items():
            dictionary.save(self.staging / _dictionary_name(language))
        if not self.config.dict_only:
            for language in self.languages:
                for split in self.splits:
                    self._write_split(split, language, dictionaries[language])
            if self.config.align_suffix:
                for split in self.splits:
                    self._write_alignments(split)
            if self.config.alignfile:
                self._write_translation_table(dictionaries)
        self.log(f"Wrote preprocessed data to {self.config.destdir}")
        _append_log(Path(self.config.destdir) / "preprocess.log", self.staging / "preprocess.log", self.lines)

    # input

    def _check_input(self) -> None:
        """Missing, empty and mismatched files, found before the work begins."""
        for split in self.splits:
            if self.config.dict_only and split not in self.train:
                continue
            lines = {split.file(language): count_lines(split.file(language)) for language in self.languages}
            if self.config.align_suffix and os.path.exists(f"{split.prefix}.{self.config.align_suffix}"):
                path = f"{split.prefix}.{self.config.align_suffix}"
                lines[path] = count_lines(path)
            for path, count in lines.items():
                if count == 0:
                    raise DataError(f"{path!r} is empty; there is nothing to preprocess")
            _check_same_lines(lines)
        if self.config.alignfile:
            path = self.config.alignfile
            train = self.train[0].file(self.source)
            _check_same_lines({train: count_lines(train), path: count_lines(path)})
        for language, given in self._given_dictionaries().items():
            path = os.path.join(self.config.destdir, _dictionary_name(language))
            if given is None and os.path.exists(path):
                flag = "--srcdict" if language == self.source else "--tgtdict"
                raise DataError(
                    f"{path!r} exists already, and data made with it would not fit a new one; give {flag} {path} "
                    "to use it again, another --destdir, or delete it"
                )

    # dictionaries

    def _given_dictionaries(self) -> dict[str | None, str | None]:
        config = self.config
        if config.joined_dictionary:
            return dict.fromkeys(self.languages, config.srcdict or config.tgtdict)
        return dict(zip(self.languages, (config.srcdict, config.tgtdict), strict=False))

    def _dictionaries(self) -> dict[str | None, Dictionary]:
        if self.config.joined_dictionary:
            return dict.fromkeys(self.languages, self._dictionary([self.source, self.target]))
        return {language: self._dictionary([language]) for language in self.languages}

    def _dictionary(self, languages: list[str | None]) -> Dictionary:
        """The dictionary of some languages: the one given, or one built from the training files."""
        given = self._given_dictionaries()[languages[0]]
        if given is not None:
            return Dictionary.load(given)
        counter: Counter[str] = Counter()
        for language in languages:
            for split in self.train:
                path, segmentation = split.file(language), self.segmentation[language]
                counter.update(count_file(path, segmentation=segmentation, pool=self.pool))
        if not counter:
            files = ", ".join(repr(split.file(language)) for language in languages for split in self.train)
            raise DataError(f"{files}: there are only empty lines; a dictionary needs words")
        dictionary = Dictionary()
        add_counts(dictionary, counter)
        source = languages[0] == self.source
        dictionary.finalize(
            threshold=self.config.thresholdsrc if source else self.config.thresholdtgt,
            nwords=self.config.nwordssrc if source else self.config.nwordstgt,
            padding_factor=self.config.padding_factor,
        )
        return dictionary

    # data

    def _write_split(self, split: Split, language: str | None, dictionary: Dictionary) -> None:
        path, segmentation = split.file(language), self.segmentation[language]
        if self.config.dataset_impl == "raw":
            ending = "" if language is None else f".{language}"
            _copy_text(path, self.staging / f"{split.name}.{self.pair}{ending}", segmentation)
            return
        self.log(f"[{language}] Dictionary: {len(dictionary)} types")
        name = split.name if language is None else f"{split.name}.{self.pair}.{language}"
        summary = binarize_file(
            path,
            self.staging / name,
            dictionary,
            impl=self.config.dataset_impl,
            segmentation=segmentation,
            pool=self.pool,
        )
        self.log(f"[{language}] {path}: {_describe(summary, dictionary)}")

    def _write_alignments(self, split: Split) -> None:
        path = f"{split.prefix}.{self.config.align_suffix}"
        if os.path.exists(path):
            prefix = self.staging / f"{split.name}.align.{self.pair}"
            summary = binarize_alignments(path, prefix, impl=self.config.dataset_impl)
            self.log(f"[alignments] {path}: parsed {summary.lines} alignments")

    def _write_translation_table(self, dictionaries: dict[str | None, Dictionary]) -> None:
        """For each source word its most frequent aligned target word; the first met where counts are equal."""
        counts: dict[str, Counter[str]] = {}
        assert self.config.alignfile is not None
        split = self.train[0]
        texts = [_lines(split.file(language), self.segmentation[language]) for language in (self.source, self.target)]
        known = [dictionaries[language].indices for language in (self.source, self.target)]
        for number, (line, *texts_line) in enumerate(zip(_lines(self.config.alignfile), *texts, strict=True), start=1):
            source, target = (text.split() for text in texts_line)
            try:
                pairs = parse_alignment(line)
            except ValueError as error:
                raise bad_alignment(self.config.alignfile, number, str(error)) from None
            for i, j in pairs:
                if i >= len(source) or j >= len(target):
                    raise DataError(
                        f"{self.config.alignfile!r}, line {number}: {i}-{j} points beyond the sentence pair, which has "
                        f"{len(source)} and {len(target)} words"
                    )
                if source[i] in known[0] and target[j] in known[1]:
                    counts.setdefault(source[i], Counter())[target[j]] += 1
        with atomic_write(self.staging / f"alignment.{self.pair}.txt", "w", encoding="utf-8", newline="\n") as file:
            for word, translations in counts.items():
                file.write(f"{word} {translations.most_common(1)[0][0]}\n")

    # subwords

    def _train_sentencepiece(self) -> None:
        from seqkit.data.encoders.bpe.sentencepiece import SentencepieceConfig
        from seqkit.data.sentencepiece_training import train_sentencepiece

        config = self.config
        groups = [self.languages] if config.joined_dictionary else [[language] for language in self.languages]
        for languages in groups:
            name = "spm" if config.joined_dictionary or languages[0] is None else f"spm.{languages[0]}"
            sentences = (
                line
                for language in languages
                for split in self.train
                for line in _lines(split.file(language), self.segmentation[language])
            )
            assert config.train_sentencepiece is not None
            train_sentencepiece(
                sentences,
                self.staging / f"{name}.model",
                vocab_size=config.train_sentencepiece,
                model_type=config.sentencepiece_model_type,
                character_coverage=config.sentencepiece_character_coverage,
                split_digits=config.sentencepiece_split_digits,
                input_sentences=config.sentencepiece_input_sentences,
            )
            self.log(f"[{name}] trained {config.train_sentencepiece} SentencePiece pieces")
            bpe = SentencepieceConfig(sentencepiece_model=str(self.staging / f"{name}.model"))
            bpe._name = "sentencepiece"
            for language in languages:
                self.segmentation[language] = dataclasses.replace(self.segmentation[language], bpe=bpe)


def _options_given(config: PreprocessConfig) -> str:
    """The options that are not at their defaults, for the log."""
    values = ((item, getattr(config, item.name)) for item in dataclasses.fields(config))
    given = [f"{item.name}={value!r}" for item, value in values if value != default_of(item)]
    return f"PreprocessConfig({', '.join(given)})"


def _splits(name: str, prefixes: str | None) -> list[Split]:
    """`a,b` as `train` and `train1`."""
    parts = prefixes.split(",") if prefixes else []
    return [Split(f"{name}{number or ''}", prefix) for number, prefix in enumerate(parts)]


def _dictionary_name(language: str | None) -> str:
    return "dict.txt" if language is None else f"dict.{language}.txt"


def _for_language(tokenizer: Config | None, language: str | None) -> Config | None:
    """A tokenizer's config with its own language, if it has one, set to that of the file."""
    if tokenizer is None or language is None:
        return tokenizer
    if "source_lang" not in {item.name for item in dataclasses.fields(tokenizer)}:
        return tokenizer
    return dataclasses.replace(tokenizer, source_lang=language)  # type: ignore[call-arg]


def _check_same_lines(lines: dict[str, int]) -> None:
    if len(set(lines.values())) > 1:
        counts = ", ".join(f"{path!r} has {count}" for path, count in lines.items())
        raise DataError(f"files that belong together differ in their number of lines: {counts}")


def _describe(summary: BinarizeSummary, dictionary: Dictionary) -> str:
    return (
        f"{summary.lines} sents, {summary.tokens} tokens, "
        f"{summary.replaced_percent:.3}% replaced (by {dictionary.unk_word})"
    )


def _lines(path: str, segmentation: Segmentation | None = None) -> Iterator[str]:
    for block in text_blocks(path):
        yield from (segmentation.apply(block) if segmentation else block).split("\n")[:-1]


def _copy_text(path: str, target: Path, segmentation: Segmentation) -> None:
    """Copy a file byte for byte, having checked that it is UTF-8; encode its lines if there is an encoder."""
    if segmentation:
        with atomic_write(target, "w", encoding="utf-8", newline="\n") as file:
            for block in text_blocks(path):
                file.write(segmentation.apply(block))
        return
    for _ in text_blocks(path):
        pass
    with open(path, "rb") as source, atomic_write(target, "wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)


def _append_log(old: Path, new: Path, lines: list[str]) -> None:
    earlier = old.read_text(encoding="utf-8") if old.exists() else ""
    with atomic_write(new, "w", encoding="utf-8", newline="\n") as file:
        file.write(earlier)
        file.writelines(f"{line}\n" for line in lines)


@contextlib.contextmanager
def _destination(destdir: str) -> Iterator[Path]:
    """A hidden folder in the destination, whose files move to the destination at the end.

    Whatever goes wrong, the hidden folder is removed, and with it the folders that were made for it.
    """
    target = Path(destdir)
    made: list[Path] = []
    staging: Path | None = None
    done = False
    try:
        for folder in [*reversed(target.parents), target]:
            if not folder.is_dir():
                folder.mkdir()
                made.append(folder)
        staging = Path(tempfile.mkdtemp(prefix=".seqkit-preprocess.", dir=target))
        yield staging
        for path in sorted(staging.iterdir()):
            os.replace(path, target / path.name)
        sync_folder(target)
        done = True
    except OSError as error:
        if error.errno is None or error.errno in _NOT_OF_WRITING:
            raise
        advice = _ADVICE.get(error.errno, "choose another --destdir")
        raise DataError(f"cannot write to {destdir!r}: {os.strerror(error.errno)}; {advice}") from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
        for folder in [] if done else reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()
