"""Decoding: the lines that fairseq-generate and fairseq-interactive printed, through seqkit's own commands."""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqkit.errors import UserError
from seqkit.generation.alignment import replace_unk
from seqkit.generation.search.sampling import likeliest
from seqkit.hub import Hub
from seqkit.interop.fairseq.flags import to_root_config
from seqkit_cli.generate import generate
from seqkit_cli.interactive import interactive
from tests.parity.loader import Case, separated

TIE = 1e-4
"""Hypotheses whose scores differ by less than this may stand in either order, as every case's tolerance says."""
COMMANDS = {"fairseq-generate": ("generate", generate), "fairseq-interactive": ("interactive", interactive)}
_OF_HYPOTHESES = ("H", "D", "P", "A", "I")
"""Kinds of lines of which every hypothesis has one."""
_OF_SEARCH = (
    *("--prefix-size", "--sampling-topk", "--sampling-topp", "--lm-path", "--lm-weight"),
    *("--diverse-beam-groups", "--diverse-beam-strength", "--diversity-rate"),
)
"""Options of searches, with a value, that mean nothing where references are scored."""
UNKNOWN_COMPONENT = re.compile(r"unknown (task|model|criterion|scoring|bpe|tokenizer) '\w+'")
NOT_OFFERED = re.compile(r"model\.\w+=\S+ cannot be used: .* not in this version of seqkit")
KNOWN = {
    "what",
    "area",
    "tool",
    "stdin",
    "expected",
    "final_line",
    "n_hypotheses",
    "kept_lines",
    "tolerance",
    "versions",
    "informational",
}


@dataclass
class Sentence:
    """The lines of one sentence, by kind; the kinds of hypotheses have one entry for each."""

    lines: dict[str, list[str]] = field(default_factory=dict)

    def scores(self) -> list[float]:
        return [float(line.split("\t")[0]) for line in self.lines.get("H", [])]


@dataclass
class Printed:
    """What a command printed."""

    sentences: dict[int, Sentence]
    closing: list[str]

    def hypotheses(self) -> Iterator[list[str]]:
        for sentence in self.sentences.values():
            for line in sentence.lines.get("H", []):
                yield line.split("\t")[1].split()


def run(case: Case) -> None:
    """Run the recorded command line, or the recorded function."""
    spec = case.spec
    if "tool" not in spec:
        _run_kind(case)
        return
    flags_key = f"flags (cwd = {case.area_folder.name}/)"
    unknown = sorted(set(spec) - KNOWN - {flags_key})
    assert not unknown, f"case.json has keys that this adapter does not know: {unknown}"
    assert spec["tool"] in COMMANDS, f"unknown tool {spec['tool']!r}"
    flags = separated(spec[flags_key])
    recorded = parse((case.folder / spec["expected"]).read_text(encoding="utf-8"))
    assert recorded.closing == spec["final_line"], "the closing lines of case.json and of the recorded output differ"
    printed = sum(len(sentence.lines.get("H", [])) for sentence in recorded.sentences.values())
    assert printed == spec["n_hypotheses"], f"{printed} hypotheses are recorded, case.json says {spec['n_hypotheses']}"
    size = _number(flags, "--no-repeat-ngram-size")
    if size:
        # fairseq's blocking without its CUDA extension looks at the wrong tokens (its issue 5206) and does nothing:
        # what was recorded is a search without blocking. Ours blocks.
        ours = run_command(case, flags)
        assert not any(_repeats(words, size) for words in ours.hypotheses()), f"an n-gram of {size} words is repeated"
        flags = without(flags, "--no-repeat-ngram-size")
    flags = _without_passed_over(case, flags)
    if "--sampling" in flags:
        _compare_samples(flags, run_command(case, flags), recorded, case)
        return
    compare(case, flags, run_command(case, flags), recorded)


def _without_passed_over(case: Case, flags: list[str]) -> list[str]:
    """The flags without those that fairseq passes over in silence; seqkit refuses them, or heeds them."""
    if _number(flags, "--nbest") > (_number(flags, "--beam") or 5):
        flags = [*without(flags, "--nbest"), "--nbest", str(_number(flags, "--beam") or 5)]
    if "--score-reference" in flags:
        # how outputs are searched for has no bearing on given ones; seqkit says so
        for flag in _OF_SEARCH:
            flags = without(flags, flag) if flag in flags else flags
        flags = [flag for flag in flags if flag not in ("--sampling", "--match-source-len")]
    if "--sampling-topk" in flags and "--sampling-topp" in flags:
        flags = without(flags, "--sampling-topk")
    if COMMANDS[case.spec["tool"]][0] == "interactive":
        for flag in ("--prefix-size", "--lm-path", "--lm-weight"):
            flags = without(flags, flag) if flag in flags else flags
    elif "--lm-weight" in flags and "--lm-path" not in flags:
        flags = without(flags, "--lm-weight")
    return flags


def run_command(case: Case, flags: list[str]) -> Printed:
    """Run seqkit's command with fairseq's flags from the area's folder, in this process."""
    shards = _number(flags, "--num-shards") or 1
    if shards > 1:
        # fairseq-generate takes no notice of these flags and prints all sentences
        flags = without(without(flags, "--num-shards"), "--shard-id")
        parts = [
            run_command_once(case, [*flags, "--num-shards", str(shards), "--shard-id", str(shard)])
            for shard in range(shards)
        ]
        sentences = {number: sentence for part in parts for number, sentence in part.sentences.items()}
        assert len(sentences) == sum(len(part.sentences) for part in parts), "two shards have a sentence in common"
        return Printed(sentences, [])
    return run_command_once(case, flags)


def run_command_once(case: Case, flags: list[str]) -> Printed:
    command, main = COMMANDS[case.spec["tool"]]
    output = io.StringIO()
    threads = torch.get_num_threads()
    try:
        with _folder(case.area_folder), _input(case.spec["stdin"]), contextlib.redirect_stdout(output):
            config = to_root_config(command, flags)
            # fairseq takes the batch's padded width for the source's length, and writes on behind ended hypotheses
            for option in ("max_len_per_batch", "diverse_beam_reopen_ended"):
                setattr(config.generation, option, True)
                config.given.setdefault("generation", {})[option] = True
            config.given.setdefault("common", {})["log_format"] = "none"
            config.common.log_format = "none"
            torch.set_num_threads(1)
            assert main(config) == 0
    except UserError as error:
        reason = _later(str(error))
        if reason is not None:
            case.not_built(reason)
        raise
    finally:
        torch.set_num_threads(threads)
    return parse(output.getvalue())


def _later(message: str) -> str | None:
    """Why a refusal means a part of a later issue; None where it does not."""
    for line in message.splitlines():
        unknown = UNKNOWN_COMPONENT.search(line) or NOT_OFFERED.search(line)
        if unknown:
            return unknown[0]
    return None


def parse(text: str) -> Printed:
    """The lines of a command's output, by sentence and kind."""
    sentences: dict[int, Sentence] = {}
    closing: list[str] = []
    for line in text.split("\n"):
        match = re.match(r"([A-Z])-(\d+)(?:_\d+)?\t", line)
        if match is None:
            if line:
                closing.append(line)
            continue
        sentence = sentences.setdefault(int(match[2]), Sentence())
        sentence.lines.setdefault(match[1], []).append(line[match.end() :])
    return Printed(sentences, closing)


def compare(case: Case, flags: list[str], ours: Printed, recorded: Printed) -> None:
    """Every recorded sentence must be printed by us, with equal text and scores within the tolerance."""
    tolerance = case.spec["tolerance"]
    assert set(tolerance) == {"score_atol", "positional_atol", "text"}, f"unknown tolerance {tolerance}"
    missing = sorted(set(recorded.sentences) - set(ours.sentences))
    assert not missing, f"no output for the sentences {missing[:5]} ({len(missing)} in all)"
    if "--num-shards" not in flags:
        common = [number for number in ours.sentences if number in recorded.sentences]
        assert common == list(recorded.sentences), "the sentences come in another order"
    for number, sentence in recorded.sentences.items():
        _compare_sentence(number, ours.sentences[number], sentence, tolerance, flags)
    complete = set(ours.sentences) == set(recorded.sentences) and "--num-shards" not in flags
    # fairseq keeps its own BLEU under --sacrebleu; and with --quiet there are no sentences to see which were scored
    everything_scored = complete and ("--quiet" not in flags or _number(flags, "--required-batch-size-multiple") == 1)
    if everything_scored and "--sacrebleu" not in flags:
        assert ours.closing == recorded.closing, f"{ours.closing}, recorded {recorded.closing}"


def _comparable(number: int, ours: Sentence, recorded: Sentence, flags: list[str]) -> tuple[Sentence, Sentence]:
    """Both without the hypotheses that only one side can have."""
    count = len(recorded.lines.get("H", []))
    kept = list(range(count))
    if "--match-source-len" in flags:
        # fairseq writes on behind the source's length, and gives what it finds there the score -inf
        kept = [place for place in kept if recorded.scores()[place] != -math.inf]
    if "--prefix-size" in flags:
        # where the prefix is the whole output, fairseq gives that as often as the beam is wide
        first = {line: place for place, line in reversed(list(enumerate(recorded.lines.get("H", []))))}
        kept = [place for place in kept if first[recorded.lines["H"][place]] == place]
    if any("<unk>" in line.split() for line in recorded.lines.get("C", [])):
        # fairseq takes the unknown word itself for what the output must contain; ours says that it cannot be met
        assert "H" not in ours.lines, f"sentence {number}: a constraint with unknown words was decoded"
        kept = []
    elif recorded.lines.get("C"):
        # at the first step fairseq lets an output end that lacks what it must contain
        kept = [place for place in kept if recorded.lines["H"][place].split("\t")[1]]
    mine = list(range(len(ours.lines.get("H", []))))
    if "--constraints" in flags:
        # at the maximum length, candidates of fairseq that are impossible take the places of others
        texts = [line.split("\t")[1] for line in recorded.lines.get("H", [])]
        mine = [place for place in mine if ours.lines["H"][place].split("\t")[1] in texts]
    elif "--match-source-len" in flags:
        mine = mine[: len(kept)]
    return _only(ours, mine), _only(recorded, kept)


def _only(sentence: Sentence, places: list[int]) -> Sentence:
    """The sentence with some of its hypotheses."""
    count = len(sentence.lines.get("H", []))
    if places == list(range(count)):
        return sentence
    own = {
        kind: [lines[place] for place in places] if kind in _OF_HYPOTHESES else lines
        for kind, lines in sentence.lines.items()
    }
    return Sentence({kind: lines for kind, lines in own.items() if lines})


def _compare_sentence(
    number: int, ours: Sentence, recorded: Sentence, tolerance: dict[str, Any], flags: list[str]
) -> None:
    ours, recorded = _comparable(number, ours, recorded, flags)
    kinds, expected_kinds = set(ours.lines), set(recorded.lines)
    assert kinds == expected_kinds, f"sentence {number}: lines {sorted(kinds)}, recorded {sorted(expected_kinds)}"
    for kind in expected_kinds - {*_OF_HYPOTHESES, "E", "W"}:
        assert ours.lines[kind] == recorded.lines[kind], f"sentence {number}: {kind}-line {ours.lines[kind]}"
    if "H" not in recorded.lines:
        return
    assert len(ours.lines["H"]) == len(recorded.lines["H"]), (
        f"sentence {number}: {len(ours.lines['H'])} hypotheses, recorded {len(recorded.lines['H'])}"
    )
    scores, expected_scores = ours.scores(), recorded.scores()
    for rank, expected in enumerate(expected_scores):
        _close(f"sentence {number}, score of hypothesis {rank}", [scores[rank]], [expected], tolerance["score_atol"])
        text = recorded.lines["H"][rank].split("\t")[1]
        ties = [place for place, score in enumerate(scores) if place == rank or abs(score - expected) <= TIE]
        same = [place for place in ties if ours.lines["H"][place].split("\t")[1] == text]
        if not same:
            # the other of two equal hypotheses may have fallen off the end of the list
            at_the_end = rank == len(scores) - 1 and abs(scores[rank] - expected) <= TIE
            assert at_the_end, f"sentence {number}: {ours.lines['H'][rank]!r}, recorded {recorded.lines['H'][rank]!r}"
            continue
        _compare_hypothesis(number, ours, recorded, same[0] if rank not in same else rank, rank, tolerance)


def _compare_hypothesis(
    number: int, ours: Sentence, recorded: Sentence, place: int, rank: int, tolerance: dict[str, Any]
) -> None:
    where = f"sentence {number}, hypothesis {rank}"
    text, expected = ours.lines["D"][place].split("\t")[1], recorded.lines["D"][rank].split("\t")[1]
    assert text == expected, f"{where}: text {text!r}, recorded {expected!r}"
    found, wanted = (
        [float(item) for item in side["P"][at].split()]
        for side, at in (
            (ours.lines, place),
            (recorded.lines, rank),
        )
    )
    _close(f"{where}: token scores", found, wanted, tolerance["positional_atol"])
    for kind in sorted({"A", "I"} & set(recorded.lines)):
        mine, theirs = ours.lines[kind][place], recorded.lines[kind][rank]
        if "," in theirs:
            found, wanted = ([float(item) for item in re.split("[ ,]", line)] for line in (mine, theirs))
            _close(f"{where}: soft alignment", found, wanted, tolerance["positional_atol"])
        else:
            assert mine == theirs, f"{where}: {kind}-line {mine!r}, recorded {theirs!r}"
    if "E" in recorded.lines:
        assert ours.lines["E"] == recorded.lines["E"], f"{where}: history"


def _close(what: str, found: list[float], wanted: list[float], tolerance: float) -> None:
    assert len(found) == len(wanted), f"{what}: {len(found)} numbers, recorded {len(wanted)}"
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine == theirs or abs(mine - theirs) <= tolerance, f"{what}: {mine}, recorded {theirs}"
        assert not math.isnan(mine), f"{what}: NaN"


def _run_kind(case: Case) -> None:
    kind = case.spec.get("kind")
    if kind == "replace_unk_function":
        for row in case.spec["rows"]:
            assert set(row) == {"hypo", "src", "alignment", "align_dict", "result"}, f"unknown keys in {row}"
            result = replace_unk(row["hypo"], row["src"], row["alignment"], row["align_dict"])
            assert result == row["result"], f"{result!r}, recorded {row['result']!r}"
        return
    if kind == "sampling_internals":
        _run_sampling_internals(case)
        return
    raise AssertionError(f"unknown kind {kind!r}")


def _run_sampling_internals(case: Case) -> None:
    """Which tokens may be drawn, and with what probabilities. What was drawn by torch's generator is not compared."""
    spec = case.spec
    draws = [key for key in spec if key.startswith("informational")]
    unknown = sorted(set(spec) - {"what", "area", "kind", "sets", "arrays", "tolerance", "versions", *draws})
    assert not unknown, f"case.json has keys that this adapter does not know: {unknown}"
    assert set(spec["tolerance"]) == {"probs_atol"}, f"unknown tolerance {spec['tolerance']}"
    arrays = np.load(case.folder / spec["arrays"])
    probs = torch.from_numpy(arrays["lprobs"]).exp()
    for chosen in spec["sets"]:
        ((option, value),) = ((key, chosen[key]) for key in ("topk", "topp") if key in chosen)
        assert not set(chosen) - {option, "kept_per_row", "note"}, f"unknown parts of {chosen}"
        expected = torch.from_numpy(arrays[f"{option}_{value}.probs"])
        tokens = torch.from_numpy(arrays[f"{option}_{value}.indices"])
        found, found_tokens = likeliest(probs, **{"topk": -1, "topp": -1.0, option: value})
        width = expected.size(2)
        assert found_tokens is not None
        assert not bool(found[..., width:].any()), f"{option}={value}: more tokens may be drawn than {width}"
        difference = float((found[..., :width] - expected).abs().max())
        assert difference <= spec["tolerance"]["probs_atol"], f"{option}={value}: probabilities differ by {difference}"
        may_come = expected > 0
        assert torch.equal(found_tokens[..., :width][may_come], tokens[may_come]), f"{option}={value}: other tokens"
        if "kept_per_row" in chosen:
            assert may_come.sum(dim=2).tolist() == chosen["kept_per_row"]
            assert found.gt(0).sum(dim=2).tolist() == chosen["kept_per_row"], f"{option}={value}: tokens kept"


def _compare_samples(flags: list[str], ours: Printed, recorded: Printed, case: Case) -> None:
    """What was drawn differs with the random generator. On both sides, each token must be one that might be drawn,
    and its score the model's."""
    tolerance = case.spec["tolerance"]["positional_atol"]
    assert list(ours.sentences) == list(recorded.sentences), "the sentences differ, or come in another order"
    with _folder(case.area_folder):
        hub = Hub.load(to_root_config(COMMANDS[case.spec["tool"]][0], flags))
        if hub.config.generation.lm_path is not None:
            hub._language_model(hub.config.generation.lm_path)
    for number, sentence in recorded.sentences.items():
        mine = ours.sentences[number]
        for kind in {"S", "T"} & set(sentence.lines):
            assert mine.lines[kind] == sentence.lines[kind], f"sentence {number}: {kind}-line {mine.lines[kind]}"
        for who, side in (("recorded", sentence), ("ours", mine)):
            assert len(side.lines["H"]) == len(sentence.lines["H"]), f"sentence {number}: hypotheses"
            for line, scores in zip(side.lines["H"], side.lines["P"], strict=True):
                words = line.split("\t")[1]
                where = f"sentence {number}, {who}: {words!r}"
                found = [float(score) for score in scores.split()]
                if who == "recorded" and len(found) > len(words.split()) + 1:
                    continue  # the beginning of a sentence was drawn, which lines do not show
                _check_sample(hub, sentence.lines["S"][0], words, found, tolerance, where)


def _check_sample(hub: Hub, source: str, words: str, scores: list[float], tolerance: float, where: str) -> None:
    generation, dictionary = hub.config.generation, hub.target_dictionary
    target = dictionary.encode_line(words, add_if_not_exist=False).long()
    log_probs = _log_probs(hub, hub.binarize(source)[None], torch.cat([target[-1:], target[:-1]])[None])
    log_probs[:, dictionary.unk()] -= generation.unkpen
    own = log_probs.gather(1, target[:, None])
    _close(f"{where}: token scores", (own[:, 0] / math.log(2)).tolist(), scores, tolerance)
    # a prefix is not drawn, and the last token may be an end that the maximum length asks for
    better = log_probs.gt(own + 1e-4)
    better[:, dictionary.pad()] = False
    better[: generation.min_len, dictionary.eos()] = False
    drawn = slice(generation.prefix_size, -1)
    if target[drawn].numel() == 0:
        return
    if generation.sampling_topk > 0:
        assert int(better.sum(dim=1)[drawn].max()) < generation.sampling_topk, f"{where}: a token that was not kept"
    if generation.sampling_topp > 0:
        before = log_probs.exp().masked_fill(~better, 0.0).sum(dim=1)[drawn]
        assert float(before.max()) <= generation.sampling_topp + 1e-3, f"{where}: a token that was not kept"


@torch.no_grad()
def _log_probs(hub: Hub, source: torch.Tensor, previous: torch.Tensor) -> torch.Tensor:
    """(T, V) log-probabilities behind each of (1, T) tokens, of all models and the language model together."""
    generation = hub.config.generation
    length = torch.tensor([source.size(1)])
    outputs = [
        model.normalized_probs(model(source, length, previous).logits / generation.temperature, log_probs=True)
        for model in hub.models
    ]
    log_probs = torch.logsumexp(torch.stack(outputs), dim=0) - math.log(len(outputs))
    if generation.lm_path is not None:
        language_model = hub._language_model(generation.lm_path)
        addition = language_model.normalized_probs(language_model(previous).logits, log_probs=True)
        log_probs = log_probs + generation.lm_weight * addition
    return log_probs[0]


def without(flags: list[str], flag: str) -> list[str]:
    """The flags without one flag and its value."""
    place = flags.index(flag)
    return flags[:place] + flags[place + 2 :]


def _number(flags: list[str], flag: str) -> int:
    return int(flags[flags.index(flag) + 1]) if flag in flags else 0


def _repeats(words: list[str], size: int) -> bool:
    ngrams = [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]
    return len(set(ngrams)) < len(ngrams)


@contextlib.contextmanager
def _folder(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextlib.contextmanager
def _input(path: str | None) -> Iterator[None]:
    """Standard input from a file (nothing for None)."""
    before = sys.stdin
    with io.TextIOWrapper(io.BytesIO(b"" if path is None else Path(path).read_bytes()), encoding="utf-8") as stream:
        sys.stdin = stream
        try:
            yield
        finally:
            sys.stdin = before
