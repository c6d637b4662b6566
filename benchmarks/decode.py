"""Decoding speed: seqkit beside CTranslate2 and Hugging Face transformers, which get the same weights.

    python benchmarks/decode.py [CHECKPOINT DATA] [--models trained base] [--systems seqkit ctranslate2-int8 …]
        [--beams 1 5] [--batches 1 16 64] [--sentences 128] [--rounds 3] [--threads 2] [--json FILE]

Two models: `trained` is the given checkpoint, with the sources of a split of its data; `base` is a `transformer` of
base size (512 wide, 6 + 6 layers, 32,000 symbols) with seeded random weights and sources, whose outputs all have one
length, since such a model never ends by itself. Both must be models that `seqkit-export` takes; what they become is
written into a temporary folder (for transformers: FSMT where norms are behind the sublayers, as they are in `base`).

A system is a library and a precision: `seqkit`, `ctranslate2` and `huggingface` are float32, `-int8` stands behind the
first two. `-compiled`, for which one asks, is `generation.compile`; what compiling takes does not count.
In each round the systems take turns in one process, the first one another each time. All get the same source tokens
and give target tokens, with the same beam, in batches of equally many sentences of like length; loading models does
not count. seqkit and CTranslate2 decode as many batches side by side as there are threads (seqkit by forked processes
where there are eight batches; their start counts), transformers one after the other. Given are wall time and
CPU time (of all threads and processes; what else the machine does shows in it less), medians of the rounds, and how
fast each system is compared with CTranslate2 of the same precision: the median of the rounds' ratios.
`equal` are outputs that are those of `seqkit`. A 1024 x 1024 x 1024 float32 product is timed as well, because machines
differ.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ctranslate2
import torch

from seqkit.config.root import RootConfig, root_from_dict
from seqkit.data.dictionary import Dictionary
from seqkit.data.language_pair_dataset import LanguagePairDataset
from seqkit.hub import Hub
from seqkit.interop.ctranslate2_export import export_ctranslate2
from seqkit.interop.exports import symbols_of
from seqkit.interop.huggingface_export import export_huggingface
from seqkit.interop.load_model import load_ensemble
from seqkit.models.base import Model
from seqkit.tasks.base import Task, build_task
from seqkit_cli._memory import keep_freed_memory

SYSTEMS = (
    "seqkit",
    "ctranslate2",
    "seqkit-int8",
    "ctranslate2-int8",
    "huggingface",
    "seqkit-compiled",
    "seqkit-int8-compiled",
)
_COMPILED = "-compiled"
GOALS = "at least 1.0 of CTranslate2's throughput in each precision, and 3 times Hugging Face's at batch 64"
_LONGEST = 200
BASE_OUTPUT = 24
"""Tokens of each output of the random model, about what a sentence of news has."""
_SENTENCES = {"trained": {1: 64, 16: 256, 64: 512}, "base": {1: 8, 16: 32, 64: 128}}
"""By model and batch: so that a round of one system takes some seconds."""


@dataclass(frozen=True)
class Work:
    """What is decoded, and how.

    Attributes:
        name: the model's.
        dataset: sources.
        beam, batch: width of the beam, sentences of a batch.
        length: tokens that every output has; None: as many as the model likes.
    """

    name: str
    dataset: LanguagePairDataset
    beam: int
    batch: int
    length: int | None


Decode = Callable[[Work], list[str]]
"""Outputs in the order of the sources, as symbols joined by spaces."""


@dataclass
class Row:
    """What was measured of one system at one work."""

    model: str
    beam: int
    batch: int
    sentences: int
    system: str
    wall_seconds: float
    cpu_seconds: float
    sentences_per_second: float
    tokens_per_second: float
    wall_ratio: float | None
    cpu_ratio: float | None
    equal: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_work(parser)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS[:5]))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--memory", type=int, metavar="N", help="instead: resident memory of seqkit, and seqkit-int8, over N sentences"
    )
    parser.add_argument("--json", type=Path, help="append each row to this file, as a JSON object")
    args = parser.parse_args()
    names = args.models or (["trained", "base"] if args.checkpoint else ["base"])
    if "trained" in names and not args.data:
        parser.error("the model `trained` needs a checkpoint and its data folder")

    keep_freed_memory()  # as seqkit-generate does
    torch.set_num_threads(args.threads)
    if args.memory:
        return watch_memory(args)
    print(
        f"{machine()}, {args.threads} threads, torch {torch.__version__}, CTranslate2 {ctranslate2.__version__}; ",
        end="",
    )
    print(f"{product_gflops():.0f} GFLOP/s, load {os.getloadavg()[0]:.1f}; medians of {args.rounds} rounds")
    print(f"goal: {GOALS}\n")
    print(
        "| model | beam | batch | sentences | system | s | CPU s | sentences/s | × CTranslate2 | by CPU time | equal |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            model, task, config = trained(args.checkpoint, args.data) if name == "trained" else base(folder)
            decoders = systems(args.systems, model, task, config, Path(folder), args.threads)
            sources = subset(task, args.subset) if name == "trained" else random_sources(task)
            for beam in args.beams:
                for batch in args.batches:
                    count = args.sentences or _SENTENCES[name].get(batch, 4 * batch)
                    dataset = some_of(sources, count, task)
                    work = Work(name, dataset, beam, batch, None if name == "trained" else BASE_OUTPUT)
                    for row in compete(decoders, work, args.rounds):
                        print(markdown(row), flush=True)
                        if args.json:
                            with args.json.open("a", encoding="utf-8") as file:
                                file.write(json.dumps(asdict(row)) + "\n")
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")
    return 0


def add_work(parser: argparse.ArgumentParser) -> None:
    """The arguments that say what is decoded."""
    parser.add_argument("checkpoint", nargs="?", help="of the model `trained`")
    parser.add_argument("data", nargs="?", help="its data folder")
    parser.add_argument("--subset", default="test", help="split whose sources are decoded")
    parser.add_argument("--models", nargs="+", choices=("trained", "base"), help="default: all that there are")
    parser.add_argument("--beams", nargs="+", type=int, default=[1, 5])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16, 64])
    parser.add_argument("--sentences", type=int, help="default: fewer for small batches and the large model")
    parser.add_argument("--rounds", type=int, default=3)


# models


def trained(checkpoint: str, data: str) -> tuple[Model, Task, RootConfig]:
    loaded = load_ensemble([checkpoint], {"task": {"data": data}})
    return loaded.models[0], loaded.task, loaded.config


def base(folder: str) -> tuple[Model, Task, RootConfig]:
    """A `transformer` of base size, one embedding table for all, random weights."""
    place = Path(folder) / "data"
    place.mkdir()
    dictionary = Dictionary()
    for number in range(32000 - len(dictionary)):
        dictionary.add_symbol(f"w{number}", n=32000 - number)
    for side in ("source", "target"):
        dictionary.save(place / f"dict.{side}.txt")
    config = root_from_dict(
        {
            "task": {"_name": "translation", "data": str(place), "source_lang": "source", "target_lang": "target"},
            "model": {"_name": "transformer", "share_all_embeddings": True},
        }
    )
    assert config.task is not None
    assert config.model is not None
    task = build_task(config.task)
    torch.manual_seed(1)
    return task.build_model(config.model).eval(), task, config


def subset(task: Task, name: str) -> list[torch.Tensor]:
    dataset = task.load_dataset(name)
    assert isinstance(dataset, LanguagePairDataset)
    return [dataset.src[number] for number in range(len(dataset))]


def random_sources(task: Task) -> list[torch.Tensor]:
    """Sentences of 8 to 40 tokens, the end included."""
    generator = torch.Generator().manual_seed(1)
    dictionary = task.target_dictionary
    lengths = torch.randint(7, 40, (4096,), generator=generator).tolist()
    end = torch.tensor([dictionary.eos()])
    return [
        torch.cat([torch.randint(dictionary.nspecial, len(dictionary), (length,), generator=generator), end])
        for length in lengths
    ]


def some_of(sources: Sequence[torch.Tensor], count: int, task: Task) -> LanguagePairDataset:
    """`count` of the sources, taken at equal distances."""
    count = min(count, len(sources))
    chosen = [sources[place * len(sources) // count] for place in range(count)]
    build = getattr(task, "build_dataset_for_inference")  # noqa: B009  # translation has it
    dataset: LanguagePairDataset = build(chosen, [row.numel() for row in chosen])
    return dataset


# systems


def systems(
    names: Sequence[str], model: Model, task: Task, config: RootConfig, folder: Path, threads: int
) -> dict[str, Decode]:
    """A function for each system; `seqkit` is always there, since its outputs are what others are compared with."""
    symbols = symbols_of(task)
    made: dict[str, Decode] = {}
    for name in dict.fromkeys(["seqkit", *names]):
        library, _, precision = name.removesuffix(_COMPILED).partition("-")
        place = folder / library
        if library != "seqkit" and not place.exists():
            place.mkdir()
            (export_ctranslate2 if library == "ctranslate2" else export_huggingface)(model, symbols, place)
        if library == "seqkit":
            made[name] = seqkit(model, task, config, precision or "none", compiled=name.endswith(_COMPILED))
        elif library == "ctranslate2":
            made[name] = with_ctranslate2(place, precision or "float32", threads)
        else:
            made[name] = huggingface(place)
    return made


def seqkit(model: Model, task: Task, config: RootConfig, quantize: str, *, compiled: bool = False) -> Decode:
    config = copy.deepcopy(config)
    config.generation.compile = compiled
    config.common.cpu = True
    config.generation.quantize = quantize
    hub = Hub([copy.deepcopy(model)], config, task)
    hub.forks = True  # as seqkit-generate does

    def decode(work: Work) -> list[str]:
        hub.config.dataset.batch_size = work.batch
        lengths = {} if work.length is None else {"min_len": work.length, "max_len_b": work.length}
        batches = hub.batches(work.dataset, in_memory=True)
        found: dict[int, str] = {}
        for results in hub.decode_batches(batches, work.dataset, beam=work.beam, **lengths):
            found.update((result.id, result.hypotheses[0].pieces) for result in results)
        return [found[number] for number in range(len(work.dataset))]

    return decode


def with_ctranslate2(folder: Path, precision: str, threads: int) -> Decode:
    """One batch for each thread, as in seqkit: that is faster than all threads for one batch."""
    translator = ctranslate2.Translator(
        str(folder), device="cpu", compute_type=precision, inter_threads=threads, intra_threads=1
    )

    def decode(work: Work) -> list[str]:
        symbols = work.dataset.src_dict.symbols
        # It puts EOS behind them itself.
        sources = [[symbols[token] for token in row.tolist()[:-1]] for row in rows_of(work.dataset)]
        results = translator.translate_batch(
            sources,
            beam_size=work.beam,
            max_batch_size=work.batch,
            min_decoding_length=work.length or 1,
            max_decoding_length=work.length or _LONGEST,
            length_penalty=1.0,
        )
        return [" ".join(result.hypotheses[0]) for result in results]

    return decode


def huggingface(folder: Path) -> Decode:
    from transformers import AutoModelForSeq2SeqLM
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(str(folder)).eval()

    def decode(work: Work) -> list[str]:
        rows = rows_of(work.dataset)
        dictionary = work.dataset.tgt_dict or work.dataset.src_dict
        outputs = [""] * len(rows)
        lengths = {"max_new_tokens": _LONGEST}
        if work.length is not None:
            lengths = {"min_new_tokens": work.length, "max_new_tokens": work.length + 1}  # the end is one of them
        for places in batches_of(rows, work.batch):
            chosen = [rows[place].long() for place in places]
            tokens = torch.nn.utils.rnn.pad_sequence(chosen, batch_first=True, padding_value=dictionary.pad())
            with torch.inference_mode():
                found = model.generate(
                    input_ids=tokens,
                    attention_mask=tokens.ne(dictionary.pad()).long(),
                    num_beams=work.beam,
                    do_sample=False,
                    early_stopping=work.beam > 1,
                    length_penalty=1.0,
                    max_length=None,
                    **lengths,
                )
            for place, row in zip(places, found, strict=True):
                kept = row[row.ne(dictionary.pad()) & row.ne(dictionary.eos())]
                outputs[place] = " ".join(dictionary[token] for token in kept.tolist())
        return outputs

    return decode


def rows_of(dataset: LanguagePairDataset) -> list[torch.Tensor]:
    return [dataset.src[number] for number in range(len(dataset))]


def batches_of(rows: Sequence[torch.Tensor], size: int) -> Iterator[list[int]]:
    """Places of rows of like length, `size` at a time."""
    order = sorted(range(len(rows)), key=lambda place: rows[place].numel())
    for start in range(0, len(order), size):
        yield order[start : start + size]


# measuring


def compete(decoders: dict[str, Decode], work: Work, rounds: int) -> Iterator[Row]:
    """The rows of all systems; before the first round each decodes once, which is not counted."""
    names = list(decoders)
    outputs = {name: decode(work) for name, decode in decoders.items()}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in (*names[first:], *names[:first]):
            wall, cpu = time.perf_counter(), cpu_seconds()
            decoders[name](work)
            taken[name].append((time.perf_counter() - wall, cpu_seconds() - cpu))
    for name in names:
        other = "ctranslate2-int8" if "-int8" in name else "ctranslate2"
        wall_ratio, cpu_ratio = (
            statistics.median(theirs[clock] / own[clock] for own, theirs in zip(taken[name], taken[other], strict=True))
            if other in taken and name != other
            else None
            for clock in (0, 1)
        )
        wall, cpu = (statistics.median(seconds[clock] for seconds in taken[name]) for clock in (0, 1))
        tokens = sum(len(line.split()) + 1 for line in outputs[name])
        equal = sum(own == theirs for own, theirs in zip(outputs[name], outputs["seqkit"], strict=True))
        count = len(work.dataset)
        yield Row(
            model=work.name,
            beam=work.beam,
            batch=work.batch,
            sentences=count,
            system=name,
            wall_seconds=wall,
            cpu_seconds=cpu,
            sentences_per_second=count / wall,
            tokens_per_second=tokens / wall,
            wall_ratio=wall_ratio,
            cpu_ratio=cpu_ratio,
            equal=equal / count,
        )


def cpu_seconds() -> float:
    """What this process has used, and those that it has waited for."""
    used = (resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def watch_memory(args: argparse.Namespace) -> int:
    """Decode the same sentences again and again, in batches of changing sizes, and print what memory is held."""
    with tempfile.TemporaryDirectory() as folder:
        model, task, config = trained(args.checkpoint, args.data) if args.data else base(folder)
        sources = subset(task, args.subset) if args.data else random_sources(task)
        print("| system | sentences | MB |\n|---|---|---|")
        for name in ("seqkit", "seqkit-int8"):
            decode = systems([name], model, task, config, Path(folder), args.threads)[name]
            dataset = some_of(sources, 1000, task)
            held: list[float] = []
            while len(held) * len(dataset) < args.memory:
                batch = (64, 16, 48)[len(held) % 3]
                decode(Work(name, dataset, args.beams[-1], batch, None if args.data else 6))
                held.append(resident_megabytes())
                print(f"| {name} | {len(held) * len(dataset)} | {held[-1]:.0f} |", flush=True)
    return 0


def resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def markdown(row: Row) -> str:
    ratios = ("" if ratio is None else f"{ratio:.2f}" for ratio in (row.wall_ratio, row.cpu_ratio))
    cells = (
        row.model,
        str(row.beam),
        str(row.batch),
        str(row.sentences),
        row.system,
        f"{row.wall_seconds:.2f}",
        f"{row.cpu_seconds:.2f}",
        f"{row.sentences_per_second:.1f}",
        *ratios,
        f"{row.equal:.0%}",
    )
    return f"| {' | '.join(cells)} |"


def machine() -> str:
    """The processor's name and how many there are."""
    name = "unknown processor"
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{os.cpu_count()} x {name}"


def product_gflops(size: int = 1024, repeats: int = 20) -> float:
    """Billions of floating-point operations per second of a square float32 product (the median run)."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        torch.mm(left, right)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(seconds) / 1e9


if __name__ == "__main__":
    sys.exit(main())
