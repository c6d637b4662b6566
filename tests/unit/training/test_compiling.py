"""Compiled layers: the same losses at every length, the same names, and no compilation for each length."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from seqkit.errors import ConfigError
from seqkit.models._transformer_stack import StackOptions, TransformerDecoder, TransformerEncoder
from seqkit.models.base import EncoderDecoderModel
from seqkit.modules.embedding import token_embedding
from seqkit.modules.positional_embedding import positional_embedding
from seqkit.modules.transformer_layer import TransformerDecoderLayer, TransformerEncoderLayer
from seqkit.training.compiling import compile_layers
from tests.unit.training.toy import assert_same_state, run, toy_config

CPU = torch.device("cpu")
PAD = 1
# What the compiler warns of is its own doing.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


class _Counter:
    """A backend that compiles nothing, and counts."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: Any) -> Any:
        self.graphs += 1
        return graph.forward


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> _Counter:
    """In place of the compiler: dynamo alone, which decides what is compiled anew."""
    backend, original = _Counter(), nn.Module.compile
    monkeypatch.setattr(
        nn.Module, "compile", lambda self, dynamic, mode: original(self, dynamic=dynamic, backend=backend)
    )
    return backend


def _model(dropout: float = 0.0, layers: int = 2) -> EncoderDecoderModel:
    torch.manual_seed(1)
    table = token_embedding(20, 16, PAD)
    options = StackOptions(dropout=dropout)
    sizes: dict[str, Any] = {"dropout": dropout, "attention_dropout": dropout, "activation_dropout": dropout}
    positions = [positional_embedding(50, 16, PAD, learned=False) for _ in range(2)]
    encoder = TransformerEncoder(
        table,
        positions[0],
        [TransformerEncoderLayer(16, 32, 2, **sizes) for _ in range(layers)],
        embed_dim=16,
        max_positions=50,
        options=options,
    )
    decoder = TransformerDecoder(
        table,
        None,
        positions[1],
        [TransformerDecoderLayer(16, 32, 2, **sizes) for _ in range(layers)],
        None,
        nn.Linear(16, 20, bias=False),
        embed_dim=16,
        max_positions=50,
        options=options,
    )
    return _Model(encoder, decoder)


class _Model(EncoderDecoderModel):
    @classmethod
    def build(cls, config: Any, task: Any) -> EncoderDecoderModel:
        return _model()


def _loss(model: nn.Module, rows: int, source: int, target: int, seed: int) -> torch.Tensor:
    """Of a batch with padding on the left of the source and on the right of the target."""
    torch.manual_seed(seed)
    tokens, words = torch.randint(4, 20, (rows, source)), torch.randint(4, 20, (rows, target))
    tokens[0, 0] = words[0, -1] = PAD
    logits = model(tokens, None, words).logits
    return nn.functional.cross_entropy(logits.flatten(0, 1), words.flatten(), ignore_index=PAD, reduction="sum")


SHAPES = [(4, 5, 6), (3, 9, 7), (8, 4, 4), (2, 12, 3), (5, 7, 11), (6, 17, 19)]


def test_names_and_number_of_graphs(counter: _Counter) -> None:
    eager, model = _model(), _model(layers=2)
    assert compile_layers(model, "default", CPU) == 4
    assert list(model.state_dict()) == list(eager.state_dict())
    graphs = []
    for seed, shape in enumerate(SHAPES):
        loss = _loss(model, *shape, seed)
        loss.backward()
        assert loss.item() == pytest.approx(_loss(eager, *shape, seed).item(), rel=1e-5)
        graphs.append(counter.graphs)
    # One for encoder layers, one for decoder layers, whatever the length and the number of layers.
    assert graphs == [2] * len(SHAPES)
    model.eval()
    with torch.no_grad():
        for seed, shape in enumerate(SHAPES):
            assert _loss(model, *shape, seed).item() == pytest.approx(_loss(eager, *shape, seed).item(), rel=1e-5)
    assert counter.graphs == 4


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler, here g++")
def test_compiled_losses_and_gradients_equal_those_of_eager_mode() -> None:
    eager, model = _model(layers=1), _model(layers=1)
    compile_layers(model, "default", CPU)
    for seed, shape in enumerate(SHAPES):
        losses = [_loss(each, *shape, seed) for each in (eager, model)]
        for loss in losses:
            loss.backward()
        assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-5)
    for (name, one), other in zip(eager.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5, msg=name)


def test_training_validates_saves_and_resumes(tmp_path: Path, counter: _Counter) -> None:
    """With dropout and accumulation; a model without a stack of layers is compiled as a whole."""
    sections: dict[str, dict[str, Any]] = {"common": {"compile": "default"}, "optimization": {"update_freq": [2]}}
    whole, recorded, _ = run(toy_config(tmp_path / "whole", **sections))
    assert counter.graphs > 0
    assert recorded.losses[-1] < 0.5 * recorded.losses[0]
    config = toy_config(tmp_path / "parts", **sections)
    _, first, _ = run(config, stop_after=7)
    resumed, second, _ = run(config)
    assert first.losses + second.losses == recorded.losses
    assert_same_state(resumed.checkpoint_state(), whole.checkpoint_state())
    # A checkpoint of a compiled model is one of a model.
    run(toy_config(tmp_path / "parts", optimization={"max_epoch": 4}))


def test_dropout_acts(counter: _Counter) -> None:
    model = _model(dropout=0.3)
    compile_layers(model, "default", CPU)
    with torch.no_grad():
        losses = {_loss(model, 4, 5, 6, seed=3).item() for _ in range(2)}
        assert len(losses) == 1
        torch.manual_seed(9)
        tokens = torch.randint(4, 20, (4, 5))
        assert not torch.equal(model(tokens, None, tokens).logits, model(tokens, None, tokens).logits)


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"common\.compile=default needs a C\+\+ compiler \(g\+\+, clang\+\+, .*=none"
    ):
        compile_layers(nn.Linear(1, 1), "default", CPU)
    monkeypatch.setenv("CXX", "icpx")
    with pytest.raises(ConfigError, match=r"needs the C\+\+ compiler that CXX=icpx names, which is not found"):
        compile_layers(nn.Linear(1, 1), "default", CPU)


def test_off_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    model = _model()
    assert compile_layers(model, "none", CPU) == 0
    assert all(module._compiled_call_impl is None for module in model.modules())
