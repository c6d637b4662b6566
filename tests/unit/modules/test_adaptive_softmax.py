"""The adaptive softmax is a distribution over all words; what is computed of it in part is that of the whole."""

import pytest
import torch
import torch.nn.functional as F

from seqkit.modules.adaptive_input import AdaptiveInput
from seqkit.modules.adaptive_softmax import AdaptiveSoftmax

WORDS = 30


def softmax(tied=False, tie_proj=False, cutoff=(8, 20), **settings):
    torch.manual_seed(2)
    inputs = AdaptiveInput(WORDS, 1, 16, 4.0, 16, cutoff) if tied else None
    return AdaptiveSoftmax(WORDS, 16, cutoff, adaptive_inputs=inputs, tie_proj=tie_proj, **settings)


@pytest.mark.parametrize(("tied", "tie_proj"), [(False, False), (True, False), (True, True)])
def test_the_probabilities_of_all_words_sum_to_one(tied, tie_proj):
    model = softmax(tied, tie_proj)
    log_probs = model.log_prob(torch.randn(2, 3, 16))
    assert log_probs.shape == (2, 3, WORDS)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2, 3))


def test_the_targets_alone_have_the_probabilities_they_have_among_all():
    model = softmax()
    features, target = torch.randn(4, 5, 16), torch.randint(0, WORDS, (4, 5))
    whole = model.log_prob(features).gather(2, target.unsqueeze(2)).squeeze(2)
    torch.testing.assert_close(model.target_log_prob(features, target), whole)


def test_the_loss_of_the_clusters_is_the_negative_log_probability():
    model = softmax()
    features, target = torch.randn(50, 16), torch.arange(50) % WORDS
    loss = 0.0
    for scores in model.clusters(features, target):
        loss += F.cross_entropy(scores.logits, scores.target, reduction="sum")
    torch.testing.assert_close(loss, -model.target_log_prob(features, target).sum())


def test_a_cluster_without_words_gets_gradients_of_zero():
    model = softmax()
    model.target_log_prob(torch.randn(3, 16), torch.tensor([0, 1, 2])).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert not model.tail[1][0].weight.grad.any()


def test_tied_weights_are_the_inputs_own():
    torch.manual_seed(1)
    inputs = AdaptiveInput(WORDS, 1, 16, 4.0, 16, [8, 20])
    model = AdaptiveSoftmax(WORDS, 16, [8, 20], adaptive_inputs=inputs, tie_proj=True)
    own = {id(parameter) for parameter in model.parameters()} - {id(parameter) for parameter in inputs.parameters()}
    assert own == {id(model.head.class_proj.weight)}


def test_a_cluster_may_be_so_narrow_that_all_its_words_are_alike():
    model = softmax(factor=100.0)
    log_probs = model.log_prob(torch.randn(2, 16))
    torch.testing.assert_close(log_probs[:, 20:], log_probs[:, 20:21].expand(2, 10))


def test_dropout_is_for_training_alone():
    model = softmax(dropout=0.5)
    features = torch.randn(3, 16)
    assert not torch.equal(model.log_prob(features), model.log_prob(features))
    model.eval()
    assert torch.equal(model.log_prob(features), model.log_prob(features))


@pytest.mark.parametrize("cutoff", [[], [30], [8, 8], [20, 8], [0, 8], [8, 31]])
def test_cutoffs_that_cut_nothing_are_told(cutoff):
    with pytest.raises(ValueError, match="do not cut a vocabulary of 30 words into clusters: they must be rising"):
        softmax(cutoff=cutoff)
