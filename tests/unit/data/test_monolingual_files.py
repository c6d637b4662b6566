import pytest

from seqkit.data.indexed_dataset import make_builder
from seqkit.data.monolingual_files import load_shared_dictionary, open_text
from seqkit.errors import DataError
from tests.unit.data.rows import contents


def make_folder(folder, splits=("train",), words=("a", "b"), rows=([4, 2], [5, 2])):
    folder.mkdir()
    (folder / "dict.txt").write_text("".join(f"{word} 1\n" for word in words), encoding="utf-8")
    for split in splits:
        with make_builder(folder / split, "mmap", 100) as builder:
            for row in rows:
                builder.add_item(row)
    return folder


def test_splits_that_belong_together_are_joined(tmp_path):
    folder = make_folder(tmp_path / "data", splits=("train", "train1", "train3"))
    dictionary = load_shared_dictionary([folder])
    assert contents(open_text(folder, "train", dictionary)) == [[4, 2], [5, 2]]
    assert len(open_text(folder, "train", dictionary, combine=True)) == 4


def test_raw_text_is_encoded(tmp_path):
    folder = make_folder(tmp_path / "data", splits=())
    (folder / "train").write_text("a b\nc\n", encoding="utf-8")
    rows = open_text(folder, "train", load_shared_dictionary([folder]))
    assert contents(rows) == [[4, 5, 2], [3, 2]]


def test_a_missing_split_is_told_with_what_is_there(tmp_path):
    folder = make_folder(tmp_path / "data", splits=("train", "valid"))
    with pytest.raises(
        DataError, match=r"the split 'vald' is not in .*splits there: train, valid.*did you mean 'valid'"
    ):
        open_text(folder, "vald", load_shared_dictionary([folder]))


def test_an_empty_split_is_told(tmp_path):
    folder = make_folder(tmp_path / "data", rows=())
    with pytest.raises(DataError, match=r"the split 'train' in .* is empty: it has no tokens"):
        open_text(folder, "train", load_shared_dictionary([folder]))


def test_a_file_of_other_bytes_is_told(tmp_path):
    folder = make_folder(tmp_path / "data", splits=())
    (folder / "train").write_bytes(bytes(range(256)) * 4)
    with pytest.raises(DataError, match=r"train.* UTF-8"):
        open_text(folder, "train", load_shared_dictionary([folder]))
    (folder / "dict.txt").write_bytes(b"\x7fELF\xff\xfe\x00" * 9)
    with pytest.raises(DataError, match=r"dict\.txt"):
        load_shared_dictionary([folder])


def test_shards_must_be_there_and_have_one_dictionary(tmp_path):
    first = make_folder(tmp_path / "one")
    with pytest.raises(DataError, match="two does not exist"):
        load_shared_dictionary([first, tmp_path / "two"])
    second = make_folder(tmp_path / "two", words=("a", "c"))
    with pytest.raises(DataError, match=r"two/dict\.txt is another dictionary than .*one/dict\.txt"):
        load_shared_dictionary([first, second])
    (second / "dict.txt").unlink()
    assert len(load_shared_dictionary([first, second])) == 6
    with pytest.raises(DataError, match=r"dict\.txt is missing; there is train\.bin, train\.idx.*--only-source"):
        load_shared_dictionary([second, first])
