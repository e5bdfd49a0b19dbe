"""Decoding a listing once: the images, the cache, and what it is found by."""

import os
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


def test_a_changed_file_another_size_or_another_way_is_decoded_again(load, listing, tmp_path):
    load()
    path = listing.root / "train/b.png"
    Image.fromarray(255 - pixels("train/b.png")).save(path)
    os.utime(path, ns=(0, 12345))
    dataset = load()
    assert load.decoded == len(PATHS)
    np.testing.assert_array_equal(dataset.train[1]["image"], 255 - pixels("train/b.png"))
    load(resize="squash")
    assert load.decoded == len(PATHS)
    assert load(image_size=4, resize="squash").train.image_shape == (4, 4, 3)
    assert len(list((tmp_path / "cache").iterdir())) == 4


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
