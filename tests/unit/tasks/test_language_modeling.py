"""The task on files: splits, shards, cutting, and what cannot be."""

import os

import numpy as np
import pytest
import torch

from seqkit.config.validate import build_config
from seqkit.data.indexed_dataset import make_builder
from seqkit.errors import ConfigError, DataError
from seqkit.registry import registry
from seqkit.tasks.base import build_task
from seqkit.tasks.language_modeling import LanguageModelingConfig

WORDS = ["a", "b", "c", "d", "e"]
LINES = ["a b c", "", "d e a b", "e"]


def make_data(folder, splits=("train", "valid"), lines=LINES):
    folder.mkdir()
    (folder / "dict.txt").write_text("".join(f"{word} 1\n" for word in WORDS), encoding="utf-8")
    for split in splits:
        with make_builder(folder / split, "mmap", 100) as builder:
            for line in lines:
                builder.add_item([4 + WORDS.index(word) for word in line.split()] + [2])
    return folder


@pytest.fixture
def data(tmp_path):
    return make_data(tmp_path / "data")


def task_for(*folders, **options):
    data = os.pathsep.join(str(folder) for folder in folders)
    config = build_config(LanguageModelingConfig, {"data": data, "tokens_per_sample": 5, **options}, "task")
    config._name = "language_modeling"
    return build_task(config)


def model_config(**options):
    tiny = {"decoder_embed_dim": 8, "decoder_ffn_embed_dim": 8, "decoder_layers": 1, "decoder_attention_heads": 2}
    cls = registry("model").get("transformer_lm").config
    return build_config(cls, {"_name": "transformer_lm", **tiny, **options}, "model")


def test_text_is_cut_into_blocks(data):
    dataset = task_for(data).load_dataset("train")
    assert [dataset[index]["target"].tolist() for index in range(len(dataset))] == [
        [4, 5, 6, 2, 2],
        [7, 8, 4, 5, 2],
        [8, 2],
    ]


def test_sentences_and_documents_can_be_kept_whole(data):
    def targets(mode):
        dataset = task_for(data, sample_break_mode=mode, tokens_per_sample=20).load_dataset("train")
        return [dataset[index]["target"].tolist() for index in range(len(dataset))]

    assert targets("eos") == [[4, 5, 6, 2], [2], [7, 8, 4, 5, 2], [8, 2]]
    assert targets("complete") == [[4, 5, 6, 2, 2, 7, 8, 4, 5, 2, 8, 2]]
    assert targets("complete_doc") == [[4, 5, 6, 2], [7, 8, 4, 5, 2, 8, 2]]


def test_shards_take_turns(tmp_path):
    one = make_data(tmp_path / "one")
    two = make_data(tmp_path / "two", lines=["c c c c"])
    task = task_for(one, two)
    assert task.has_sharded_data("train")
    assert not task.has_sharded_data("valid")
    sizes = [len(task.load_dataset("train", epoch=epoch)) for epoch in (1, 2, 3)]
    assert sizes == [3, 1, 3]


def test_a_missing_shard_is_told_before_the_first_epoch(tmp_path):
    one, two = make_data(tmp_path / "one"), make_data(tmp_path / "two", splits=("valid",))
    with pytest.raises(DataError, match=r"the split 'train' is not in .*two.*splits there: valid"):
        task_for(one, two).load_dataset("train", epoch=1)


def test_long_sentences_can_be_shortened(data):
    def sizes(split, **options):
        rows = task_for(data, tokens_per_sample=3, sample_break_mode="eos", **options).load_dataset(split)
        return rows.sizes.tolist()

    assert sizes("train") == [4, 1, 5, 2]
    assert sizes("train", shorten_method="truncate") == [3, 1, 3, 2]
    assert sizes("train", shorten_method="random_crop") == [3, 1, 3, 2]
    assert sizes("valid", shorten_method="truncate", shorten_data_split_list="train,dev") == [4, 1, 5, 2]


def test_random_pieces_change_with_the_epoch(tmp_path):
    folder = make_data(tmp_path / "data", lines=["a b c d e " * 20])
    task = task_for(folder, tokens_per_sample=4, sample_break_mode="eos", shorten_method="random_crop")
    dataset = task.load_dataset("train")
    seen = set()
    for epoch in range(1, 9):
        dataset.set_epoch(epoch)
        seen.add(tuple(dataset[0]["target"].tolist()))
    assert len(seen) > 1


def test_only_some_words_may_be_predicted(data):
    task = task_for(data, output_dictionary_size=6)
    assert (len(task.source_dictionary), len(task.target_dictionary)) == (9, 6)
    assert task.load_dataset("train")[0]["target"].tolist() == [4, 5, 3, 2, 2]
    with pytest.raises(ConfigError, match="output_dictionary_size=3 leaves no word to predict"):
        task_for(data, output_dictionary_size=3)


def test_batches_can_have_a_fixed_shape(data):
    task = task_for(data, pad_to_fixed_length=True, pad_to_fixed_bsz=True, batch_size=4, batch_size_valid=3)
    for split, rows in (("train", 4), ("valid", 3)):
        dataset = task.load_dataset(split)
        assert dataset.collater([dataset[2]])["target"].shape == (rows, 5)


def test_a_model_is_built_for_the_blocks(data):
    model = task_for(data).build_model(model_config(tokens_per_sample=5))
    assert model.max_positions() == 5


def test_blocks_longer_than_the_model_takes_are_told(data):
    with pytest.raises(ConfigError, match=r"task\.tokens_per_sample=5 is more than the 4 positions of the model"):
        task_for(data).build_model(model_config(max_target_positions=4))
    task_for(data, sample_break_mode="eos").build_model(model_config(max_target_positions=4))


def test_a_model_that_is_no_language_model_is_told(data):
    config = build_config(registry("model").get("transformer").config, {"_name": "transformer"}, "model")
    config.encoder_layers = config.decoder_layers = 1
    with pytest.raises(ConfigError, match="model=transformer is not a language model"):
        task_for(data).build_model(config)


def test_targets_that_the_model_cannot_predict_are_told(data):
    task = task_for(data, past_target=True, future_target=True)
    assert task.targets == ("future", "past")
    with pytest.raises(ConfigError, match=r"cannot be trained with task\.past_target=true: it predicts future tokens"):
        task.build_model(model_config(tokens_per_sample=5))


def test_a_prompt_is_what_outputs_begin_with(data):
    task = task_for(data)
    rows = [torch.tensor([4, 5, 2]), torch.tensor([6, 2])]
    dataset = task.build_dataset_for_inference(rows, [3, 2])
    sample = dataset.collater([dataset[0], dataset[1]])
    prefix, begin = task.generation_start(sample)
    assert begin == 2
    assert prefix.tolist() == [[4, 5], [6, 1]]
    with_bos = task_for(data, add_bos_token=True)
    assert with_bos.build_dataset_for_inference(rows, [3, 2]).begin == with_bos.begin_symbol == 0


def test_a_block_that_begins_in_midst_of_a_sentence_is_continued_whole(data):
    dataset = task_for(data, tokens_per_sample=3).load_dataset("train")
    sample = dataset.collater([dataset[0], dataset[1]])
    prefix, _ = task_for(data).generation_start(sample)
    assert sample["net_input"]["src_tokens"].tolist() == [[2, 4, 5], [6, 2, 2]]
    assert prefix.tolist() == [[4, 5, 1], [6, 2, 2]]


def test_constraints_are_refused(data):
    with pytest.raises(ConfigError, match="constraints cannot be used with a language model"):
        task_for(data).build_dataset_for_inference([torch.tensor([2])], [1], constraints=[torch.tensor([4])])


def test_options_that_cannot_be_are_told(data, tmp_path):
    with pytest.raises(ConfigError, match=r"task\.data is not given"):
        build_task(LanguageModelingConfig(_name="language_modeling"))
    with pytest.raises(ConfigError, match=r"use_plasma_view.*memory-mapped"):
        task_for(data, use_plasma_view=True)
    with pytest.raises(ConfigError, match=r"sample_break_mode.*none, complete, complete_doc, eos"):
        task_for(data, sample_break_mode="lines")
    lone = make_data(tmp_path / "lone", lines=["", ""])
    with pytest.raises(DataError, match=r"gives no block of text with task\.sample_break_mode=complete_doc"):
        task_for(lone, sample_break_mode="complete_doc").load_dataset("train")


def test_every_token_of_an_epoch_is_trained_on_once(data):
    task = task_for(data)
    dataset = task.load_dataset("train")
    batches = task.batch_iterator(dataset, max_sentences=2, seed=3).next_epoch_itr()
    tokens = np.sort(np.concatenate([batch["target"][batch["target"] != 1].numpy() for batch in batches]))
    assert tokens.tolist() == sorted([4, 5, 6, 2, 2, 7, 8, 4, 5, 2, 8, 2])
