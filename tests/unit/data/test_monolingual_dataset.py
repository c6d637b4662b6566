import numpy as np
import pytest

from seqkit.data.dictionary import Dictionary
from seqkit.data.monolingual_dataset import MonolingualDataset
from seqkit.data.token_block_dataset import TokenBlockDataset
from seqkit.errors import DataError
from tests.unit.data.rows import Rows

BOS, PAD, EOS, UNK = 0, 1, 2, 3


def dictionary(words=8):
    result = Dictionary()
    for word in range(words):
        result.add_symbol(f"w{word}")
    return result


def dataset(*rows, mode="eos", words=8, **settings):
    data = Rows(*rows)
    blocks = TokenBlockDataset(data, data.sizes, 3, pad=PAD, eos=EOS, break_mode=mode)
    return MonolingualDataset(blocks, dictionary(words), **settings)


def test_the_next_token_is_predicted():
    item = dataset([5, 6, EOS])[0]
    assert item["source"].tolist() == [EOS, 5, 6]
    assert item["target"].tolist() == [5, 6, EOS]


def test_the_token_before_and_the_token_itself_can_be_predicted():
    data = dataset([5, 6, EOS], targets=["self", "past"])
    assert [row.tolist() for row in data[0]["target"]] == [[EOS, 5, 6], [PAD, EOS, 5]]
    batch = data.collater([data[0]])
    assert [target.tolist() for target in batch["target"]] == [[[EOS, 5, 6]], [[PAD, EOS, 5]]]


def test_eos_is_read_too_where_others_than_the_future_are_predicted():
    item = dataset([5, 6, EOS], targets=["self", "future", "past"], add_eos_for_other_targets=True)[0]
    assert item["source"].tolist() == [EOS, 5, 6, EOS]
    assert [row.tolist() for row in item["target"]] == [[EOS, 5, 6, EOS], [5, 6, EOS, PAD], [PAD, EOS, 5, 6]]


def test_bos_comes_before_what_is_read_and_what_is_predicted():
    item = dataset([5, 6, EOS], add_bos_token=True)[0]
    assert item["source"].tolist() == [BOS, EOS, 5, 6]
    assert item["target"].tolist() == [BOS, 5, 6, EOS]


def test_targets_beyond_the_target_dictionary_are_unknown():
    data = dataset([5, 9, EOS], tgt_dict=dictionary().first(7))
    assert data[0]["source"].tolist() == [EOS, 5, 9]
    assert data[0]["target"].tolist() == [5, UNK, EOS]


def test_a_batch_is_padded_on_the_right():
    data = dataset([5, EOS], [6, 7, EOS])
    batch = data.collater([data[0], data[1]])
    assert batch["id"].tolist() == [0, 1]
    assert batch["net_input"]["src_tokens"].tolist() == [[EOS, 5, PAD], [EOS, 6, 7]]
    assert batch["net_input"]["src_lengths"].tolist() == [2, 3]
    assert batch["target"].tolist() == [[5, EOS, PAD], [6, 7, EOS]]
    assert (batch["ntokens"], batch["nsentences"]) == (5, 2)
    assert data.collater([]) == {}


def test_a_batch_can_have_a_fixed_shape():
    data = dataset([5, EOS], fixed_pad_length=4, pad_to_bsz=3)
    batch = data.collater([data[0]])
    assert batch["net_input"]["src_tokens"].tolist() == [[EOS, 5, PAD, PAD], [PAD] * 4, [PAD] * 4]
    assert batch["target"].shape == (3, 4)


def test_the_order_is_by_length_then_at_random():
    data = dataset([5, 6, EOS], [5, EOS], [6, EOS], [7, EOS], shuffle=True)
    assert data.ordered_indices().tolist() == [1, 2, 3, 0]
    orders = {tuple(data.ordered_indices(np.random.RandomState(seed))) for seed in range(20)}
    assert len(orders) > 1
    assert {order[-1] for order in orders} == {0}


def test_a_token_of_another_dictionary_is_told_with_its_block():
    data = dataset([5, EOS], [5, 40, EOS])
    with pytest.raises(
        DataError, match=r"block 1 holds the token 40, but the dictionary has only 12 symbols: the data"
    ):
        data.collater([data[0], data[1]])


def test_an_unknown_target_is_told():
    with pytest.raises(ValueError, match=r"targets=\['next'\] must be some of self, future, past"):
        dataset([5, EOS], targets=["next"])
