"""Decoding steps compiled by PyTorch (`generation.compile`): the layers of a Transformer decoder, for one new position.

What is compiled is a function of tensors alone, made once for a model and whether there is one sentence or several, and
one row of each or several; sizes may change from call to call. What comes behind the layers, one large product and the
softmax, has nothing to gain. Knows nothing of search.
Axes: B sentences, K rows of each, N = B·K, C channels, H heads.
"""

from __future__ import annotations

import logging
import threading
import types
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from seqkit.errors import ConfigError
from seqkit.models._transformer_stack import StepTensors, TransformerDecoder
from seqkit.models.base import EncoderDecoderModel, LanguageModel, Model
from seqkit.modules.cache import TransformerCache
from seqkit.modules.packed_linear import function_for_compiler, has_packed
from seqkit.modules.quantized_linear import is_quantized

logger = logging.getLogger(__name__)

_Compiled = Callable[[Tensor, Tensor, Tensor, list[Tensor], list[Any]], Tensor]
_Kind = tuple[bool, bool]
"""Whether there is one sentence, and one row of each."""
_RARELY = 3
"""Batches of another kind than those compiled for, such as the last one's single sentence, before that is compiled."""
_LONGEST = 1 << 20
"""Slots of the target that there may be."""


class CompiledSteps:
    """The compiled steps of models whose weights stay as they are; any number of generators and threads may share it.

    Args:
        device: where the models are.

    Raises:
        ConfigError: nothing can be compiled for that device here.
    """

    def __init__(self, device: torch.device) -> None:
        _check_compiler(device)
        self._lock = threading.Lock()
        self._steps: dict[Model, CompiledStep | None] = {}

    def of(self, model: Model) -> CompiledStep | None:
        """The step of a model; None if it is not one of those that can be compiled, which the log says once."""
        with self._lock:
            if model not in self._steps:
                why_not = _why_not(model)
                if why_not is not None:
                    logger.info("%s is not compiled: %s", type(model).__name__, why_not)
                self._steps[model] = CompiledStep(model) if why_not is None else None
            return self._steps[model]

    @property
    def compilations(self) -> int:
        """How many functions have been compiled."""
        return sum(len(step.functions) for step in self._steps.values() if step is not None)


class CompiledStep:
    """The layers of one model's decoder, compiled when they are first needed.

    Attributes:
        functions: what has been compiled.
    """

    def __init__(self, model: Model) -> None:
        self._decoder = _decoder(model)
        self._name = type(model).__name__
        self._has_source = isinstance(model, EncoderDecoderModel)
        self._lock = threading.Lock()
        self.functions: dict[_Kind, _Compiled] = {}
        self._others = 0
        # A size that is known when it is called, as the compiler knows sizes: by the length of a tensor.
        self._line = torch.empty(_LONGEST, dtype=torch.uint8)

    def is_for(self, sentences: int, beam: int) -> bool:
        """Whether a batch that begins with so many sentences, and rows of each, is worth what compiling takes."""
        known = [one_sentence for one_sentence, one_row in self.functions if one_row == (beam == 1)]
        if not known or (sentences == 1) in known:
            return True
        self._others += 1
        return self._others > _RARELY

    def __call__(self, tokens_N1: Tensor, encoder_out: Any, cache: TransformerCache) -> Tensor:
        """Features (N, C), to be projected; `cache` takes the tokens for decoded. Not for the first position."""
        tensors = self._decoder.next_step(tokens_N1, encoder_out, cache)
        kind = (tensors.buffers[0].size(1) == 1, cache.beam == 1)
        compiled = self.functions.get(kind)
        if compiled is None:
            compiled = self._compile(kind, tensors)
        return compiled(tensors.x, self._line[: tensors.end], tensors.mask, tensors.buffers, tensors.sources)

    def _compile(self, kind: _Kind, tensors: StepTensors) -> _Compiled:
        with self._lock:
            if kind in self.functions:
                return self.functions[kind]
            words = ["one sentence" if kind[0] else "several sentences", "one row" if kind[1] else "several rows"]
            logger.info(
                "compiling the decoding step of %s for %s of %s (once; kept in %s)", self._name, *words, _cache_folder()
            )
            function = self._function(tensors.x.dtype)
            on_cpu = tensors.x.device.type == "cpu"
            options: dict[str, Any] = {"compile_threads": 1, "size_asserts": False}
            if on_cpu:
                options |= {"cpp_wrapper": True, "cpp.threads": 1}
            compiled: _Compiled = torch.compile(function, fullgraph=True, options=options)
            # Traced with sizes of which no two are the same by chance.
            example = _example(tensors)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # PyTorch's own
                compiled(example.x, _marked(self._line.new_empty(example.end), 0), *example[2:])
            self.functions[kind] = compiled
            return compiled

    def _function(self, dtype: torch.dtype) -> _Compiled:
        layers = self._decoder.step_function(self._has_source, lambda module: function_for_compiler(module, dtype))

        def features(x: Tensor, line: Tensor, mask: Tensor, buffers: list[Tensor], sources: list[Any]) -> Tensor:
            result: Tensor = layers(StepTensors(x, line.size(0), mask, buffers, sources))
            return result

        # PyTorch counts what it compiles of a code object, and gives up after eight: so each function gets its own.
        return types.FunctionType(features.__code__.replace(), globals(), "features", None, features.__closure__)


def _example(tensors: StepTensors) -> StepTensors:
    """Tensors of the same kind, of other sizes, that a compiler is told will change."""
    buffer = tensors.buffers[0]
    heads, width, beam = buffer.size(2), buffer.size(4), tensors.mask.size(1)
    sentences = 1 if buffer.size(1) == 1 else 3
    slots, capacity, source_slots = 32 * beam, 80 * beam, 48
    several = sentences > 1

    def source(parts: tuple[Tensor, Tensor, Tensor] | None) -> Any:
        if parts is None:
            return None
        keys, values, bias = parts
        marks = (0, 2) if several else (2,)
        rows = sentences * heads
        return (
            _marked(keys.new_zeros(rows, width, source_slots), *marks),
            _marked(values.new_zeros(rows, source_slots, width), *((0, 1) if several else (1,))),
            _marked(bias.new_zeros(rows, 1, source_slots), *marks),
        )

    def own() -> Tensor:
        # a part of a larger one: sentences may have left
        whole = buffer.new_zeros(2, sentences + 2, heads, capacity, width)
        return _marked(whole[:, :sentences], *((1, 3) if several else (3,)))

    rows = sentences * beam
    return StepTensors(
        _marked(tensors.x.new_zeros(rows, tensors.x.size(1)), *((0,) if rows > 1 else ())),
        9 * beam,
        _marked(
            tensors.mask.new_zeros(sentences * heads, beam, slots),
            *((0,) if several else ()),
            *((1,) if beam > 1 else ()),
            2,
        ),
        [own() for _ in tensors.buffers],
        [source(parts) for parts in tensors.sources],
    )


def _marked(tensor: Tensor, *dimensions: int) -> Tensor:
    for dimension in dimensions:
        torch._dynamo.mark_dynamic(tensor, dimension)
    return tensor


def _why_not(model: Model) -> str | None:
    decoder = _decoder(model)
    if type(decoder).forward is not TransformerDecoder.forward:
        return f"its decoder ({type(decoder).__name__}) has steps of its own"
    if has_packed(decoder.layers) or is_quantized(decoder.layers):
        return "its layers are so large that their products alone take time"
    return None


def _decoder(model: Model) -> Any:
    assert isinstance(model, EncoderDecoderModel | LanguageModel)
    return model.decoder


def _cache_folder() -> str:
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    return cache_dir()


def _check_compiler(device: torch.device) -> None:
    """Raises a ConfigError if PyTorch lacks what it compiles with."""
    if device.type != "cpu":
        from torch.utils._triton import has_triton

        if not has_triton():
            raise ConfigError(
                f"generation.compile=true needs Triton to compile for {device}, and it cannot be used here; install it "
                "(pip install triton), or leave generation.compile out"
            )
        return
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except (InvalidCxxCompiler, OSError) as error:
        raise ConfigError(
            "generation.compile=true needs a C++ compiler, and none was found; install one (g++ or clang++), name it "
            "in the environment variable CXX, or leave generation.compile out"
        ) from error
