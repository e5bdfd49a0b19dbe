"""ArrayRecord shards: round trip, order, and damaged files."""

import numpy as np
import pytest

from ddb_jax.data.images.records import load_records, open_records, write_shard
from ddb_jax.data.input_pipeline import train_batches

SHAPE = (4, 5, 3)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (7, *SHAPE), dtype=np.uint8)


@pytest.fixture
def shards(tmp_path, images):
    """Seven images in two shards, neither in order; label is 10 + index."""
    paths = [tmp_path / "b-0.arrayrecord", tmp_path / "b-1.arrayrecord"]
    for path, indices in zip(paths, (np.array([6, 0, 3]), np.array([5, 1, 2, 4])), strict=True):
        write_shard(path, images[indices], 10 + indices, indices)
    return paths


@pytest.mark.parametrize("read", [load_records, open_records])
def test_round_trip_in_the_order_of_the_index(shards, images, read):
    source = read(shards, SHAPE)
    assert len(source) == 7 and source.image_shape == SHAPE
    assert source.labels.tolist() == list(range(10, 17)) and source.labels.dtype == np.int32
    assert source.bias.tolist() == [-1] * 7
    fields = source.gather(np.array([4, 0, 4, 6]))
    np.testing.assert_array_equal(fields["image"], images[[4, 0, 4, 6]])
    assert fields["label"].tolist() == [14, 10, 14, 16]
    assert fields["index"].tolist() == [4, 0, 4, 6]
    example = source[3]
    np.testing.assert_array_equal(example["image"], images[3])
    assert (example["label"], example["bias"], example["index"]) == (13, -1, 3)
    assert len(source.paths) == 7 and source.paths[3] == "b-0.arrayrecord/2"
    with pytest.raises(IndexError):
        source[7]


def test_batches_from_records_are_those_from_memory(shards):
    options = {"batch_size": 4, "seed": 0, "start_step": 0, "num_steps": 5}
    first = list(train_batches(load_records(shards, SHAPE), **options))
    second = list(train_batches(open_records(shards, SHAPE), num_threads=4, **options))
    for a, b in zip(first, second, strict=True):
        assert a["index"].tolist() == b["index"].tolist()
        np.testing.assert_array_equal(a["image"], b["image"])


def test_one_record_is_header_and_pixels(tmp_path, images):
    # Read back with the library alone, so that the documented layout is what lies on disk.
    from array_record.python.array_record_module import ArrayRecordReader

    write_shard(tmp_path / "one", images[:1], np.array([258]), np.array([0]))
    reader = ArrayRecordReader(str(tmp_path / "one"))
    (record,) = reader.read([0])
    reader.close()
    assert record == bytes([2, 1, 0, 0, 0, 0, 0, 0]) + images[0].tobytes()


def test_only_whole_files_take_the_name(tmp_path, images):
    path = tmp_path / "shard"
    with pytest.raises(ValueError, match="7 images, 6 labels"):
        write_shard(path, images, np.arange(6), np.arange(7))
    assert list(tmp_path.iterdir()) == []
    write_shard(path, images, np.arange(7), np.arange(7))
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError, match="uint8"):
        write_shard(path, images / 255.0, np.arange(7), np.arange(7))


def test_a_writer_that_fails_leaves_what_was_there(tmp_path, images, monkeypatch):
    path = tmp_path / "shard"
    write_shard(path, images, np.arange(7), np.arange(7))
    before = path.read_bytes()

    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("ddb_jax.data.images.records.os.replace", fail)
    with pytest.raises(OSError, match="no space"):
        write_shard(path, 255 - images, np.arange(7), np.arange(7))
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == before


@pytest.mark.parametrize("length", [0, 100, 65_536, 130_000])
def test_a_truncated_shard_is_named(shards, length):
    data = shards[1].read_bytes()
    assert length < len(data)
    shards[1].write_bytes(data[:length])
    with pytest.raises(ValueError, match=r"b-1\.arrayrecord"):
        open_records(shards, SHAPE)


def test_a_changed_byte_is_found(shards, images):
    data = bytearray(shards[1].read_bytes())
    data[data.index(images[5].tobytes()[:16])] ^= 255  # random pixels are not compressed
    shards[1].write_bytes(data)
    with pytest.raises(ValueError, match=r"b-1\.arrayrecord"):
        load_records(shards, SHAPE)


def test_another_image_shape_is_named(shards):
    with pytest.raises(ValueError, match=r"b-0\.arrayrecord does not hold .*\(5, 5, 3\)"):
        open_records(shards, (5, 5, 3))


def test_a_missing_shard_is_named(shards, tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        open_records([*shards, tmp_path / "absent"], SHAPE)


def test_an_incomplete_set_is_refused(shards):
    with pytest.raises(ValueError, match="number 1 is missing"):
        load_records(shards[:1], SHAPE)
    with pytest.raises(ValueError, match="number 1 is missing or there is one twice"):
        load_records([shards[0], *shards], SHAPE)
