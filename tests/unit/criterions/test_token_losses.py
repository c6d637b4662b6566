"""`cross_entropy` and `label_smoothed_cross_entropy`, on models small enough to check by hand."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from seqkit.config.base import Config
from seqkit.config.validate import build_config
from seqkit.criterions.base import build_criterion
from seqkit.errors import ConfigError
from seqkit.metrics.aggregator import Aggregator
from seqkit.models.base import EncoderOutput, IncrementalDecoder, LanguageModel, ModelOutput
from seqkit.registry import registry

PAD = 1
VOCABULARY = 9


class TinyDecoder(IncrementalDecoder):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 4)
        self.projection = nn.Linear(4, VOCABULARY)
        self.asked_for_features = []

    def forward(self, prev_output_tokens, encoder_out: EncoderOutput | None = None, *, features_only=False, **_):
        self.asked_for_features.append(features_only)
        features = self.embedding(prev_output_tokens)
        return ModelOutput(logits=features if features_only else self.output_layer(features))

    def output_layer(self, features):
        return self.projection(features)

    def output_linear(self):
        return self.projection

    def new_cache(self, rows, max_length, *, beam=1):
        raise AssertionError("not used")

    def max_positions(self):
        return 100


class TinyModel(LanguageModel):
    @classmethod
    def build(cls, config: Config, task):
        raise AssertionError("not used")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return TinyModel(TinyDecoder())


@pytest.fixture
def sample():
    tokens = torch.tensor([[4, 5, 6, 2], [7, 8, 2, PAD]])
    target = torch.tensor([[5, 6, 2, 3], [8, 2, 4, PAD]])
    return {
        "id": torch.arange(2),
        "nsentences": 2,
        "ntokens": 7,
        "net_input": {"src_tokens": tokens},
        "target": target,
    }


def make(name, **settings):
    config = build_config(registry("criterion").get(name).config, {"_name": name, **settings}, where="criterion")
    task = SimpleNamespace(target_dictionary=SimpleNamespace(pad=lambda: PAD))
    return build_criterion(config, task)


def test_equals_torch(model, sample):
    output = make("cross_entropy")(model, sample)
    logits = model(**sample["net_input"]).logits
    expected = F.cross_entropy(logits.flatten(0, 1), sample["target"].flatten(), ignore_index=PAD, reduction="sum")
    torch.testing.assert_close(output.loss, expected)
    assert output.sample_size == 7
    assert set(output.logging) == {"loss", "ntokens", "nsentences", "sample_size"}
    assert not output.logging["loss"].requires_grad


def test_smoothing_differs_from_torch_by_where_the_mass_goes(model, sample):
    """torch spreads e over all V words, fairseq over the V - 1 others: e of one is e * V / (V - 1) of the other."""
    output = make("label_smoothed_cross_entropy", label_smoothing=0.2)(model, sample)
    logits = model(**sample["net_input"]).logits.flatten(0, 1)
    expected = F.cross_entropy(
        logits,
        sample["target"].flatten(),
        ignore_index=PAD,
        reduction="sum",
        label_smoothing=0.2 * VOCABULARY / (VOCABULARY - 1),
    )
    torch.testing.assert_close(output.loss, expected)
    plain = F.cross_entropy(logits, sample["target"].flatten(), ignore_index=PAD, reduction="sum")
    torch.testing.assert_close(output.logging["nll_loss"], plain.detach())


@pytest.mark.parametrize(
    "settings", [{}, {"label_smoothing": 0.1}, {"report_accuracy": True}, {"ignore_prefix_size": 1}]
)
def test_logits_a_few_positions_at_a_time_change_nothing(model, sample, settings):
    model.double()
    results = []
    for chunk_size in (0, 3):
        model.zero_grad()
        output = make("label_smoothed_cross_entropy", **settings, chunk_size=chunk_size)(model, sample)
        output.loss.backward()
        figures = {key: float(value) for key, value in output.logging.items()}
        results.append((figures, [parameter.grad.clone() for parameter in model.parameters()]))
    assert model.decoder.asked_for_features[-1] is True
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-12)
    for one, other in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("settings", [{}, {"label_smoothing": 0.1}, {"label_smoothing": 0.1, "ignore_prefix_size": 2}])
def test_projecting_in_the_loss_changes_nothing(model, sample, settings):
    """The path through features against the path through logits, which counting right words needs."""
    model.double()
    results = []
    for report_accuracy in (False, True):
        model.zero_grad()
        criterion = make("label_smoothed_cross_entropy", report_accuracy=report_accuracy, **settings)
        output = criterion(model, sample)
        output.loss.backward()
        grads = {name: param.grad.clone() for name, param in model.named_parameters()}
        results.append((output.loss.detach(), output.logging["nll_loss"], grads))
    assert model.decoder.asked_for_features == [True, False]
    for fused, plain in zip(results[0][:2], results[1][:2], strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-12, atol=0)
    for name, grad in results[0][2].items():
        torch.testing.assert_close(grad, results[1][2][name], rtol=1e-9, atol=1e-12)


def test_logits_are_asked_for_where_features_are_not_right(model, sample):
    criterion = make("cross_entropy")
    model.decoder.projection.register_forward_hook(lambda *_: None)
    criterion(model, sample)
    assert model.decoder.asked_for_features == [False]

    class Wrapped(nn.Module):
        def forward(self, **net_input):
            return model(**net_input)

    criterion(Wrapped(), sample)
    assert model.decoder.asked_for_features == [False, False]


def test_under_autocast_the_loss_is_float32(model, sample):
    with torch.autocast("cpu", torch.bfloat16):
        output = make("label_smoothed_cross_entropy", label_smoothing=0.1)(model, sample)
    assert output.loss.dtype == torch.float32
    assert model.decoder.asked_for_features == [False]
    full = make("label_smoothed_cross_entropy", label_smoothing=0.1)(model, sample)
    torch.testing.assert_close(output.loss, full.loss, rtol=1e-2, atol=0)
    output.loss.backward()
    assert torch.isfinite(model.decoder.embedding.weight.grad).all()


def test_prefix_is_left_out(model, sample):
    criterion = make("label_smoothed_cross_entropy", ignore_prefix_size=1)
    loss = criterion(model, sample).loss
    sample["target"] = sample["target"].clone()
    sample["target"][:, 0] = 3
    assert torch.equal(criterion(model, sample).loss, loss)
    sample["target"][:, 1] = 3
    assert not torch.equal(criterion(model, sample).loss, loss)


def test_accuracy(model, sample):
    criterion = make("label_smoothed_cross_entropy", report_accuracy=True)
    best = model(**sample["net_input"]).logits.argmax(-1)
    sample["target"] = torch.where(sample["target"].eq(PAD), PAD, best)
    sample["target"][0, 0] = (best[0, 0] + 1) % VOCABULARY
    scored = int(sample["target"].ne(PAD).sum())
    output = criterion(model, sample)
    assert int(output.logging["total"]) == scored
    assert int(output.logging["n_correct"]) == int((best.eq(sample["target"]) & sample["target"].ne(PAD)).sum())
    log = Aggregator()
    criterion.reduce_metrics([output.logging], log)
    share = round(100 * int(output.logging["n_correct"]) / scored, 3)
    assert log.smoothed_values()["accuracy"] == share


@pytest.mark.parametrize("name", ["cross_entropy", "label_smoothed_cross_entropy"])
def test_one_loss_per_position(model, sample, name):
    criterion = make(name)
    output = criterion(model, sample, reduce=False)
    assert output.loss.shape == (8,)
    assert output.loss[-1] == 0
    torch.testing.assert_close(output.loss.sum(), criterion(model, sample).loss)


@pytest.mark.parametrize("name", ["cross_entropy", "label_smoothed_cross_entropy"])
def test_average_over_sentences(model, sample, name):
    output = make(name, sentence_avg=True)(model, sample)
    assert output.sample_size == output.logging["sample_size"] == 2


def test_figures_are_base_two_averages():
    criterion = make("label_smoothed_cross_entropy")
    log = Aggregator()
    batches = [
        {"loss": torch.tensor(40.0), "nll_loss": torch.tensor(30.0), "ntokens": 10, "nsentences": 2, "sample_size": 10},
        {"loss": 20.0, "nll_loss": 10.0, "ntokens": 10, "nsentences": 1, "sample_size": 10},
    ]
    criterion.reduce_metrics(batches, log)
    assert log.smoothed_values() == {
        "loss": round(3 / math.log(2), 3),
        "nll_loss": round(2 / math.log(2), 3),
        "ppl": round(2 ** (2 / math.log(2)), 2),
    }


def test_nll_is_logged_where_the_loss_is_averaged_over_sentences():
    criterion = make("cross_entropy")
    log = Aggregator()
    criterion.reduce_metrics([{"loss": 20.0, "ntokens": 10, "nsentences": 2, "sample_size": 2}], log)
    assert log.smoothed_values() == {
        "loss": round(10 / math.log(2), 3),
        "nll_loss": round(2 / math.log(2), 3),
        "ppl": round(2 ** (2 / math.log(2)), 2),
    }


@pytest.mark.parametrize("name", ["cross_entropy", "label_smoothed_cross_entropy"])
def test_nothing_scored_logs_nothing(name):
    log = Aggregator()
    make(name).reduce_metrics([], log)
    assert log.smoothed_values() == {}


def test_bad_smoothing_names_the_range():
    with pytest.raises(ConfigError, match=r"label_smoothing=1.5.*(0.*1)"):
        make("label_smoothed_cross_entropy", label_smoothing=1.5)
