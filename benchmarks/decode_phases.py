"""Where the time of decoding goes: microseconds of CPU time for each step of the search, by phase.

    python benchmarks/decode_phases.py [CHECKPOINT DATA] [--models trained base] [--precisions float32 int8]
        [--beams 1 5] [--batches 1 16 64] [--sentences N] [--rounds 3]

Models, sentences and what is asked of CTranslate2 are those of `decode.py`; one thread. For each model and precision
there is a table with a column for each beam and batch ("5 x 16"). Phases, each with all the calls into PyTorch in it:

- encoder: also keys and values of the source for the decoder
- embedding: of the new tokens, and positions
- masks, cache: what rows may see, and what moves when hypotheses do or sentences leave
- products: the linear layers of the decoder's layers, the matrix product alone where weights are int8
- quantising: scales of rows, rounding, and scaling back, in all layers
- attention to self, to the source: all but their linear layers
- norms, sums: layer norms, residual sums, activations
- vocabulary: the product of the projection to the vocabulary
- log-softmax: over the vocabulary, with what else is done to outputs
- bounds: processors of log-probabilities
- candidates: the best continuations
- search: hypotheses kept, ended and moved on
- text, batches: results as text, making batches (Python and calls)
- Python: all the rest, what the interpreter does between calls

Calls are timed one by one by a mode that stands in front of PyTorch (of each call the median of the rounds, less what
watching itself costs); Python is what a run without it takes more than all of them. `all` is a run without anything in
between, `CTranslate2` its whole time for the same sentences, divided by the same number of steps. `products alone` is
a bound from below: the products of all linear layers, the encoder's and the projection's included, called one behind
the other with as many weights and rows, each by the fastest of the kernels that PyTorch has for it.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from decode import (
    BASE_OUTPUT,
    Decode,
    Work,
    add_work,
    base,
    machine,
    product_gflops,
    random_sources,
    some_of,
    subset,
    systems,
    trained,
)
from torch import Tensor
from torch.overrides import TorchFunctionMode

from seqkit.generation.beams import Finished
from seqkit.generation.ensemble import Decoding, _ModelState
from seqkit.generation.search.beam import BeamSearch
from seqkit.generation.search.greedy import GreedySearch
from seqkit.generation.sequence_generator import SequenceGenerator
from seqkit.generation.step_processors import BannedSymbols, LengthBounds
from seqkit.models._transformer_stack import TransformerDecoder, TransformerEncoder
from seqkit.modules.cache import TransformerCache
from seqkit.modules.decoder_step import DecoderLayerStep
from seqkit.modules.quantized_linear import QuantizedLinear
from seqkit_cli._memory import keep_freed_memory

PHASES = (
    "encoder",
    "embedding",
    "masks, cache",
    "products",
    "quantising",
    "attention to self",
    "attention to source",
    "norms, sums",
    "vocabulary",
    "log-softmax",
    "bounds",
    "candidates",
    "search",
    "text, batches",
)
_REGIONS: tuple[tuple[str, type, tuple[str, ...]], ...] = (
    ("encoder", TransformerEncoder, ("forward",)),
    ("encoder", DecoderLayerStep, ("__init__",)),
    ("embedding", TransformerDecoder, ("_embed",)),
    ("masks, cache", TransformerDecoder, ("_new_positions",)),
    ("masks, cache", TransformerCache, ("reorder", "select_sentences")),
    ("norms, sums", DecoderLayerStep, ("__call__",)),
    ("attention to self", DecoderLayerStep, ("_attend_one",)),
    ("attention to source", DecoderLayerStep, ("_attend_source",)),
    ("quantising", QuantizedLinear, ("forward",)),
    ("log-softmax", _ModelState, ("step",)),
    ("bounds", LengthBounds, ("__call__",)),
    ("bounds", BannedSymbols, ("__call__",)),
    ("candidates", GreedySearch, ("step",)),
    ("candidates", BeamSearch, ("step",)),
    ("search", SequenceGenerator, ("generate",)),
    ("search", Finished, ("hypotheses",)),
)
"""Functions in which a phase is; an inner one counts alone."""
_SENTENCES = {"trained": {1: 16, 16: 64, 64: 192}, "base": {1: 2, 16: 16, 64: 64}}
"""By model and batch: fewer than in `decode.py`, since each is decoded a dozen times."""
_PRODUCTS = frozenset({"linear", "mm", "addmm", "_linear_pointwise", "_int_mm", "qlinear_pointwise"})
_INT8_PRODUCTS = frozenset({"_int_mm", "qlinear_pointwise"})
_LOOKS = frozenset({"__get__", "size", "dim", "numel", "is_inference", "stride", "data_ptr", "__len__"})
"""What only asks a tensor something; it counts as Python."""

_Weight = tuple[tuple[int, int], bool]


class Calls(TorchFunctionMode):
    """Times the calls into PyTorch by phase, and notes the products of linear layers.

    Attributes:
        taken: phase and nanoseconds of each call, in their order.
        products: the weight (its key in `weights`) and the rows of each product, in their order.
        weights: (outputs, inputs) of each weight, and whether it has eight bits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[tuple[str, int]] = []
        self.products: list[tuple[int, int]] = []
        self.weights: dict[int, _Weight] = {}
        self.phases = ["text, batches"]

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "").partition(".")[0]
        if name in _LOOKS:
            return func(*args, **(kwargs or {}))
        before = time.thread_time_ns()
        result = func(*args, **(kwargs or {}))
        taken = time.thread_time_ns() - before
        phase = self.phases[-1]
        within = "encoder" if "encoder" in self.phases else "vocabulary" if "vocabulary" in self.phases else None
        if name in _PRODUCTS:
            self._note(name, args)
            phase = within or "products"
        elif within == "encoder" and phase != "quantising":
            phase = "encoder"
        self.taken.append((phase, taken))
        return result

    def inside(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, what it calls counted as the phase's."""

        @functools.wraps(function)
        def call(*arguments: Any, **more: Any) -> Any:
            self.phases.append(phase)
            try:
                return function(*arguments, **more)
            finally:
                self.phases.pop()

        return call

    def _note(self, name: str, args: tuple[Any, ...]) -> None:
        with torch._C.DisableTorchFunction():
            place = {"addmm": (1, 2), "qlinear_pointwise": (0, 3)}.get(name, (0, 1))
            rows_NI, weight = (args[index] for index in place)
            inputs = rows_NI.size(-1)
            key = id(weight) if weight.layout == torch._mkldnn else weight.data_ptr()  # type: ignore[attr-defined]
            self.weights[key] = (weight.numel() // inputs, inputs), name in _INT8_PRODUCTS
            self.products.append((key, rows_NI.numel() // inputs))


def cost_of_watching(rounds: int = 30, calls_each: int = 100) -> int:
    """Nanoseconds by which a call seems longer under `Calls` than it is."""
    one = torch.zeros(1)
    calls = Calls()
    plain = []
    for _ in range(rounds):
        before = time.thread_time_ns()
        for _ in range(calls_each):
            one.add_(one)
        plain.append((time.thread_time_ns() - before) / calls_each)
        with calls:
            for _ in range(calls_each):
                one.add_(one)
    return int(statistics.median(taken for _, taken in calls.taken) - statistics.median(plain))


def by_phase(rounds: Sequence[Calls]) -> tuple[dict[str, int], Counter[str]]:
    """Nanoseconds of each phase, and how many calls it has; of each call, the median of the rounds."""
    if len({len(calls.taken) for calls in rounds}) > 1:
        raise RuntimeError("the rounds did not make the same calls")
    extra = cost_of_watching()
    nanoseconds: dict[str, int] = defaultdict(int)
    counts: Counter[str] = Counter()
    for same in zip(*(calls.taken for calls in rounds), strict=True):
        phase = same[0][0]
        nanoseconds[phase] += max(0, int(statistics.median(taken for _, taken in same)) - extra)
        counts[phase] += 1
    return nanoseconds, counts


@contextmanager
def watching(calls: Calls) -> Iterator[None]:
    """Let `calls` know in which phase the decoding of seqkit is."""
    kept: list[tuple[type, str, Any]] = []

    def put(owner: type, name: str, function: Any) -> None:
        kept.append((owner, name, vars(owner)[name]))
        setattr(owner, name, function)

    for phase, kind, names in _REGIONS:
        for name in names:
            owner = next(each for each in kind.__mro__ if name in vars(each))
            put(owner, name, calls.inside(phase, vars(owner)[name]))
    begin = _ModelState.__init__

    def begin_watched(state: _ModelState, *arguments: Any) -> None:
        begin(state, *arguments)
        if state.projection is not None:
            state.projection = calls.inside("vocabulary", state.projection)

    put(_ModelState, "__init__", begin_watched)
    try:
        with calls:
            yield
    finally:
        for owner, name, function in reversed(kept):
            setattr(owner, name, function)


@contextmanager
def counting_steps(found: Counter[str]) -> Iterator[None]:
    """Count the steps of the search, and the nanoseconds of CPU time inside of the generator."""
    step, generate = Decoding.step, SequenceGenerator.generate

    def counted(decoding: Decoding, *arguments: Any) -> Any:
        found["steps"] += 1
        return step(decoding, *arguments)

    def timed(generator: SequenceGenerator, *arguments: Any, **more: Any) -> Any:
        before = time.thread_time_ns()
        result = generate(generator, *arguments, **more)
        found["generating"] += time.thread_time_ns() - before
        return result

    Decoding.step, SequenceGenerator.generate = counted, timed  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Decoding.step, SequenceGenerator.generate = step, generate  # type: ignore[method-assign]


def cpu_nanoseconds(function: Callable[[], Any]) -> int:
    """CPU time of all threads that a call takes."""
    before = time.process_time_ns()
    function()
    return time.process_time_ns() - before


# what the products alone would take

_Kernel = Callable[[Tensor, Any], Tensor]


def _packed(x: Tensor, weight: Tensor) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return result


def _packed_int8(x: Tensor, weight: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    packed, scale, zeros = weight
    result: Tensor = torch.ops.onednn.qlinear_pointwise.default(
        x, 1.0, 128, packed, scale, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )
    return result


def _kernels(shape: tuple[int, int], quantized: bool) -> Iterator[tuple[_Kernel, Callable[[], Any], torch.dtype]]:
    """Each kernel, what makes a weight of this shape for it, and the type of its input."""
    outputs, inputs = shape
    if not quantized:
        yield F.linear, lambda: torch.rand(outputs, inputs), torch.float32
        yield torch.mm, lambda: torch.rand(inputs, outputs), torch.float32
        yield _packed, lambda: torch.ops.mkldnn._reorder_linear_weight(torch.rand(outputs, inputs)), torch.float32
        return

    def whole() -> Tensor:
        return torch.randint(-127, 128, (outputs, inputs), dtype=torch.int8)

    def packed() -> tuple[Tensor, Tensor, Tensor]:
        zeros = torch.zeros(outputs, dtype=torch.int64)
        return torch.ops.onednn.qlinear_prepack(whole(), None), torch.ones(outputs), zeros

    yield torch._int_mm, lambda: whole().t(), torch.int8
    yield _packed_int8, packed, torch.uint8


@torch.inference_mode()
def products_alone(calls: Calls) -> int:
    """Nanoseconds of CPU time of the products that were noted, in their order, each by its fastest kernel."""
    rows_of_weight: dict[int, set[int]] = defaultdict(set)
    for key, rows in calls.products:
        rows_of_weight[key].add(rows)
    inputs: dict[tuple[int, int, torch.dtype], Tensor] = {}

    def input_of(rows: int, width: int, dtype: torch.dtype) -> Tensor:
        if (rows, width, dtype) not in inputs:
            inputs[rows, width, dtype] = torch.ones(rows, width, dtype=dtype)
        return inputs[rows, width, dtype]

    # which kernel is the fastest: by turns over a few weights of each shape
    fastest: dict[tuple[_Weight, int], tuple[_Kernel, int, torch.dtype]] = {}
    for kind in set(calls.weights.values()):
        made = [(kernel, [make() for _ in range(4)], dtype) for kernel, make, dtype in _kernels(*kind)]
        keys = [key for key, other in calls.weights.items() if other == kind]
        for rows in {rows for key in keys for rows in rows_of_weight[key]}:
            took: list[float] = []
            for kernel, weights, dtype in made:
                x = input_of(rows, kind[0][1], dtype)
                times = []
                for weight in weights * 3:
                    before = time.thread_time_ns()
                    kernel(x, weight)
                    times.append(time.thread_time_ns() - before)
                took.append(statistics.median(times))
            place = took.index(min(took))
            fastest[kind, rows] = made[place][0], place, made[place][2]

    ready: dict[tuple[int, int], Any] = {}
    replay: list[tuple[_Kernel, Tensor, Any]] = []
    for key, rows in calls.products:
        kind = calls.weights[key]
        kernel, place, dtype = fastest[kind, rows]
        if (key, place) not in ready:
            ready[key, place] = list(_kernels(*kind))[place][1]()
        replay.append((kernel, input_of(rows, kind[0][1], dtype), ready[key, place]))

    def run() -> None:
        for kernel, x, weight in replay:
            kernel(x, weight)

    run()
    return min(cpu_nanoseconds(run) for _ in range(3))


def measure(own: Decode, other: Decode, work: Work, rounds: int) -> dict[str, float]:
    """Microseconds a step by phase, and `steps`; the calls of each phase are under "calls: …"."""
    found: Counter[str] = Counter()
    with counting_steps(found):
        own(work)
    steps = found["steps"]
    whole, generating, theirs = [], [], []
    watched = []
    other(work)
    for _ in range(rounds):
        found = Counter()
        with counting_steps(found):
            whole.append(cpu_nanoseconds(lambda: own(work)))
        generating.append(found["generating"])
        theirs.append(cpu_nanoseconds(lambda: other(work)))
        calls = Calls()
        with watching(calls):
            own(work)
        watched.append(calls)
    nanoseconds, counts = by_phase(watched)
    row: dict[str, float] = {phase: nanoseconds[phase] for phase in PHASES}
    all_of_it = statistics.median(whole)
    row["text, batches"] = statistics.median(a - b for a, b in zip(whole, generating, strict=True))
    row["Python"] = all_of_it - sum(row.values())
    row |= {"all": all_of_it, "CTranslate2": statistics.median(theirs)}
    row["products alone"] = products_alone(watched[0])
    row = {name: nanoseconds / steps / 1e3 for name, nanoseconds in row.items()}
    row |= {f"calls: {phase}": counts[phase] / steps for phase in PHASES}
    row["steps"] = steps
    return row


def table(columns: dict[str, dict[str, float]]) -> str:
    """The phases of several works beside each other, as markdown."""
    lines = [["µs a step", *columns], ["---"] * (1 + len(columns))]
    lines += [
        [name, *(f"{column[name.strip('*')]:.0f}" for column in columns.values())]
        for name in (*PHASES, "Python", "**all**", "CTranslate2", "products alone")
    ]
    lines.append(["× CTranslate2", *(f"{column['CTranslate2'] / column['all']:.2f}" for column in columns.values())])
    calls = (
        sum(number for name, number in column.items() if name.startswith("calls: ")) for column in columns.values()
    )
    lines.append(["calls a step", *(f"{number:.0f}" for number in calls)])
    lines.append(["steps", *(f"{column['steps']:.0f}" for column in columns.values())])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main() -> int:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_work(parser)
    parser.add_argument("--precisions", nargs="+", choices=("float32", "int8"), default=["float32", "int8"])
    args = parser.parse_args()
    names: Sequence[str] = args.models or (["trained", "base"] if args.checkpoint else ["base"])
    if "trained" in names and not args.data:
        parser.error("the model `trained` needs a checkpoint and its data folder")

    keep_freed_memory()
    torch.set_num_threads(1)
    print(f"{machine()}, one thread, torch {torch.__version__}, {product_gflops():.0f} GFLOP/s; CPU time")
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            model, task, config = trained(args.checkpoint, args.data) if name == "trained" else base(folder)
            sources = subset(task, args.subset) if name == "trained" else random_sources(task)
            for precision in args.precisions:
                own, other = (
                    ("seqkit", "ctranslate2") if precision == "float32" else ("seqkit-int8", "ctranslate2-int8")
                )
                decoders = systems([own, other], model, task, config, Path(folder), 1)
                columns: dict[str, dict[str, float]] = {}
                for beam in args.beams:
                    for batch in args.batches:
                        count = args.sentences or _SENTENCES[name].get(batch, 4 * batch)
                        length = None if name == "trained" else BASE_OUTPUT
                        work = Work(name, some_of(sources, count, task), beam, batch, length)
                        columns[f"{beam} x {batch}"] = measure(decoders[own], decoders[other], work, args.rounds)
                print(f"\n{name}, {precision} (beam x batch):\n\n{table(columns)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
