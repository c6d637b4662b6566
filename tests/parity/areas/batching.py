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
    if kind.startswith("lm"):
        case.not_built("language modelling: a later issue")
    adapters = {"translation": _run_translation, "collate": _run_collate}
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

    first = iterator()
    order = first.dataset.ordered_indices(np.random.RandomState(first.seed + first.epoch))
    assert order.tolist() == expected["ordered_indices"]
    assert [batch.tolist() for batch in first.frozen_batches] == expected["frozen_batches"]

    shards = int(spec["get_batch_iterator"].get("num_shards", 1))
    for shard in range(shards):
        batches = iterator(shard_id=shard) if shards > 1 else iterator()
        for number, recorded in expected["epochs"].items():
            found = _epoch(batches, spec)
            assert batches.epoch == int(number)
            assert found == recorded[f"shard{shard}" if shards > 1 else "batches"], f"epoch {number}, shard {shard}"

    if "resume" in expected:
        _check_resume(iterator, spec, expected["resume"])
    unknown = set(expected) - {"epochs", "ordered_indices", "frozen_batches", "resume"}
    assert not unknown, f"recorded results that are not compared: {sorted(unknown)}"


def _check_resume(iterator: Any, spec: dict[str, Any], recorded: dict[str, Any]) -> None:
    before = iterator()
    batches = before.next_epoch_itr(**spec["next_epoch_itr"])
    for _ in range(recorded["consumed"]):
        next(batches)
    state = before.state_dict()
    assert {key: state[key] for key in recorded["state"]} == recorded["state"]

    for resumed_from in (state, recorded["state"]):
        after = iterator(epoch=resumed_from["epoch"])
        after.load_state_dict(resumed_from)
        assert list(after.next_epoch_itr(**spec["next_epoch_itr"])) == recorded["remaining_batches"]
        if "next_epoch_batches" in recorded:
            assert list(after.next_epoch_itr(**spec["next_epoch_itr"])) == recorded["next_epoch_batches"]


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


def _epoch(batches: EpochBatchIterator, spec: dict[str, Any]) -> list[Any]:
    itr: CountingIterator[Any] = batches.next_epoch_itr(**spec["next_epoch_itr"])
    if spec["update_freq_group"] is None:
        return list(itr)
    return list(GroupedIterator(itr, spec["update_freq_group"]))


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
        found = {key: value for key, value in _flat(batch).items() if isinstance(value, torch.Tensor)}
        prefix = variant["name"] + "."
        recorded = {key.removeprefix(prefix): arrays[key] for key in arrays.files if key.startswith(prefix)}
        assert set(found) == set(recorded)
        for key, value in recorded.items():
            assert found[key].numpy().dtype == value.dtype, f"{variant['name']}: {key}"
            np.testing.assert_array_equal(found[key].numpy(), value, err_msg=f"{variant['name']}: {key}")


def _flat(batch: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in batch.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat
