import pytest
import torch

from seqkit.modules.adaptive_input import AdaptiveInput

PAD = 1


def embedding(cutoffs=(4, 10)):
    torch.manual_seed(1)
    return AdaptiveInput(20, PAD, 8, 2.0, 6, cutoffs)


def test_each_word_has_the_vector_of_its_band():
    model = embedding()
    tokens = torch.tensor([[3, 4, 19], [9, 10, 0]])
    vectors = model(tokens)
    assert vectors.shape == (2, 3, 6)
    for place, (band, row) in {(0, 0): (0, 3), (0, 1): (1, 0), (0, 2): (2, 9), (1, 0): (1, 5), (1, 2): (0, 0)}.items():
        table, projection = model.weights_for_band(band)
        torch.testing.assert_close(vectors[place], projection @ table[row])


def test_bands_grow_narrower():
    assert [tuple(embedding().weights_for_band(band)[0].shape) for band in range(3)] == [(4, 8), (6, 4), (10, 2)]


def test_padding_alone_is_zero_and_not_trained():
    model = embedding()
    assert not model(torch.tensor([PAD])).any()
    model(torch.tensor([PAD, 5])).sum().backward()
    assert not model.embeddings[0][0].weight.grad.any()
    assert model.embeddings[1][0].weight.grad[PAD].any(), "the second word of another band is no padding"


def test_a_band_without_words_gets_gradients_of_zero():
    model = embedding()
    model(torch.tensor([[2, 3]])).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_cutoffs_outside_the_vocabulary_are_told():
    with pytest.raises(ValueError, match="the cutoffs 4,21 do not cut a vocabulary of 20 words"):
        embedding((4, 21))
