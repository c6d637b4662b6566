import os
from types import SimpleNamespace

import pytest
import sacrebleu
import torch
from torch import nn

from seqkit.config.validate import build_config
from seqkit.criterions.base import LossOutput
from seqkit.data.indexed_dataset import make_builder
from seqkit.errors import ConfigError, DataError, UnknownNameError
from seqkit.metrics.aggregator import Aggregator
from seqkit.registry import registry
from seqkit.tasks import _bleu_validation
from seqkit.tasks.base import build_task
from seqkit.tasks.translation import TranslationConfig

WORDS = ["das", "haus", "ist", "klein", "al@@", "t"]
LINES = {"de": ["das haus", "das haus ist al@@ t"], "en": ["das ist klein", "das haus ist al@@ t"]}


@pytest.fixture
def data(tmp_path):
    return make_data(tmp_path / "data")


def make_data(folder, splits=("train", "valid", "test"), words=WORDS):
    folder.mkdir()
    for lang in ("de", "en"):
        (folder / f"dict.{lang}.txt").write_text("".join(f"{word} 1\n" for word in words), encoding="utf-8")
    ids = {word: number for number, word in enumerate(words, start=4)}
    for split in splits:
        for lang, lines in LINES.items():
            with make_builder(folder / f"{split}.de-en.{lang}", "mmap", 100) as builder:
                for line in lines:
                    builder.add_item([ids.get(word, 3) for word in line.split()] + [2])
    return folder


def task_for(folder, **options):
    config = build_config(TranslationConfig, {"data": str(folder), **options}, "task")
    config._name = "translation"
    return build_task(config)


class TestBuild:
    def test_languages_are_told_from_the_files(self, data):
        task = task_for(data)
        assert (task.config.source_lang, task.config.target_lang) == ("de", "en")
        assert len(task.source_dictionary) == len(task.target_dictionary) == 10

    def test_languages_given(self, data):
        task = task_for(data, source_lang="en", target_lang="de")
        assert task.load_dataset("train")[0]["source"].tolist() == [4, 6, 7, 2]

    def test_no_folder(self, tmp_path):
        with pytest.raises(DataError, match="nowhere does not exist; give the folder that seqkit-preprocess wrote"):
            task_for(tmp_path / "nowhere")

    def test_folder_not_given(self):
        config = TranslationConfig(_name="translation")
        with pytest.raises(ConfigError, match=r"task\.data is not given"):
            build_task(config)

    def test_dictionary_missing(self, data):
        (data / "dict.en.txt").unlink()
        with pytest.raises(DataError, match=r"dict\.en\.txt is missing; dictionaries there are for: de"):
            task_for(data)

    def test_max_positions(self, data):
        assert task_for(data, max_source_positions=7, max_target_positions=9).max_positions() == (7, 9)


class TestLoadDataset:
    def test_options_reach_the_dataset(self, data):
        task = task_for(data, left_pad_source=False, left_pad_target=True, required_seq_len_multiple=4)
        dataset = task.load_dataset("train")
        assert task.dataset("train") is dataset
        batch = dataset.collater([dataset[0], dataset[1]])
        assert batch["net_input"]["src_tokens"].tolist() == [[4, 5, 6, 8, 9, 2, 1, 1], [4, 5, 2, 1, 1, 1, 1, 1]]
        assert batch["target"].tolist() == [[1, 1, 4, 5, 6, 8, 9, 2], [1, 1, 1, 1, 4, 6, 7, 2]]

    def test_only_the_test_split_keeps_its_order(self, data):
        task = task_for(data)
        assert [task.load_dataset(split).shuffle for split in ("train", "valid", "test")] == [True, True, False]

    def test_long_sources(self, data):
        task = task_for(data, max_source_positions=4, truncate_source=True)
        assert task.load_dataset("train")[1]["source"].tolist() == [4, 5, 6, 2]

    def test_missing_split(self, data):
        with pytest.raises(DataError, match=r"the split 'tets' of de-en is not in .*did you mean 'test'"):
            task_for(data).load_dataset("tets")

    def test_training_needs_targets(self, data):
        for split in ("train", "test"):
            for ending in ("bin", "idx"):
                (data / f"{split}.de-en.en.{ending}").unlink()
        task = task_for(data)
        assert task.load_dataset("test").tgt is None
        with pytest.raises(DataError, match=r"the training split 'train' in .* has no en sentences"):
            task.load_dataset("train")

    def test_shards_take_turns(self, data, tmp_path):
        make_data(tmp_path / "more", splits=("train", "train1"))
        task = task_for(f"{data}{os.pathsep}{tmp_path / 'more'}")
        assert task.has_sharded_data("train")
        assert not task.has_sharded_data("valid")
        assert [len(task.load_dataset("train", epoch=epoch, combine=True)) for epoch in (1, 2, 3)] == [2, 4, 2]
        assert len(task.load_dataset("valid", epoch=2)) == 2
        assert not task_for(data).has_sharded_data("train")

    def test_for_inference(self, data):
        task = task_for(data)
        rows = [torch.tensor([4, 2]), torch.tensor([5, 6, 2])]
        dataset = task.build_dataset_for_inference(rows, [2, 3], constraints=[torch.tensor([0]), torch.tensor([1])])
        batch = dataset.collater([dataset[0], dataset[1]])
        assert batch["id"].tolist() == [1, 0]
        assert batch["target"] is None
        assert batch["constraints"].tolist() == [[1], [0]]


class Loss(nn.Module):
    """A criterion that costs nothing."""

    def forward(self, model, sample):
        return LossOutput(torch.zeros(()), 1, {"ntokens": sample["ntokens"], "nsentences": sample["nsentences"]})

    def reduce_metrics(self, outputs, log):
        log.log_scalar("loss", 0.0)


class TestBleu:
    @pytest.fixture
    def says(self, monkeypatch):
        """Makes generators that answer each batch with the given rows; keeps what they were made from."""
        made = SimpleNamespace(rows=None, config=None)

        def build_generator(models, dictionary, config):
            made.config = config
            hypotheses = [[SimpleNamespace(tokens=torch.tensor(row))] for row in made.rows]
            return SimpleNamespace(generate=lambda sample: hypotheses)

        monkeypatch.setattr(_bleu_validation, "build_generator", build_generator)
        return made

    def figures(self, task, times=1):
        dataset = task.load_dataset("valid")
        batch = dataset.collater([dataset[0], dataset[1]])
        task.begin_validation(nn.Linear(1, 1))
        outputs = [task.valid_step(batch, nn.Linear(1, 1), Loss()).logging for _ in range(times)]
        log = Aggregator()
        for output in outputs:
            task.reduce_metrics([output], Loss(), log)
        return log.smoothed_values()

    def test_is_corpus_bleu(self, data, says):
        says.rows = [[4, 5, 6, 8, 9, 2], [4, 6, 5, 2]]
        figures = self.figures(task_for(data, eval_bleu=True, eval_bleu_remove_bpe="@@ "), times=2)
        hypotheses = ["das haus ist alt", "das ist haus"] * 2
        references = ["das haus ist alt", "das ist klein"] * 2
        assert figures["bleu"] == round(sacrebleu.corpus_bleu(hypotheses, [references]).score, 2)
        assert 0 < figures["bleu"] < 100
        assert not [key for key in figures if key.startswith("_")]

    def test_unknown_words_never_match(self, tmp_path, says):
        says.rows = [[4, 5, 6, 8, 9, 2], [4, 6, 3, 2]]
        task = task_for(make_data(tmp_path / "d", words=["das", "haus", "ist", "nichts", "al@@", "t"]), eval_bleu=True)
        assert task.load_dataset("valid")[0]["target"].tolist() == [4, 6, 3, 2]
        assert self.figures(task)["bleu"] < 100

    def test_generation_options(self, data, says):
        says.rows = [[4, 2], [4, 2]]
        self.figures(task_for(data, eval_bleu=True, eval_bleu_args='{"beam": 3, "lenpen": 0.6}'))
        assert (says.config.beam, says.config.lenpen) == (3, 0.6)
        self.figures(task_for(data, eval_bleu=True, eval_bleu_args={"beam": 2}))
        assert says.config.beam == 2

    def test_nothing_to_count(self, data, says):
        says.rows = [[2], [2]]
        assert "bleu" not in self.figures(task_for(data, eval_bleu=True))

    def test_samples_are_logged(self, data, says, caplog):
        caplog.set_level("INFO")
        says.rows = [[4, 5, 2], [4, 2]]
        self.figures(task_for(data, eval_bleu=True, eval_bleu_print_samples=True))
        assert "example hypothesis: das haus" in caplog.text
        assert "example reference: das haus ist al@@ t" in caplog.text

    def test_off_by_default(self, data):
        assert "bleu" not in self.figures(task_for(data))

    def test_tokens_as_they_are(self, data, says):
        says.rows = [[4, 5, 6, 8, 9, 2], [4, 6, 7, 2]]
        assert self.figures(task_for(data, eval_bleu=True, eval_tokenized_bleu=True))["bleu"] == 100

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"eval_bleu_args": "{beam: 4}"}, r"task\.eval_bleu_args='\{beam: 4\}' is not JSON"),
            ({"eval_bleu_args": "[4]"}, r"task\.eval_bleu_args=\[4\] must be a mapping"),
            ({"eval_bleu_args": {"baem": 4}}, r"task\.eval_bleu_args.*beam"),
            ({"eval_bleu_detok_args": {"language": "de"}}, r"task\.eval_bleu_detok_args"),
        ],
    )
    def test_bad_options(self, data, options, text):
        with pytest.raises(ConfigError, match=text):
            task_for(data, eval_bleu=True, **options)

    def test_unknown_detokenizer(self, data):
        with pytest.raises(UnknownNameError, match="did you mean 'moses'"):
            task_for(data, eval_bleu=True, eval_bleu_detok="mosses")


def test_is_registered():
    assert registry("task").get("translation").config is TranslationConfig
