"""Batches, their order over epochs and shards, resuming, and collation, against fairseq's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from seqkit.data.dictionary import Dictionary
from seqkit.data.iterators import CountingIterator, EpochBatchIterator, GroupedIterator
from seqkit.data.language_pair_dataset import LanguagePairDataset
from seqkit.data.monolingual_dataset import MonolingualDataset
from seqkit.data.token_block_dataset import TokenBlockDataset
from tests.parity.loader import Case

_SAME_NAME = {
    "max_tokens",
    "max_sentences",
    "max_positions",
    "ignore_invalid_inputs",
    "required_batch_size_multiple",
    "seed",
    "num_shards",
    "shard_id",
    "num_workers",
    "epoch",
    "grouped_shuffling",
    "skip_remainder_batch",
}
# How fairseq's task keeps iterators between epochs, which does not show in one iterator's batches.
_WITHOUT_EFFECT = {"disable_iterator_cache", "update_epoch_batch_itr", "reuse_dataloader", "persistent_workers"}


def run(case: Case) -> None:
    kind = case.spec["kind"]
    adapters = {
        "translation": _run_translation,
        "collate": _run_collate,
        "lm": _run_text,
        "lm_blocks": _run_blocks,
    }
    if kind not in adapters:
        case.not_built(f"batching of kind {kind!r}: a later issue")
    adapters[kind](case)


class _Ids(LanguagePairDataset):
    """A pair dataset of which only the lengths are known; its batches are the lists of ids."""

    def __getitem__(self, index: int) -> Any:
        return index

    def collater(self, samples: Sequence[Any], pad_to_length: Any = None) -> Any:
        return list(samples)


def _run_translation(case: Case) -> None:
    spec = case.spec
    expected = json.loads((case.folder / spec["expected"]).read_text(encoding="utf-8"))
    sizes = np.load(case.folder / spec.get("arrays", "sizes.npz"))
    settings = dict(spec["dataset"])
    name = settings.pop("class")
    if name != "LanguagePairDataset":
        case.not_built(f"dataset {name}: a later issue")
    has_target = settings.pop("has_target")
    dictionary = Dictionary()
    rows: list[torch.Tensor] = [torch.empty(0)] * len(sizes["src_sizes"])

    def iterator(**more: Any) -> EpochBatchIterator:
        dataset = _Ids(
            rows,
            sizes["src_sizes"],
            dictionary,
            rows if has_target else None,
            sizes["tgt_sizes"] if has_target else None,
            dictionary if has_target else None,
            **settings,
        )
        return EpochBatchIterator(dataset, drop_ragged_batch=True, **{**_iterator_settings(spec), **more})

    _check_epochs(iterator, spec, expected)


def _check_epochs(iterator: Any, spec: dict[str, Any], expected: dict[str, Any]) -> None:
    """The order of the items, the batches, and those of each epoch and shard."""
    unknown = set(expected) - {"epochs", "ordered_indices", "frozen_batches", "resume"}
    assert not unknown, f"recorded results that are not compared: {sorted(unknown)}"
    first = iterator()
    order = first.dataset.ordered_indices(np.random.RandomState(first.seed + first.epoch))
    assert order.tolist() == expected.get("ordered_indices", order.tolist())
    assert [batch.tolist() for batch in first.frozen_batches] == expected["frozen_batches"]

    shards = int(spec["get_batch_iterator"].get("num_shards", 1))
    for shard in range(shards):
        batches = iterator(shard_id=shard) if shards > 1 else iterator()
        for number, recorded in expected["epochs"].items():
            found = _epoch(batches, spec)
            assert batches.epoch == int(number)
            if isinstance(recorded, dict):
                recorded = recorded[f"shard{shard}" if shards > 1 else "batches"]
            assert found == recorded, f"epoch {number}, shard {shard}"

    if "resume" in expected:
        _check_resume(iterator, spec, expected["resume"])


def _check_resume(iterator: Any, spec: dict[str, Any], recorded: dict[str, Any]) -> None:
    before = iterator()
    batches = before.next_epoch_itr(**_how_to_go_over(spec))
    for _ in range(recorded["consumed"]):
        next(batches)
    state = before.state_dict()
    assert {key: state[key] for key in recorded["state"]} == recorded["state"]

    for resumed_from in (state, recorded["state"]):
        after = iterator(epoch=resumed_from["epoch"])
        after.load_state_dict(resumed_from)
        assert list(after.next_epoch_itr(**_how_to_go_over(spec))) == recorded["remaining_batches"]
        if "next_epoch_batches" in recorded:
            assert list(after.next_epoch_itr(**_how_to_go_over(spec))) == recorded["next_epoch_batches"]


def _iterator_settings(spec: dict[str, Any]) -> dict[str, Any]:
    given = {**spec["get_batch_iterator"], **spec.get("task_settings", {})}
    settings = {key: value for key, value in given.items() if key in _SAME_NAME}
    if "data_buffer_size" in given:
        settings["buffer_size"] = given["data_buffer_size"]
    if "rebuild_batches" in given:
        settings["update_epoch_batch_itr"] = given["rebuild_batches"]
    unknown = set(given) - _SAME_NAME - _WITHOUT_EFFECT - {"data_buffer_size", "rebuild_batches"}
    assert not unknown, f"unknown iterator settings {sorted(unknown)}"
    return settings


def _how_to_go_over(spec: dict[str, Any]) -> dict[str, Any]:
    """How an epoch is begun; that the dataset is not told its number changes nothing for a dataset of lengths."""
    given = spec.get("next_epoch_itr", {})
    return {key: value for key, value in given.items() if key != "set_dataset_epoch"}


def _epoch(batches: EpochBatchIterator, spec: dict[str, Any]) -> list[Any]:
    itr: CountingIterator[Any] = batches.next_epoch_itr(**_how_to_go_over(spec))
    if spec.get("update_freq_group") is None:
        return list(itr)
    return list(GroupedIterator(itr, spec["update_freq_group"]))


def _run_text(case: Case) -> None:
    """Blocks of a text: their order, batches and collation."""
    spec = case.spec
    expected = json.loads((case.folder / spec["expected"]).read_text(encoding="utf-8"))
    arrays = np.load(case.folder / spec["arrays"])
    dictionary = Dictionary()
    for word in range(int(arrays["tokens"].max()) + 1 - len(dictionary)):
        dictionary.add_symbol(str(word))
    blocks = _blocks(arrays, dictionary, spec["block_size"], spec["break_mode"])
    assert blocks.sizes.tolist() == arrays["block_sizes"].tolist()

    def iterator(**more: Any) -> EpochBatchIterator:
        dataset = _TextIds(blocks, dictionary, **spec["monolingual"])
        return EpochBatchIterator(dataset, drop_ragged_batch=True, **{**_iterator_settings(spec), **more})

    _check_epochs(iterator, spec, expected)

    whole = MonolingualDataset(blocks, dictionary, **spec["monolingual"])
    recorded_batches = {name.split(".")[0] for name in arrays.files if name.startswith("collate_first")}
    for name in recorded_batches:
        count = int(name.removeprefix("collate_first"))
        _compare_batch(name, whole.collater([whole[index] for index in range(count)]), arrays)


class _TextIds(MonolingualDataset):
    """Text of which only the lengths matter; its batches are the lists of ids."""

    def __getitem__(self, index: int) -> Any:
        return index

    def collater(self, samples: Sequence[Any]) -> Any:
        return [int(index) for index in samples]


def _blocks(arrays: Any, dictionary: Dictionary, block_size: int, mode: str, **settings: Any) -> TokenBlockDataset:
    rows = [torch.from_numpy(row) for row in np.split(arrays["tokens"], np.cumsum(arrays["sizes"])[:-1])]
    return TokenBlockDataset(
        rows,
        arrays["sizes"],
        block_size,
        pad=dictionary.pad(),
        eos=dictionary.eos(),
        break_mode=mode,
        **settings,
    )


def _run_blocks(case: Case) -> None:
    """Where a text is cut into blocks, and what the items are."""
    spec = case.spec
    arrays = np.load(case.folder / spec["arrays"])
    dictionary = Dictionary()
    assert (dictionary.pad(), dictionary.eos()) == (spec["pad"], spec["eos"])
    read = {"sizes", "tokens"}
    for variant in spec["variants"]:
        variant = dict(variant)
        key, items = variant.pop("key"), variant.pop(next(name for name in variant if name.startswith("items")))
        blocks = _blocks(
            arrays,
            dictionary,
            variant.pop("block_size"),
            variant.pop("break_mode"),
            document_sep_len=variant.pop("document_sep_len"),
        )
        assert len(blocks) == variant.pop("n_blocks"), key
        del variant["dtype_slices"]  # how fairseq keeps the numbers in memory
        assert not variant, f"settings that no one reads: {sorted(variant)}"
        for name, found in (
            ("slice_indices", blocks.slice_indices),
            ("block_to_dataset_index", blocks.block_to_dataset_index),
            ("block_sizes", blocks.sizes),
        ):
            np.testing.assert_array_equal(found, arrays[f"{key}.{name}"], err_msg=f"{key}: {name}")
            read.add(f"{key}.{name}")
        for item in items:
            block = blocks[item["i"]]
            found_item = {"source": block.source, "future_target": block.target, "past_target": block.past}
            for name, row in found_item.items():
                assert row.tolist() == item[name], f"{key}, block {item['i']}: {name}"
            unknown = set(item) - set(found_item) - {"i"}
            assert not unknown, f"parts of an item that no one reads: {sorted(unknown)}"
    unread = set(arrays.files) - read
    assert not unread, f"arrays that no one reads: {sorted(unread)}"


def _run_collate(case: Case) -> None:
    spec = case.spec
    arrays = np.load(case.folder / spec["arrays"])
    dictionary = Dictionary()
    special = {"pad": dictionary.pad(), "eos": dictionary.eos(), "bos": dictionary.bos(), "unk": dictionary.unk()}
    assert special == {name: spec[name] for name in special}

    def rows(side: str, ids: list[int]) -> list[torch.Tensor]:
        by_id = {index: torch.from_numpy(arrays[f"{side}_tokens.{index}"]) for index in ids}
        return [by_id.get(index, torch.empty(0, dtype=torch.int64)) for index in range(max(ids) + 1)]

    for variant in spec["variants"]:
        unknown = set(variant) - {"name", "ids", "settings", "ntokens", "nsentences"}
        assert not unknown, f"unknown settings {sorted(unknown)} of variant {variant['name']}"
        source, target = rows("src", variant["ids"]), rows("tgt", variant["ids"])
        dataset = LanguagePairDataset(
            source,
            [len(row) for row in source],
            dictionary,
            target,
            [len(row) for row in target],
            dictionary,
            **variant["settings"],
        )
        batch = dataset.collater([dataset[index] for index in variant["ids"]])
        assert batch["ntokens"] == variant["ntokens"]
        assert batch["nsentences"] == variant["nsentences"]
        _compare_batch(variant["name"], batch, arrays)


def _compare_batch(name: str, batch: dict[str, Any], arrays: Any) -> None:
    """The tensors of a batch against the arrays recorded under its name."""
    found = {key: value for key, value in _flat(batch).items() if isinstance(value, torch.Tensor)}
    prefix = name + "."
    recorded = {key.removeprefix(prefix): arrays[key] for key in arrays.files if key.startswith(prefix)}
    assert set(found) == set(recorded)
    for key, value in recorded.items():
        assert found[key].numpy().dtype == value.dtype, f"{name}: {key}"
        np.testing.assert_array_equal(found[key].numpy(), value, err_msg=f"{name}: {key}")


def _flat(batch: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in batch.items():
        if isinstance(value, list):  # one of several targets
            value = {str(place): item for place, item in enumerate(value)}
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat
