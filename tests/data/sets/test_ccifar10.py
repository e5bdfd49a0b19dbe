"""Corrupted CIFAR-10: pairs, exact counts, images that follow their place, and the cache."""

import os
from pathlib import Path

import numpy as np
import pytest

from ddb_jax.data.counts import count_mismatches, counts
from ddb_jax.data.sets import ccifar10
from ddb_jax.data.sets.ccifar10 import CORRUPTION_OF_CLASS, load_ccifar10
from ddb_jax.data.sets.corruptions import CORRUPTIONS, corrupt
from ddb_jax.data.source import check_dataset

REAL = (
    Path(os.environ.get("DDB_JAX_DATA", Path(__file__).parents[4] / "shared" / "data")) / "cifar10"
)


def arrays(train=400, test=100):
    rng = np.random.default_rng(0)
    return {
        "train_images": rng.integers(0, 256, (train, 32, 32, 3), dtype=np.uint8),
        "train_labels": (np.arange(train) % 10).astype(np.uint8),
        "test_images": rng.integers(0, 256, (test, 32, 32, 3), dtype=np.uint8),
        "test_labels": (np.arange(test) % 10).astype(np.uint8),
    }


@pytest.fixture
def root(tmp_path):
    np.savez(tmp_path / "cifar10.npz", **arrays())
    return tmp_path


def table(source):
    cells = np.zeros((10, 10), int)
    np.add.at(cells, (source.labels, source.bias), 1)
    return cells


def test_pairs():
    data = {
        "airplane": "snow", "automobile": "frost", "bird": "defocus_blur", "cat": "brightness",
        "deer": "contrast", "dog": "spatter", "frog": "frosted_glass_blur", "horse": "jpeg",
        "ship": "pixelate", "truck": "saturate",
    }  # fmt: skip
    assert dict(zip(ccifar10.CLASS_NAMES, CORRUPTION_OF_CLASS, strict=True)) == data
    assert set(CORRUPTION_OF_CLASS) == set(CORRUPTIONS)


@pytest.mark.parametrize("how", ["published", "exact_share"])
def test_counts_of_a_part_follow_the_shares(root, how):
    data = load_ccifar10(root, conflicting_share=0.05, counts=how, validation_share=0.25)
    assert [len(source) for source in data.splits.values()] == [300, 100, 100]
    for source, conflicting in ((data.train, 15), (data.validation, 5)):
        cells = table(source)
        assert len(source) - np.trace(cells) == conflicting  # 0.05 of 300 and of 100
        assert np.ptp(cells.sum(1)) == 0
    assert np.all(table(data.test) == 1)
    assert data.published_counts == {}
    assert any("part of CIFAR-10" in note for note in data.notes) == (how == "published")
    assert data.class_names[0] == "airplane" and data.bias_names == CORRUPTION_OF_CLASS
    check_dataset(data)


def test_splits_are_disjoint_and_every_image_has_its_own_corruption(root):
    data = load_ccifar10(root, conflicting_share=0.5, severity=4, seed=3)
    given = arrays()
    seen = []
    for split, source in data.splits.items():
        for i in range(0, len(source), 7):
            _, part, number = source.paths[i].split("/")
            position = int(number)
            assert source.labels[i] == position % 10
            name = CORRUPTION_OF_CLASS[source.bias[i]]
            original = given[f"{part}_images"][position][None]
            key = np.array([[part == "test", position]])
            np.testing.assert_array_equal(source.images[i], corrupt(original, name, 4, 3, key)[0])
        assert {path.split("/")[1] for path in source.paths} == (
            {"test"} if split == "test" else {"train"}
        )
        seen += source.paths
    assert len(set(seen)) == len(seen) == 500


def test_images_of_a_part_are_those_of_the_whole(root, tmp_path_factory):
    part, whole = arrays(), tmp_path_factory.mktemp("part")
    chosen = np.array([i for i in range(400) if i % 20 < 10])
    part["train_images"], part["train_labels"] = part["train_images"][chosen], chosen % 10
    np.savez(whole / "part.npz", **part, train_index=chosen, train_batch=np.ones(200, np.uint8))
    large, small = (load_ccifar10(r, conflicting_share=0.1).train for r in (root, whole))
    place = {path: i for i, path in enumerate(large.paths)}
    common = 0
    for i, path in enumerate(small.paths):
        if path in place and large.bias[place[path]] == small.bias[i]:
            np.testing.assert_array_equal(small.images[i], large.images[place[path]])
            common += 1
    assert common > 100


def test_published_counts(monkeypatch):
    # DiffuBias (Table 5): aligned and conflicting images. One pixel is enough to be counted.
    whole = {"class_names": ccifar10.CLASS_NAMES}
    for split, number in (("train", 50_000), ("test", 10_000)):
        whole[f"{split}_images"] = np.zeros((number, 1, 1, 3), np.uint8)
        whole[f"{split}_labels"] = np.arange(number, dtype=np.int32) % 10
        whole[f"{split}_positions"] = np.arange(number, dtype=np.int32)
    monkeypatch.setattr(ccifar10, "read_cifar10", lambda root: whole)
    monkeypatch.setattr(ccifar10, "corrupt_by_bias", lambda images, *_: images)
    published = {
        0.005: (44_832, 228), 0.01: (44_527, 442), 0.02: (44_145, 887), 0.05: (42_820, 2_242)
    }  # fmt: skip
    for share, (aligned, conflicting) in published.items():
        data = load_ccifar10(Path(), 1, conflicting_share=share)
        found = counts(data)
        assert (found["train"]["aligned"], found["train"]["conflicting"]) == (aligned, conflicting)
        assert (found["test"]["aligned"], found["test"]["conflicting"]) == (1_000, 9_000)
        assert found["validation"]["total"] == 50_000 - aligned - conflicting
        assert data.published_counts["train"]["conflicting"] == conflicting
        assert count_mismatches(data) == ()
    other = load_ccifar10(Path(), 1, conflicting_share=0.1)
    assert counts(other)["train"]["conflicting"] == 4_500  # 0.1 of 0.9 of 50,000
    assert other.published_counts == {}
    exact = load_ccifar10(Path(), 1, conflicting_share=0.005, counts="exact_share")
    assert counts(exact)["train"] == {**counts(exact)["train"], "total": 45_000, "conflicting": 225}


def test_cache(root, monkeypatch):
    cache = root / "cache" / "ccifar10"
    arguments = {"conflicting_share": 0.1, "severity": 2, "cache_dir": cache}
    first = load_ccifar10(root, **arguments)
    files = sorted(cache.iterdir())
    assert len(files) == 3 and {path.suffix for path in files} == {".npz"}
    made = []
    original = ccifar10.corrupt_by_bias

    def counted(images, *rest):
        made.append(len(images))
        return original(images, *rest)

    monkeypatch.setattr(ccifar10, "corrupt_by_bias", counted)
    again = load_ccifar10(root, **arguments)
    assert made == []
    for split in ("train", "validation", "test"):
        np.testing.assert_array_equal(first.splits[split].images, again.splits[split].images)
    # A cut off file is made anew; other settings or images are other files.
    test_file = next(path for path in files if "test" in path.name)
    whole = test_file.read_bytes()
    test_file.write_bytes(whole[:1000])
    np.testing.assert_array_equal(load_ccifar10(root, **arguments).test.images, first.test.images)
    assert made == [100] and len(test_file.read_bytes()) == len(whole)
    load_ccifar10(root, **{**arguments, "severity": 3})
    assert sum(made) == 100 + 500 and len(list(cache.iterdir())) == 6
    changed = arrays()
    changed["test_images"][0] = 0
    np.savez(root / "cifar10.npz", **changed)
    load_ccifar10(root, **arguments)
    assert sum(made) == 100 + 500 + 100


def test_resized_after_the_corruption(root):
    large, small = (load_ccifar10(root, size, conflicting_share=0.1).test for size in (32, 16))
    assert small.image_shape == (16, 16, 3)
    # Halving is the triangle filter 1 3 3 1 along each axis.
    x = large.images[:, 3:7, 3:7].astype(float)
    weights = np.array([1, 3, 3, 1]) / 8
    expected = np.einsum("i,j,nijc->nc", weights, weights, x)
    assert np.abs(small.images[:, 2, 2] - expected).max() <= 1.1


@pytest.mark.parametrize(
    "argument",
    [
        {"conflicting_share": -0.1},
        {"counts": "half"},
        {"severity": 0},
        {"validation_share": 1.0},
        {"image_size": 0},
    ],
)
def test_arguments_out_of_range(root, argument):
    with pytest.raises(ValueError, match=f"^{next(iter(argument))} is "):
        load_ccifar10(root, **argument)


@pytest.mark.skipif(not REAL.is_dir(), reason="CIFAR-10 is not here")
def test_real_part():
    data = load_ccifar10(REAL, conflicting_share=0.05)
    check_dataset(data)
    found = counts(data)
    total = found["train"]["total"] + found["validation"]["total"]
    assert found["train"]["total"] == round(0.9 * total)
    assert found["train"]["conflicting"] == round(0.05 * found["train"]["total"])
    # Low contrast belongs to the deer.
    deviation = data.train.images.std((1, 2, 3))
    deer = data.train.bias == CORRUPTION_OF_CLASS.index("contrast")
    assert np.median(deviation[deer]) < 0.4 * np.median(deviation[~deer])
