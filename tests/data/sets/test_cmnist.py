"""Coloured MNIST: exact counts, colours, determinism, refused files; bias assignment."""

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from ddb_jax.data.counts import count_mismatches, counts
from ddb_jax.data.sets import cmnist
from ddb_jax.data.sets.bias_assignment import apportion, assign_bias
from ddb_jax.data.sets.cmnist import colour_images, load_cmnist
from ddb_jax.data.sets.digits import PALETTE
from ddb_jax.data.source import check_dataset

COLOURS = np.array(list(PALETTE.values()))
REAL = Path(os.environ.get("DDB_JAX_DATA", Path(__file__).parents[4] / "shared" / "data")) / "mnist"


def idx(array):
    magic = struct.pack(">I", 0x800 + array.ndim)
    return magic + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def digits(number, seed):
    """Random images whose four middle pixels are white, and their labels, 0 to 9 in turn."""
    images = np.random.default_rng(seed).integers(0, 256, (number, 28, 28), dtype=np.uint8)
    images[:, 13:15, 13:15] = 255
    return images, (np.arange(number) % 10).astype(np.uint8)


@pytest.fixture
def root(tmp_path):
    for part, number in (("train", 500), ("t10k", 200)):
        images, labels = digits(number, number)
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    return tmp_path


def table(source):
    cells = np.zeros((10, 10), int)
    np.add.at(cells, (source.labels, source.bias), 1)
    return cells


def test_apportion():
    # Quotas 2.5, 1.5, 1.0 sum to 5; the first of the two halves is rounded up.
    assert apportion(np.array([5, 3, 2]), 0.5).tolist() == [3, 1, 1]
    # Quotas 0.7, 0.2, 0.1 sum to 1.
    assert apportion(np.array([7, 2, 1]), 0.1).tolist() == [1, 0, 0]
    assert apportion(np.array([7, 2, 1]), 1.0).tolist() == [7, 2, 1]


def test_assign_bias_spreads_the_others_evenly():
    labels = np.repeat([0, 1, 2], [10, 7, 4])
    rng = np.random.default_rng(0)
    cells = np.zeros((3, 3), int)
    np.add.at(cells, (labels, assign_bias(labels, np.array([7, 3, 4]), rng, 3)), 1)
    assert np.diag(cells).tolist() == [7, 3, 4]
    assert sorted(cells[0, 1:]) == [1, 2] and cells[1, [0, 2]].tolist() == [2, 2]
    even = np.zeros((3, 3), int)
    np.add.at(even, (labels, assign_bias(labels, None, rng, 3)), 1)
    assert [sorted(row) for row in even.tolist()] == [[3, 3, 4], [2, 2, 3], [1, 1, 2]]


@pytest.mark.parametrize(
    ("how", "conflicting"),
    # 40 training images in a class, of which 0.06 is 2.4: 2 in each of the ten, or 24 in all.
    [("published", 20), ("exact_share", 24)],
)
def test_counts(root, how, conflicting):
    data = load_cmnist(root, 7, conflicting_share=0.06, counts=how, validation_size=100)
    cells = table(data.train)
    assert cells.sum(1).tolist() == [40] * 10
    assert 400 - np.trace(cells) == conflicting
    for label in range(10):
        others = np.delete(cells[label], label)
        assert others.max() - others.min() <= 1
    # 0.06 of 10 is 0.6: none of each, or 6 in all. The test split is even: 20 over ten colours.
    assert np.trace(table(data.validation)) == {"published": 100, "exact_share": 94}[how]
    assert np.all(table(data.test) == 2)
    assert data.published_counts == {}
    check_dataset(data)


def test_conflicting_images_are_nested_and_jitter_does_not_depend_on_the_share(root):
    few = load_cmnist(root, conflicting_share=0.1, validation_size=100).train
    many = load_cmnist(root, conflicting_share=0.5, validation_size=100).train
    conflicts = few.bias != few.labels
    assert conflicts.sum() == 40 and np.all(many.bias[conflicts] == few.bias[conflicts])
    same = few.bias == many.bias
    assert same.sum() > 200
    np.testing.assert_array_equal(few.images[same], many.images[same])


def test_images_stay_with_their_labels_and_last_ones_validate(root):
    data = load_cmnist(root, validation_size=100)
    for split, part, first in (("train", 500, 0), ("validation", 500, 400), ("test", 200, 0)):
        source = data.splits[split]
        grey, labels = digits(part, part)
        assert source.labels.tolist() == labels[first : first + len(source)].tolist()
        folder = "mnist/test" if split == "test" else "mnist/train"
        assert source.paths[3] == f"{folder}/{first + 3:06d}"
        # A channel whose colour is nearly 1 shows the digit itself.
        colour = COLOURS[source.bias[3]]
        channel = int(np.argmax(colour))
        shown = source.images[3, :, :, channel].astype(float)
        assert np.abs(shown - grey[first + 3]).max() <= 255 * 5 * 0.005
    assert (len(data.train), len(data.validation), len(data.test)) == (400, 100, 200)
    assert data.class_names[3] == "3" and data.bias_names == tuple(PALETTE)


@pytest.mark.parametrize(("severity", "deviation"), [(1, 0.05), (2, 0.02), (3, 0.01), (4, 0.005)])
def test_jitter_of_every_severity(root, severity, deviation):
    test = load_cmnist(root, severity=severity, validation_size=100).test
    white = test.images[:, 13, 13] / 255.0  # grey 255, so the colour itself
    deviations = white - COLOURS[test.bias]
    middle = COLOURS[test.bias] == 0.5  # channels that are not clipped: 3 of 30, so 60 values
    assert middle.sum() == 60
    assert 0.7 < deviations[middle].std() / deviation < 1.3
    assert np.abs(deviations).max() < 5 * deviation
    assert np.all(deviations[COLOURS[test.bias] == 1] <= 0)


def test_colour_images_by_hand():
    grey = np.array([[[0, 100], [200, 255]]] * 2, np.uint8)
    images = colour_images(grey, np.array([[1.0, 0.5, 0.0], [0.25, 0.1, 1.0]]))
    assert images[0].tolist() == [
        [[0, 0, 0], [100, 50, 0]],
        [[200, 100, 0], [255, 128, 0]],  # 127.5 to the even neighbour
    ]
    assert images[1].tolist() == [[[0, 0, 0], [25, 10, 100]], [[50, 20, 200], [64, 26, 255]]]


def test_halved_image_is_the_triangle_filter_of_the_digit(root):
    large = load_cmnist(root, 28, severity=5, validation_size=100).train.images[5].astype(float)
    small = load_cmnist(root, 14, severity=5, validation_size=100).train.images[5].astype(float)
    weights = np.zeros((14, 28))
    for i in range(14):
        for offset, weight in zip((-1, 0, 1, 2), (1, 3, 3, 1), strict=True):
            if 0 <= 2 * i + offset < 28:
                weights[i, 2 * i + offset] = weight
    weights /= weights.sum(1, keepdims=True)
    expected = np.einsum("ih,jw,hwc->ijc", weights, weights, large)
    assert np.abs(small - expected).max() <= 1.5


def test_seed_decides_colours_and_jitter(root):
    first, again, other = (load_cmnist(root, validation_size=100, seed=s).test for s in (1, 1, 2))
    np.testing.assert_array_equal(first.images, again.images)
    assert np.mean(first.bias == other.bias) < 0.5


def test_other_spellings_of_the_files(root, tmp_path_factory):
    other = tmp_path_factory.mktemp("gz")
    for path in root.iterdir():
        if path.name.startswith("train"):
            (other / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        else:
            (other / path.name.replace("-idx", ".idx")).write_bytes(path.read_bytes())
    plain, packed = (load_cmnist(r, 7, validation_size=100) for r in (root, other))
    np.testing.assert_array_equal(plain.train.images, packed.train.images)
    np.testing.assert_array_equal(plain.test.images, packed.test.images)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("train-images-idx3-ubyte", lambda b: b[:-1], "announces 392,000 bytes but has 391,999"),
        ("train-images-idx3-ubyte", lambda b: b + b"x", "announces 392,000 bytes but has more"),
        ("t10k-labels-idx1-ubyte", lambda b: b"", "is not MNIST's t10k-labels-idx1-ubyte"),
        ("t10k-images-idx3-ubyte", lambda b: idx(digits(5, 0)[1]), "is not MNIST's t10k-images"),
        ("t10k-images-idx3-ubyte", lambda b: idx(digits(5, 0)[0]), "5 images but .* 200 labels"),
        ("t10k-images-idx3-ubyte", lambda b: idx(digits(5, 0)[0][:, 4:]), "28 by 28"),
        ("train-labels-idx1-ubyte", lambda b: b[:-1] + b"\x0a", "has a label 10"),
    ],
)
def test_wrong_files_are_refused(root, name, change, words):
    path = root / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=words):
        load_cmnist(root, validation_size=100)


def test_missing_and_cut_off_files(root):
    path = root / "train-images-idx3-ubyte"
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"ddb_jax.data.download mnist"):
        load_cmnist(root)
    packed = gzip.compress(content)
    (root / f"{path.name}.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(ValueError, match="is damaged"):
        load_cmnist(root)
    (root / f"{path.name}.gz").write_bytes(content)
    with pytest.raises(ValueError, match="is damaged"):
        load_cmnist(root)


@pytest.mark.parametrize(
    "argument",
    [
        {"conflicting_share": 1.5},
        {"counts": "exact"},
        {"severity": 0},
        {"severity": 6},
        {"validation_size": 500},
        {"validation_size": 0},
        {"image_size": 0},
    ],
)
def test_arguments_out_of_range(root, argument):
    with pytest.raises(ValueError, match=f"^{next(iter(argument))} is "):
        load_cmnist(root, **{"validation_size": 100, **argument})


@pytest.mark.skipif(not REAL.is_dir(), reason="MNIST is not here")
def test_published_counts_of_the_real_digits(monkeypatch):
    # DiffuBias (Table 5), after LDD: aligned and conflicting images.
    published = {
        0.005: (54_729, 271), 0.01: (54_454, 546), 0.02: (53_904, 1_096), 0.05: (52_254, 2_746)
    }  # fmt: skip
    for share, (aligned, conflicting) in published.items():
        data = load_cmnist(REAL, 2, conflicting_share=share)
        found = counts(data)
        assert (found["train"]["aligned"], found["train"]["conflicting"]) == (aligned, conflicting)
        assert (found["test"]["aligned"], found["test"]["conflicting"]) == (1_006, 8_994)
        assert found["validation"]["total"] == 5_000
        assert data.published_counts["train"]["total"] == 55_000
        assert count_mismatches(data) == ()
        # Counts are of labels and colours: the pixels are resized once, which takes the longest.
        monkeypatch.setattr(cmnist, "resize_all", lambda images, size: images[:, :size, :size])
    exact = load_cmnist(REAL, 2, counts="exact_share")
    assert counts(exact)["train"]["conflicting"] == 275  # 0.005 of 55,000
    cells = table(exact.test)
    assert np.all(cells.max(1) - cells.min(1) <= 1) and exact.published_counts == {}
