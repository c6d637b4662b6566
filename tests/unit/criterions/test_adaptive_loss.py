"""The adaptive loss, on a model that answers with given features."""

import math

import pytest
import torch
from torch import nn

from seqkit.config.validate import build_config
from seqkit.criterions.adaptive_loss import AdaptiveLoss, AdaptiveLossConfig
from seqkit.criterions.cross_entropy import CrossEntropy, CrossEntropyConfig
from seqkit.errors import ConfigError
from seqkit.metrics.aggregator import Aggregator
from seqkit.models.base import Model, ModelOutput
from seqkit.modules.adaptive_softmax import AdaptiveSoftmax

PAD, WORDS = 1, 20


class Given(Model):
    def __init__(self, softmax):
        super().__init__()
        self.softmax = softmax
        self.features = nn.Parameter(torch.randn(2, 4, 8))

    @classmethod
    def build(cls, config, task):
        raise AssertionError("not used")

    def max_positions(self):
        return 100

    @property
    def adaptive_softmax(self):
        return self.softmax

    def forward(self, src_tokens):
        return ModelOutput(logits=self.features)


@pytest.fixture
def model():
    torch.manual_seed(1)
    return Given(AdaptiveSoftmax(WORDS, 8, [6, 12]))


SAMPLE = {
    "net_input": {"src_tokens": torch.zeros(2, 4, dtype=torch.int64)},
    "target": torch.tensor([[4, 7, 13, 19], [5, 11, PAD, PAD]]),
    "ntokens": 6,
    "nsentences": 2,
}


def criterion(**options):
    return AdaptiveLoss(build_config(AdaptiveLossConfig, {"_name": "adaptive_loss", **options}, "criterion"), PAD)


def word_losses(model):
    with torch.no_grad():
        return -model.target_log_probs(model.features, SAMPLE["target"])


def test_it_is_the_negative_log_probability_of_the_words(model):
    output = criterion()(model, SAMPLE)
    expected = word_losses(model)[SAMPLE["target"] != PAD].sum()
    torch.testing.assert_close(output.loss.detach(), expected)
    assert output.sample_size == 6
    assert {key: float(value) for key, value in output.logging.items()} == {
        "loss": float(output.loss.detach()),
        "ntokens": 6,
        "nsentences": 2,
        "sample_size": 6,
    }
    assert criterion(sentence_avg=True)(model, SAMPLE).sample_size == 2


def test_it_is_what_cross_entropy_makes_of_the_same_model(model):
    other = CrossEntropy(CrossEntropyConfig(_name="cross_entropy"), PAD)
    torch.testing.assert_close(criterion()(model, SAMPLE).loss, other(model, SAMPLE).loss)


def test_each_position_has_its_own_loss_where_they_are_not_summed(model):
    losses = criterion()(model, SAMPLE, reduce=False).loss
    torch.testing.assert_close(
        losses.detach(), word_losses(model).flatten().where(SAMPLE["target"].flatten() != PAD, 0.0)
    )


def test_fairseqs_omission_is_an_option(model):
    # 7 and 13 are the second words of their clusters
    full, less = (criterion(skip_pad_offset=skip)(model, SAMPLE, reduce=False).loss for skip in (False, True))
    differs = (full != less).tolist()
    assert differs == [False, True, True, False, False, False, False, False]
    assert bool((less <= full).all())


def test_padding_gets_no_gradient(model):
    criterion()(model, SAMPLE).loss.backward()
    assert not model.features.grad[1, 2:].any()
    assert model.features.grad[1, :2].any()


def test_figures_are_averages_in_base_2(model):
    log = Aggregator()
    outputs = [
        {"loss": 8 * math.log(2), "ntokens": 4, "sample_size": 4},
        {"loss": 4 * math.log(2), "ntokens": 2, "sample_size": 2},
    ]
    criterion().reduce_metrics(outputs, log)
    assert log.smoothed_values() == {"loss": 2.0, "ppl": 4.0}


def test_a_model_without_an_adaptive_softmax_is_told():
    with pytest.raises(
        ConfigError, match=r"needs a model with an adaptive softmax; set model\.adaptive_softmax_cutoff"
    ):
        criterion()(Given(None), SAMPLE)
