"""Decoding a listing where something is wrong: stops, damage, broken images, other processes."""

import csv
import fcntl
import io
import json
import logging
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from decoded_listing import PATHS, TRAIN, pixels, the_cache
from PIL import Image

from ddb_jax.data.images import cache as image_cache
from ddb_jax.data.input_pipeline import train_batches
from ddb_jax.runtime.errors import Interrupted, UserError
from ddb_jax.runtime.stop import StopFlag


class StopAfter(StopFlag):
    """SIGTERM after a number of questions."""

    def __init__(self, questions):
        super().__init__()
        self.left = questions

    def __bool__(self):
        self.left -= 1
        self.signal = 15 if self.left < 0 else 0
        return super().__bool__()


def test_a_stopped_run_goes_on_after_its_whole_shards(load, tmp_path):
    with pytest.raises(Interrupted, match="3 of 9 images are done; run the same") as stopped:
        load(stop=StopAfter(5), num_threads=1)
    assert stopped.value.exit_code == 128 + 15
    shards = sorted(the_cache(tmp_path).glob("*.arrayrecord"))
    assert [shard.name for shard in shards] == ["shard-00000.arrayrecord"]
    before = shards[0].stat().st_mtime_ns
    dataset = load()
    assert load.decoded == 6 and shards[0].stat().st_mtime_ns == before
    np.testing.assert_array_equal(dataset.train[0]["image"], pixels("train/d.png"))


def test_what_a_killed_run_left_half_written_is_removed(load, tmp_path):
    with pytest.raises(Interrupted):
        load(stop=StopAfter(5))
    folder = the_cache(tmp_path)
    (folder / ".shard-00001.arrayrecord.123.tmp").write_bytes(b"half")
    (folder / "shard-00001.arrayrecord").write_bytes(b"without a verdict")
    load()
    assert load.decoded == 6
    names = {path.name for path in folder.iterdir()} - {".lock"}
    assert names == {f"shard-0000{i}.{end}" for i in range(3) for end in ("arrayrecord", "json")}


@pytest.mark.parametrize("damage", ["removed", "cut short", "verdict removed"])
def test_a_lost_shard_is_made_again(load, tmp_path, caplog, damage):
    load()
    shard = the_cache(tmp_path) / "shard-00001.arrayrecord"
    if damage == "removed":
        shard.unlink()
    elif damage == "cut short":
        shard.write_bytes(shard.read_bytes()[:-1])
    else:
        shard.with_suffix(".json").write_text('{"bytes": ')
    with caplog.at_level(logging.INFO, logger="ddb_jax"):
        dataset = load()
    assert load.decoded == 3
    assert f"{shard} is missing or cut short: its images are decoded again" in caplog.text
    np.testing.assert_array_equal(
        dataset.train.gather(np.arange(4))["image"], [pixels(path) for path in TRAIN]
    )


def test_a_changed_byte_is_found_in_the_middle_of_training(load, tmp_path):
    source = load(memory_bytes=0).train
    for shard in the_cache(tmp_path).glob("*.arrayrecord"):
        data = bytearray(shard.read_bytes())
        start = data.find(pixels("train/c.png").tobytes()[:16])
        if start >= 0:
            data[start] ^= 255
            with shard.open("r+b") as file:  # the same file, which the source has open
                file.write(data)
            damaged = shard
    batches = train_batches(source, batch_size=4, seed=0, start_step=0, num_steps=3)
    with pytest.raises(UserError, match=r"arrayrecord is corrupt .*; remove it, and its") as error:
        list(batches)
    assert str(error.value).startswith(str(damaged))
    with pytest.raises(UserError, match="is corrupt"):
        load()
    damaged.unlink()
    np.testing.assert_array_equal(load().train[3]["image"], pixels("train/c.png"))
    assert load.decoded == 3


def test_a_shard_of_another_count_is_found(load, tmp_path):
    load()
    folder = the_cache(tmp_path)
    verdict = json.loads((folder / "shard-00000.json").read_text())
    verdict["broken"] = {"test/a.png": "is a guess"}
    (folder / "shard-00000.json").write_text(json.dumps(verdict))
    with pytest.raises(UserError, match=r"shard-00000\.arrayrecord holds 3 images instead of 2;"):
        load(max_broken=1)


@pytest.fixture
def three_broken(listing):
    """One in each split, in two shards."""
    (listing.root / "test/g.png").write_text("text")
    Image.fromarray(np.zeros((9, 8, 3), np.uint8)).save(listing.root / "train/b.png")
    (listing.root / "train/f.png").write_bytes(b"")
    return listing


def test_broken_images_are_listed_and_refused(load, three_broken, tmp_path):
    for expected in (len(PATHS), 0):  # the second start knows the verdicts
        with pytest.raises(ValueError) as error:
            load(max_broken=2)
        assert load.decoded == expected
    root, table = three_broken.root, the_cache(tmp_path) / "broken.csv"
    formats = "JPEG, PNG, GIF, BMP, TIFF, WEBP, PPM"
    unreadable = f"is not an image that can be read (none of {formats})"
    assert str(error.value) == (
        f"3 of 9 images of toy cannot be used, the first is {root}/test/g.png: {unreadable};"
        f" all are listed in {table}: fix or delete them, or allow as many with"
        " config.data.max_broken."
    )
    assert list(csv.reader(io.StringIO(table.read_text()))) == [
        ["path", "reason"],
        [f"{root}/test/g.png", unreadable],
        [
            f"{root}/train/b.png",
            "is 8 x 9 pixels and resizing is off, all images must be 8 x 8",
        ],
        [
            f"{root}/train/f.png",
            "is an empty file, which is not read (copy or download them again)",
        ],
    ]


@pytest.mark.parametrize("memory_bytes", [1 << 30, 0])
def test_as_many_as_allowed_are_left_out(load, three_broken, tmp_path, memory_bytes):
    for expected in (len(PATHS), 0):
        dataset = load(max_broken=3, memory_bytes=memory_bytes)
        assert load.decoded == expected
    table = the_cache(tmp_path) / "broken.csv"
    assert dataset.notes == ("a note.",)
    assert dataset.warnings == (
        f"3 of 9 images of toy cannot be used and are left out; they are listed in {table}.",
    )
    train = dataset.train
    assert train.paths == ("train/d.png", "train/a.png", "train/c.png")
    assert train.labels.tolist() == [0, 0, 1] and train.bias.tolist() == [-1, 1, -1]
    fields = train.gather(np.arange(3))
    np.testing.assert_array_equal(fields["image"], [pixels(path) for path in train.paths])
    assert fields["index"].tolist() == [0, 1, 2]
    assert dataset.validation.paths == ("train/e.png",)
    np.testing.assert_array_equal(dataset.validation[0]["image"], pixels("train/e.png"))
    np.testing.assert_array_equal(dataset.test[1]["image"], pixels("test/b.png"))


def test_a_shard_of_nothing_but_broken_images(load, listing):
    for path in sorted(PATHS)[:3]:
        (listing.root / path).write_text("text")
    dataset = load(max_broken=3, memory_bytes=0)
    assert len(dataset.test) == 0
    np.testing.assert_array_equal(dataset.train[0]["image"], pixels("train/d.png"))


def test_a_file_that_may_not_be_read_is_tried_again(load, listing, tmp_path, monkeypatch):
    read = Path.read_bytes
    forbidden = {listing.root / "train/b.png"}

    def read_bytes(path):
        if path in forbidden:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(ValueError, match=r"1 of 9 .*, the first is .*/train/b\.png: permission d"):
        load()
    assert len(load(max_broken=1).train) == 3
    assert load.decoded == 2  # the others of its shard
    forbidden.clear()
    assert len(load().train) == 4 and load.decoded == 3
    assert not (the_cache(tmp_path) / "broken.csv").exists()


def test_a_file_that_is_gone_is_broken(load, listing):
    (listing.root / "train/b.png").unlink()
    with pytest.raises(ValueError, match=r"train/b\.png: no such file or directory; all"):
        load()


def test_a_second_process_waits_for_the_first(load, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(image_cache, "LOCK_POLL_SECONDS", 0.01)
    load()
    folder = the_cache(tmp_path)
    (folder / "shard-00000.json").rename(tmp_path / "hidden")
    with (folder / ".lock").open("a") as lock:  # a lock of another open file, as another process's
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Interrupted, match="waiting for another process"):
            load(stop=StopAfter(0))

        def finish():
            (tmp_path / "hidden").rename(folder / "shard-00000.json")
            fcntl.flock(lock, fcntl.LOCK_UN)

        timer = threading.Timer(0.3, finish)
        timer.start()
        with caplog.at_level(logging.INFO, logger="ddb_jax"):
            dataset = load()
        timer.join()
    assert load.decoded == 0 and len(dataset.train) == 4
    assert caplog.text.count(f"another process is decoding into {folder}: waiting for it") == 1


def test_a_cache_that_cannot_be_written(load, tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ValueError, match=r"cannot be written to .* \(Not a directory\): make room"):
        load(cache_dir=blocked / "cache")

    def full(*_):
        raise RuntimeError("No space left on device; writing shard")

    monkeypatch.setattr(image_cache, "write_shard", full)
    with pytest.raises(ValueError, match=r"\(No space left on device\): make room there, or give"):
        load()


def test_a_whole_cache_needs_no_writing(load, tmp_path, monkeypatch, three_broken):
    load(max_broken=3)

    def fail(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", fail)
    monkeypatch.setattr(os, "replace", fail)
    assert len(load(max_broken=3).train) == 3
