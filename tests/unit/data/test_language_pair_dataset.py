import pickle

import numpy as np
import pytest
import torch

from seqkit.data.dictionary import Dictionary
from seqkit.data.iterators import EpochBatchIterator
from seqkit.data.language_pair_dataset import LanguagePairDataset
from seqkit.errors import DataError
from tests.unit.data.rows import Rows

BOS, PAD, EOS = 0, 1, 2
SOURCE = Rows([5, EOS], [5, 6, 7, EOS], [5, 6, EOS])
TARGET = Rows([8, 9, EOS], [8, EOS], [8, 9, 8, 9, EOS])


def pairs(source=SOURCE, target=TARGET, **settings):
    dictionary = Dictionary()
    return LanguagePairDataset(
        source,
        source.sizes,
        dictionary,
        target,
        None if target is None else target.sizes,
        None if target is None else dictionary,
        **settings,
    )


def batch_of(dataset, ids=(0, 1, 2), **settings):
    return dataset.collater([dataset[index] for index in ids], **settings)


def test_batch_is_sorted_by_source_length():
    batch = batch_of(pairs())
    assert batch["id"].tolist() == [1, 2, 0]
    assert batch["nsentences"] == 3
    assert batch["ntokens"] == 10
    assert batch["net_input"]["src_tokens"].tolist() == [[5, 6, 7, 2], [1, 5, 6, 2], [1, 1, 5, 2]]
    assert batch["net_input"]["src_lengths"].tolist() == [4, 3, 2]
    assert batch["target"].tolist() == [[8, 2, 1, 1, 1], [8, 9, 8, 9, 2], [8, 9, 2, 1, 1]]
    assert batch["net_input"]["prev_output_tokens"].tolist() == [[2, 8, 1, 1, 1], [2, 8, 9, 8, 9], [2, 8, 9, 1, 1]]


def test_padding_sides():
    batch = batch_of(pairs(left_pad_source=False, left_pad_target=True), ids=(0, 1))
    assert batch["net_input"]["src_tokens"].tolist() == [[5, 6, 7, 2], [5, 2, 1, 1]]
    assert batch["target"].tolist() == [[1, 8, 2], [8, 9, 2]]
    assert batch["net_input"]["prev_output_tokens"].tolist() == [[1, 2, 8], [2, 8, 9]]


def test_without_targets():
    batch = batch_of(pairs(target=None))
    assert batch["target"] is None
    assert batch["ntokens"] == 9
    assert set(batch["net_input"]) == {"src_tokens", "src_lengths"}


def test_without_input_feeding():
    assert "prev_output_tokens" not in batch_of(pairs(input_feeding=False))["net_input"]


def test_no_items_make_an_empty_batch():
    assert pairs().collater([]) == {}


def test_lengths_to_pad_to():
    batch = batch_of(pairs(), pad_to_length={"source": 6, "target": 7})
    assert batch["net_input"]["src_tokens"].shape == (3, 6)
    assert batch["target"].shape == batch["net_input"]["prev_output_tokens"].shape == (3, 7)
    assert batch_of(pairs(pad_to_multiple=4))["target"].shape == (3, 8)


def test_bos_and_eos():
    item = pairs(append_bos=True)[0]
    assert item["source"].tolist() == [BOS, 5, EOS]
    assert item["target"].tolist() == [BOS, 8, 9, EOS]
    assert pairs(source=Rows([BOS, 5]), target=Rows([BOS, 8]), append_bos=True)[0]["source"].tolist() == [BOS, 5]
    assert pairs(remove_eos_from_source=True)[1]["source"].tolist() == [5, 6, 7]
    assert pairs(source=Rows([5]), target=Rows([8]), append_eos_to_target=True)[0]["target"].tolist() == [8, EOS]
    assert pairs(append_eos_to_target=True)[1]["target"].tolist() == [8, EOS]
    both = {"append_bos": True, "append_eos_to_target": True}
    assert pairs(source=Rows([5]), target=Rows([8]), **both)[0]["target"].tolist() == [BOS, 8]  # as in fairseq
    assert pairs(source=Rows([5]), target=Rows([BOS, 8]), **both)[0]["target"].tolist() == [BOS, 8, EOS]


def test_other_first_symbol():
    assert batch_of(pairs(eos=4), ids=(0,))["net_input"]["prev_output_tokens"].tolist() == [[4, 8, 9]]


def test_languages():
    batch = batch_of(pairs(src_lang_id=7, tgt_lang_id=8))
    assert batch["net_input"]["src_lang_id"].tolist() == [[7]] * 3
    assert batch["tgt_lang_id"].tolist() == [[8]] * 3


def test_constraints_follow_their_sentences():
    constraints = [torch.tensor([1, 5, 0]), torch.tensor([2]), torch.tensor([3, 3])]
    assert batch_of(pairs(constraints=constraints))["constraints"].tolist() == [[2, 0, 0], [3, 3, 0], [1, 5, 0]]


class TestAlignments:
    def test_places_in_the_batch(self):
        alignments = Rows([0, 0, 0, 1], [2, 0], [0, 1, 1, 1])
        batch = batch_of(pairs(align_dataset=alignments))
        # Rows are sentences 1, 2, 0; sources are 4 wide and padded by 0, 1, 2 on the left; targets are 5 wide.
        assert batch["alignments"].tolist() == [[2, 0], [1, 6], [2, 6], [2, 10], [2, 11]]
        assert batch["align_weights"].tolist() == [1.0, 0.5, 0.5, 1.0, 1.0]

    def test_targets_padded_left(self):
        batch = batch_of(pairs(align_dataset=Rows([0, 1], [1, 0], []), left_pad_source=False, left_pad_target=True))
        assert batch["alignments"].tolist() == [[1, 3], [0, 13]]

    def test_beyond_the_sentence(self, caplog):
        batch = batch_of(pairs(align_dataset=Rows([0, 0], [3, 0], [0, 4])))
        assert batch["alignments"].tolist() == [[2, 10]]
        assert "sentence 1 points beyond its words" in caplog.text
        assert "sentence 2 points beyond its words" in caplog.text

    def test_none_at_all(self):
        assert "alignments" not in batch_of(pairs(align_dataset=Rows([], [], [])))

    def test_need_targets(self):
        with pytest.raises(DataError, match="need target sentences"):
            pairs(target=None, align_dataset=Rows([], [], []))


def test_sizes():
    dataset = pairs()
    assert dataset.sizes.tolist() == [[2, 3], [4, 2], [3, 5]]
    assert dataset.size(2) == (3, 5)
    assert dataset.num_tokens(2) == 5
    assert dataset.num_tokens_vec(np.array([1, 2])).tolist() == [4, 5]
    sources = pairs(target=None)
    assert sources.sizes.tolist() == [2, 4, 3]
    assert sources.size(1) == (4, 0)
    assert sources.num_tokens_vec(np.array([1, 2])).tolist() == [4, 3]


def test_filter_looks_at_both_sides():
    kept, ignored = pairs().filter_by_size(np.array([2, 1, 0]), (3, 4))
    assert kept.tolist() == [0]
    assert ignored.tolist() == [2, 1]


class TestOrder:
    source = Rows(*([5] * length for length in [3, 2, 3, 2, 3, 70_000]))
    target = Rows(*([8] * length for length in [2, 4, 1, 4, 2, 1]))

    def test_by_source_then_target(self):
        assert pairs(self.source, self.target, shuffle=False).ordered_indices().tolist() == [1, 3, 2, 0, 4, 5]

    def test_shuffle_changes_only_ties(self):
        dataset = pairs(self.source, self.target)
        orders = {tuple(dataset.ordered_indices(np.random.RandomState(seed)).tolist()) for seed in range(20)}
        assert orders == {(*first, 2, *second, 5) for first in [(1, 3), (3, 1)] for second in [(0, 4), (4, 0)]}

    def test_not_shuffled_without_a_source_of_randomness(self):
        assert pairs(self.source, self.target).ordered_indices().tolist() == [1, 3, 2, 0, 4, 5]


class TestBuckets:
    def test_rows_are_padded(self):
        dataset = pairs(num_buckets=1)
        assert dataset.sizes.tolist() == [[4, 5]] * 3
        batch = batch_of(dataset, ids=(0,))
        assert batch["net_input"]["src_tokens"].tolist() == [[1, 1, 5, 2]]
        assert batch["net_input"]["src_lengths"].tolist() == [2]
        assert batch["target"].tolist() == [[8, 9, 2, 1, 1]]
        assert batch["ntokens"] == 3

    def test_batches_have_few_shapes(self):
        rng = np.random.RandomState(5)
        source = Rows(*([5] * length for length in rng.randint(1, 20, 60)))
        target = Rows(*([8] * length for length in rng.randint(1, 20, 60)))
        dataset = pairs(source, target, num_buckets=3)
        found = dataset.batch_by_size(dataset.ordered_indices(), max_tokens=100, required_batch_size_multiple=2)
        assert sorted(np.concatenate(found).tolist()) == list(range(60))
        assert all(dataset.num_tokens_vec(batch).max() * len(batch) <= 100 for batch in found)

    def test_no_ragged_batch_is_dropped_of_them(self):
        dataset = pairs(Rows(*[[5]] * 6), Rows(*[[8]] * 6), num_buckets=1)
        batches = EpochBatchIterator(dataset, max_tokens=4, required_batch_size_multiple=4, drop_ragged_batch=True)
        assert [len(batch) for batch in batches.frozen_batches] == [4, 2]


def test_sides_must_be_pairs():
    with pytest.raises(DataError, match="3 source sentences but 1 target sentences"):
        pairs(target=Rows([8, EOS]))


def test_dictionaries_must_agree():
    other = Dictionary(add_special_symbols=False)
    for symbol in ("<s>", "</s>", "<pad>", "<unk>"):
        other.add_symbol(symbol)
    with pytest.raises(DataError, match="padding 1 and 2, end of sentence 2 and 1"):
        LanguagePairDataset(SOURCE, SOURCE.sizes, Dictionary(), TARGET, TARGET.sizes, other)


def test_goes_to_worker_processes():
    dataset = pickle.loads(pickle.dumps(pairs()))
    assert batch_of(dataset)["id"].tolist() == [1, 2, 0]
