import logging

import pytest

from seqkit.data.dictionary import Dictionary
from seqkit.data.indexed_dataset import make_builder
from seqkit.data.language_pair_files import infer_language_pair, load_dictionary, load_language_pair
from seqkit.errors import DataError

EOS = 2


def write(prefix, *rows):
    with make_builder(prefix, "mmap", 100) as builder:
        for row in rows:
            builder.add_item(row)


def write_pair(folder, split, source=((5, EOS), (5, 6, EOS)), target=((8, EOS), (9, EOS)), pair="de-en"):
    de, en = pair.split("-")
    write(folder / f"{split}.{pair}.{de}", *source)
    if target is not None:
        write(folder / f"{split}.{pair}.{en}", *target)


def load(folder, split="train", source="de", target="en", **settings):
    return load_language_pair(folder, split, source, target, Dictionary(), Dictionary(), **settings)


def sources(dataset):
    return [dataset[index]["source"].tolist() for index in range(len(dataset))]


class TestInfer:
    def test_from_file_names(self, tmp_path):
        write_pair(tmp_path, "train")
        (tmp_path / "dict.de.txt").touch()
        (tmp_path / "notes.bpe-codes.txt").touch()
        assert infer_language_pair(tmp_path) == ("de", "en")

    def test_from_raw_text(self, tmp_path):
        (tmp_path / "valid.zh_CN-en.zh_CN").touch()
        assert infer_language_pair(tmp_path) == ("zh_CN", "en")

    def test_one_language_given(self, tmp_path):
        write_pair(tmp_path, "train")
        write_pair(tmp_path, "train", pair="de-fr")
        assert infer_language_pair(tmp_path, target="fr") == ("de", "fr")
        assert infer_language_pair(tmp_path, source="fr") == ("fr", "de")

    def test_several_pairs(self, tmp_path):
        write_pair(tmp_path, "train")
        write_pair(tmp_path, "train", pair="de-fr")
        with pytest.raises(DataError, match=r"several language pairs \(de-en, de-fr\); give task\.source_lang"):
            infer_language_pair(tmp_path)

    def test_language_that_is_not_there(self, tmp_path):
        write_pair(tmp_path, "train")
        with pytest.raises(DataError, match=r"with task\.source_lang=nl: it has files of de-en"):
            infer_language_pair(tmp_path, source="nl")

    def test_no_pairs(self, tmp_path):
        (tmp_path / "corpus.txt").touch()
        with pytest.raises(DataError, match=r"no files named like train\.de-en\.de\.idx, but corpus\.txt"):
            infer_language_pair(tmp_path)

    def test_empty_folder(self, tmp_path):
        with pytest.raises(DataError, match="nothing in it"):
            infer_language_pair(tmp_path)

    def test_no_folder(self, tmp_path):
        with pytest.raises(DataError, match=r"task\.data=.*nowhere does not exist"):
            infer_language_pair(tmp_path / "nowhere")
        (tmp_path / "file").touch()
        with pytest.raises(DataError, match=r"task\.data=.*file is a file, not a folder"):
            infer_language_pair(tmp_path / "file")


class TestDictionary:
    def test_reads(self, tmp_path):
        (tmp_path / "dict.de.txt").write_text("haus 3\n", encoding="utf-8")
        assert load_dictionary(tmp_path, "de").index("haus") == 4

    def test_missing(self, tmp_path):
        (tmp_path / "dict.de.txt").touch()
        (tmp_path / "dict.en.txt").touch()
        with pytest.raises(DataError, match=r"dict\.nl\.txt is missing; dictionaries there are for: de, en"):
            load_dictionary(tmp_path, "nl")

    def test_none_at_all(self, tmp_path):
        with pytest.raises(DataError, match="there is no dictionary in it"):
            load_dictionary(tmp_path, "nl")


class TestLoad:
    def test_split(self, tmp_path):
        write_pair(tmp_path, "train")
        dataset = load(tmp_path)
        assert sources(dataset) == [[5, EOS], [5, 6, EOS]]
        assert dataset[1]["target"].tolist() == [9, EOS]
        assert dataset.sizes.tolist() == [[2, 2], [3, 2]]

    def test_files_of_the_other_direction(self, tmp_path):
        write_pair(tmp_path, "train")
        dataset = load(tmp_path, source="en", target="de")
        assert sources(dataset) == [[8, EOS], [9, EOS]]

    def test_settings_reach_the_dataset(self, tmp_path):
        write_pair(tmp_path, "train")
        assert load(tmp_path, shuffle=False).shuffle is False

    def test_without_target(self, tmp_path):
        write_pair(tmp_path, "test", target=None)
        assert load(tmp_path, "test")[0]["target"] is None

    def test_several_parts(self, tmp_path):
        write_pair(tmp_path, "train")
        write_pair(tmp_path, "train1", source=[(7, EOS)], target=[(8, EOS)])
        write_pair(tmp_path, "train3", source=[(6, EOS)], target=[(8, EOS)])
        assert len(load(tmp_path)) == 2
        assert sources(load(tmp_path, combine=True)) == [[5, EOS], [5, 6, EOS], [7, EOS]]
        assert len(load(tmp_path, combine=True, upsample_primary=3)) == 7

    def test_parts_must_be_alike(self, tmp_path):
        write_pair(tmp_path, "train")
        write_pair(tmp_path, "train1", target=None)
        with pytest.raises(DataError, match=r"of the splits train, train1 .* only some have en sentences"):
            load(tmp_path, combine=True)

    def test_truncated_sources(self, tmp_path):
        write_pair(tmp_path, "train", source=[(5, 6, 7, 8, EOS), (5, EOS)])
        dataset = load(tmp_path, truncate_source_to=3)
        assert sources(dataset) == [[5, 6, EOS], [5, EOS]]
        assert dataset.src_sizes.tolist() == [3, 3]

    def test_alignments_beside_raw_text(self, tmp_path):
        (tmp_path / "train.de-en.de").write_text("a b\n", encoding="utf-8")
        (tmp_path / "train.de-en.en").write_text("c d\n", encoding="utf-8")
        write(tmp_path / "train.align.de-en", (0, 1, 1, 0))
        dataset = load(tmp_path, load_alignments=True, dataset_impl="raw")
        assert dataset[0]["alignment"].tolist() == [0, 1, 1, 0]

    def test_alignments(self, tmp_path, caplog):
        write_pair(tmp_path, "train")
        write(tmp_path / "train.align.de-en", (0, 0), (1, 0))
        dataset = load(tmp_path, load_alignments=True)
        assert dataset[1]["alignment"].tolist() == [1, 0]
        assert "alignment" not in load(tmp_path)[1]
        write_pair(tmp_path, "valid")
        assert load(tmp_path, "valid", load_alignments=True).align_dataset is None
        assert "no word alignments" in caplog.text

    def test_number_of_lines(self, tmp_path):
        write_pair(tmp_path, "train", target=[(8, EOS)])
        with pytest.raises(
            DataError, match=r"train in .* has 2 source sentences but 1 target sentences; run seqkit-prepro"
        ):
            load(tmp_path)

    def test_missing_split(self, tmp_path):
        write_pair(tmp_path, "train")
        write_pair(tmp_path, "valid")
        with pytest.raises(DataError) as caught:
            load(tmp_path, "val")
        text = str(caught.value)
        assert "neither val.de-en.de nor val.en-de.de is there" in text
        assert "splits of this pair there: train, valid" in text
        assert "did you mean 'valid'?" in text

    def test_missing_pair(self, tmp_path):
        write_pair(tmp_path, "train", pair="de-fr")
        with pytest.raises(DataError, match=r"there is train\.de-fr\.de\.bin, train\.de-fr\.de\.idx"):
            load(tmp_path)

    def test_reports_what_it_loads(self, tmp_path, caplog):
        caplog.set_level(logging.INFO)
        write_pair(tmp_path, "train")
        load(tmp_path)
        assert "train de-en: 2 sentences" in caplog.text
