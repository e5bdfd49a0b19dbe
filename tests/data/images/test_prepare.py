"""Decoding a listing once: the images, the cache, and what it is found by."""

import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from decoded_listing import PATHS, SIZE, SPLITS, TRAIN, pixels, the_cache
from PIL import Image

from ddb_jax.data.images import cache as image_cache
from ddb_jax.data.images.records import RecordSource
from ddb_jax.data.input_pipeline import train_batches
from ddb_jax.data.source import ArraySource


@pytest.mark.parametrize("memory_bytes", [1 << 30, 0])
@pytest.mark.parametrize("num_threads", [1, 4])
def test_order_labels_and_pixels_are_those_of_the_listing(load, listing, memory_bytes, num_threads):
    dataset = load(memory_bytes=memory_bytes, num_threads=num_threads)
    for split, paths in SPLITS.items():
        source = dataset.splits[split]
        assert isinstance(source, ArraySource if memory_bytes else RecordSource)
        assert source.paths == paths and source.image_shape == (SIZE, SIZE, 3)
        everything = source.gather(np.arange(len(paths)))
        assert everything["image"].dtype == np.uint8
        np.testing.assert_array_equal(everything["image"], [pixels(path) for path in paths])
        assert everything["label"].tolist() == [i % 2 for i in range(len(paths))]
        assert everything["bias"].tolist() == [i % 3 - 1 for i in range(len(paths))]
        assert everything["index"].tolist() == list(range(len(paths)))
        np.testing.assert_array_equal(source[1]["image"], pixels(paths[1]))
    assert (dataset.name, dataset.class_names, dataset.bias_names, dataset.notes) == (
        *("toy", ("no", "yes"), ("left", "right")),
        ("a note.",),
    )
    assert load.decoded == len(PATHS)


def test_the_bound_on_memory_is_on_all_splits_together(load):
    needed = len(PATHS) * SIZE * SIZE * 3
    assert isinstance(load(memory_bytes=needed).test, ArraySource)
    assert isinstance(load(memory_bytes=needed - 1).test, RecordSource)


def test_batches_from_the_cache_are_those_from_memory(load):
    options = {"batch_size": 3, "seed": 0, "start_step": 0, "num_steps": 6, "num_threads": 4}
    memory, cache = load().train, load(memory_bytes=0).train
    for a, b in zip(train_batches(memory, **options), train_batches(cache, **options), strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])
        assert a["index"].tolist() == b["index"].tolist()


def test_many_threads_read_one_cache(load):
    source = load(memory_bytes=0).train
    wrong = []

    def read(seed):
        rng = np.random.default_rng(seed)
        for _ in range(50):
            indices = rng.integers(0, len(TRAIN), 5)
            expected = [pixels(TRAIN[i]) for i in indices]
            if not np.array_equal(source.gather(indices)["image"], expected):
                wrong.append(seed)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_second_start_decodes_nothing(load):
    load()
    load()
    assert load.decoded == 0


def test_relabelling_and_other_splits_use_the_same_cache(load, listing, tmp_path):
    load()
    files = listing.splits["train"]
    relabelled = replace(files, labels=1 - files.labels, bias=np.full(4, -1))
    dataset = load(replace(listing, splits={**listing.splits, "train": relabelled}))
    assert dataset.train.labels.tolist() == [1, 0, 1, 0] and dataset.train.bias.tolist() == [-1] * 4
    assert load.decoded == 0
    swapped = {**listing.splits, "test": files, "train": listing.splits["test"]}
    dataset = load(replace(listing, splits=swapped))
    np.testing.assert_array_equal(dataset.test[2]["image"], pixels("train/a.png"))
    assert load.decoded == 0 and the_cache(tmp_path)


def test_another_size_or_another_way_is_decoded_again(load, tmp_path):
    load()
    load(resize="squash")
    assert load.decoded == len(PATHS)
    assert load(image_size=4, resize="squash").train.image_shape == (4, 4, 3)
    load(background="black")
    assert load.decoded == len(PATHS)
    assert len(list((tmp_path / "cache").iterdir())) == 4


def write_again(path, content):
    """Another content in the place of the old one, the time and the length as they were."""
    before = path.stat()
    path.write_bytes(content.ljust(before.st_size, b"\0"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_a_file_written_again_with_its_old_length_and_time_is_seen(load, listing, caplog):
    """As unpacking an archive does that keeps times: its shard is decoded again, no other."""
    load()
    path = listing.root / "train/b.png"
    Image.fromarray(np.zeros((SIZE, SIZE, 3), np.uint8)).save(path.with_suffix(".small.png"))
    small = path.with_suffix(".small.png").read_bytes()
    write_again(path, small)
    with caplog.at_level("INFO", logger="ddb_jax"):
        dataset = load()
    assert load.decoded == 3
    assert "train/b.png and 0 more files have changed since they were decoded" in caplog.text
    np.testing.assert_array_equal(dataset.train[1]["image"], 0)
    load()
    assert load.decoded == 0


def test_files_copied_or_touched_are_the_same_images(load, listing, tmp_path):
    load()
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(listing.root, elsewhere)  # with new times
    for path in elsewhere.rglob("*.png"):
        os.utime(path, ns=(0, 12345))
    dataset = load(replace(listing, root=elsewhere))
    assert load.decoded == 0
    np.testing.assert_array_equal(dataset.train[1]["image"], pixels("train/b.png"))


def test_12_bits_in_16_are_found_over_the_whole_set(load, listing):
    """One image of a set uses 12 bits, the others fewer: all are read as 12-bit grey."""
    rng = np.random.default_rng(0)
    grey = {path: rng.integers(0, 900, (SIZE, SIZE)).astype(np.uint16) for path in PATHS}
    grey["test/g.png"][0, 0] = 4000
    for path, values in grey.items():
        Image.fromarray(values).save(listing.root / path)
    dataset = load()
    assert load.decoded == 2 * len(PATHS)
    for split, paths in SPLITS.items():
        expected = [np.repeat((grey[path] >> 4)[..., None], 3, -1) for path in paths]
        images = dataset.splits[split].gather(np.arange(len(paths)))["image"]
        np.testing.assert_array_equal(images, expected)
        assert [f.grey_high for f in dataset.images[split]] == [grey[p].max() for p in paths]
    load()
    assert load.decoded == 0
    # A brighter image comes: what was decoded for 12 bits is decoded for 16.
    grey["train/a.png"][0, 0] = 60_000
    Image.fromarray(grey["train/a.png"]).save(listing.root / "train/a.png")
    image = load().train[0]["image"]
    np.testing.assert_array_equal(image, np.repeat((grey[TRAIN[0]] >> 8)[..., None], 3, -1))


def test_facts_of_every_image(load, listing):
    dataset = load()
    for split, paths in SPLITS.items():
        for path, facts in zip(paths, dataset.images[split], strict=True):
            image = pixels(path).astype(np.float64)
            assert facts[:6] == (SIZE, SIZE, "RGB", False, -1, -1)
            assert (facts.low, facts.high) == (image.min(), image.max())
            deviation = max(image[..., c].std() for c in range(3))
            assert facts.deviation == pytest.approx(deviation, abs=0.01)
            assert not facts.one_colour
    hashes = [facts.sha256 for split in SPLITS for facts in dataset.images[split]]
    assert len(set(hashes)) == len(PATHS)


def test_images_that_are_not_files(load, listing, tmp_path):
    def open_image(path):
        return Image.fromarray(pixels(path))

    elsewhere = replace(listing, root=tmp_path / "nowhere")
    options = {"open_image": open_image, "memory_bytes": 0}
    dataset = load(elsewhere, content_key="toy 1.0", **options)
    np.testing.assert_array_equal(dataset.test[1]["image"], pixels("test/g.png"))
    load(elsewhere, content_key="toy 1.0", **options)
    assert load.decoded == 0
    load(elsewhere, content_key="toy 2.0", **options)
    assert load.decoded == len(PATHS)
    with pytest.raises(ValueError, match="go together"):
        load(open_image=open_image)

    def open_nothing(path):
        raise OSError("the archive is damaged")

    with pytest.raises(ValueError, match=r"9 of 9 .* is test/a\.png: the archive is damaged;"):
        load(content_key="toy 3.0", open_image=open_nothing)


def test_wrong_arguments_are_refused_before_anything_is_decoded(load, tmp_path):
    for wrong in ({"resize": "pad"}, {"image_size": 0}):
        with pytest.raises(ValueError, match="one of squash, center_crop, none"):
            load(**wrong)
    assert not (tmp_path / "cache").exists()


def test_shards_hold_a_thousand_images_or_64_mib():
    names = [str(i) for i in range(2001)]
    small = image_cache.divide(Path("c"), names, 64 * 64 * 3)
    assert [len(shard.paths) for shard in small] == [1000, 1000, 1]
    assert small[2].file == Path("c/shard-00002.arrayrecord") and small[2].paths == ("2000",)
    large = image_cache.divide(Path("c"), names, 224 * 224 * 3)
    assert len(large[0].paths) == 67_108_864 // 150_528
    assert [len(s.paths) for s in image_cache.divide(Path("c"), names[:2], 1 << 40)] == [1, 1]


def test_the_hash_follows_the_pixels_though_they_are_not_in_memory(load, tmp_path):
    first = load(memory_bytes=0)
    assert first.fingerprint and load(memory_bytes=0).fingerprint == first.fingerprint
    assert load().fingerprint == first.fingerprint
    file = next(path for path in sorted(tmp_path.rglob("*.png")))
    with Image.open(file) as image:
        size = image.size
    Image.new("RGB", size, (1, 2, 3)).save(file)
    assert load(memory_bytes=0).fingerprint != first.fingerprint
