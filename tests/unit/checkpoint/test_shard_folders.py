from seqkit.checkpoint.io import write_checkpoint
from seqkit.checkpoint.shard_folders import remove_unused_shards
from seqkit.checkpoint.state import CheckpointState


def test_a_file_set_aside_as_damaged_does_not_stop_the_cleaning(tmp_path):
    for name in ("checkpoint_shards_1", "checkpoint_shards_2"):
        (tmp_path / name).mkdir()
    write_checkpoint(tmp_path / "checkpoint_last.pt", CheckpointState(config={}, model={}))
    for ending in ("", "-2"):
        (tmp_path / f"checkpoint_last.pt.damaged{ending}").write_bytes(b"no checkpoint")
    assert remove_unused_shards(tmp_path) == ["checkpoint_shards_1", "checkpoint_shards_2"]


def test_nothing_is_deleted_where_a_checkpoint_cannot_be_read(tmp_path):
    (tmp_path / "checkpoint_shards_1").mkdir()
    (tmp_path / "checkpoint_last.pt").write_bytes(b"no checkpoint")
    assert remove_unused_shards(tmp_path) == []
    assert (tmp_path / "checkpoint_shards_1").is_dir()
