"""Coloured digits: counts, independence of splits, determinism; the data set checks and table."""

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ddb_jax.data.counts import counts, describe
from ddb_jax.data.datasets import load_dataset
from ddb_jax.data.sets.digits import PALETTE, load_coloured_digits
from ddb_jax.data.source import ArraySource, Dataset, Source, check_dataset, without_bias


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.95, 0.995, 1.0])
def test_aligned_counts_are_exact_and_conflicting_colours_even(share, seed):
    dataset = load_coloured_digits(aligned_share=share, seed=seed, image_size=8)
    for source in (dataset.train, dataset.validation):
        pairs = Counter(zip(source.labels.tolist(), source.bias.tolist(), strict=True))
        sizes = Counter(source.labels.tolist())
        total_aligned = sum(pairs[c, c] for c in range(10))
        assert total_aligned == round(share * len(source))
        for c in range(10):
            assert abs(pairs[c, c] - share * sizes[c]) < 1
            others = [pairs[c, colour] for colour in range(10) if colour != c]
            assert sum(others) == sizes[c] - pairs[c, c]
            assert max(others) - min(others) <= 1


@pytest.mark.parametrize("share", [0.1, 0.95])
def test_test_colours_are_even_within_every_class(share):
    test = load_coloured_digits(aligned_share=share, image_size=8).test
    pairs = Counter(zip(test.labels.tolist(), test.bias.tolist(), strict=True))
    for c in range(10):
        of_class = [pairs[c, colour] for colour in range(10)]
        assert max(of_class) - min(of_class) <= 1


def test_share_of_one_tenth_is_no_bias():
    train = load_coloured_digits(aligned_share=0.1, image_size=8).train
    table = np.zeros((10, 10))
    np.add.at(table, (train.labels, train.bias), 1)
    # Independence: every cell is its class's size over ten, to within rounding.
    assert np.all(np.abs(table - table.sum(1, keepdims=True) / 10) <= 1)


def test_splits_partition_the_digits_and_do_not_depend_on_the_share():
    first = load_coloured_digits(aligned_share=0.95, image_size=8)
    second = load_coloured_digits(aligned_share=0.2, image_size=8)
    digits = load_digits()
    ids = []
    for name, source in first.splits.items():
        assert source.paths == second.splits[name].paths
        numbers = [int(path.removeprefix("digits/")) for path in source.paths]
        assert source.labels.tolist() == digits.target[numbers].tolist()
        ids += numbers
    assert sorted(ids) == list(range(1797))
    # 450 = ceil(0.25 * 1797), 270 = ceil(0.2 * 1347).
    assert (len(first.test), len(first.validation), len(first.train)) == (450, 270, 1077)
    shares = [np.bincount(s.labels) / len(s) for s in first.splits.values()]
    assert np.ptp(shares, axis=0).max() < 0.01  # stratified


def test_same_colour_is_the_same_image_at_every_share():
    first = load_coloured_digits(aligned_share=0.95).train
    second = load_coloured_digits(aligned_share=0.5).train
    same = first.bias == second.bias
    np.testing.assert_array_equal(first.images[same], second.images[same])
    conflicting = first.bias != first.labels
    assert np.mean(same[conflicting]) > 0.9


def test_seed_decides_everything():
    first, again, other = (load_coloured_digits(seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.train.images, again.train.images)
    np.testing.assert_array_equal(first.train.bias, again.train.bias)
    assert first.train.paths == again.train.paths != other.train.paths


def test_pixels_are_the_digit_times_its_colour():
    train = load_coloured_digits(image_size=8, colour_jitter=0.0).train
    digits = load_digits().images
    colours = list(PALETTE.values())
    for i in (0, 1, 500):
        digit = digits[int(train.paths[i].split("/")[1])]
        for channel in range(3):
            expected = digit * colours[train.bias[i]][channel] * 255 / 16
            assert np.max(np.abs(train.images[i, ..., channel] - expected)) <= 0.501


def test_jitter_has_the_deviation_asked_for():
    train = load_coloured_digits(image_size=8, colour_jitter=0.03).train
    brightest = train.images.reshape(len(train), -1, 3).max(1) / 255.0
    at_half = brightest[train.bias == list(PALETTE).index("orange"), 1]  # green 0.5, not clipped
    # Every digit has a pixel of 15 or 16 of 16, which adds a little.
    assert abs(at_half.mean() - 0.5) < 0.02
    assert 0.02 < at_half.std() < 0.04


def test_enlarged_images_have_the_size_and_black_background():
    train = load_coloured_digits(image_size=16).train
    assert train.images.shape == (1077, 16, 16, 3)
    assert train.image_shape == (16, 16, 3)
    assert np.median(train.images[:, 0, 0]) == 0
    assert train.images.max() == 255


def test_palette_colours_are_well_apart():
    colours = np.array(list(PALETTE.values()))
    distance = np.abs(colours[:, None] - colours[None]).max(-1) + np.eye(10)
    assert distance.min() >= 0.5


@pytest.mark.parametrize(
    "field", [{"aligned_share": 1.5}, {"aligned_share": -0.1}, {"test_share": 1.0}]
)
def test_shares_out_of_range_are_refused(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        load_coloured_digits(**field)


def _source(labels, bias=None, size=4):
    labels = np.array(labels)
    images = np.zeros((len(labels), size, size, 3), np.uint8)
    return ArraySource(images, labels, np.full(len(labels), -1) if bias is None else bias)


def _dataset(**changes):
    split = _source([0, 1, 1], np.array([0, 0, -1]))
    dataset = Dataset("toy", split, split, split, ("cat", "dog"), ("day", "night"))
    return replace(dataset, **changes)


def test_example_fields_and_default_gather():
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    source = ArraySource(images, [1, 0], [0, -1], ("a.png", "b.png"))
    example = source[1]
    assert {k: int(v) for k, v in example.items() if k != "image"} == {
        "label": 0, "bias": -1, "index": 1
    }  # fmt: skip
    assert all(example[name].dtype == np.int32 for name in ("label", "bias", "index"))
    with pytest.raises(IndexError):
        source[2]
    fast, general = source.gather(np.array([1, 0, 1])), Source.gather(source, np.array([1, 0, 1]))
    for name in ("image", "label", "bias", "index"):
        np.testing.assert_array_equal(fast[name], general[name])
        assert fast[name].dtype == general[name].dtype
    assert fast["index"].tolist() == [1, 0, 1]
    assert fast["label"].tolist() == [0, 1, 0]


def test_array_source_refuses_wrong_arrays():
    images = np.zeros((2, 4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="uint8"):
        ArraySource(images.astype(np.float32), [0, 0], [0, 0])
    with pytest.raises(ValueError, match="2 images but 3 labels"):
        ArraySource(images, [0, 0, 0], [0, 0])


def test_counts_and_description():
    table = counts(_dataset())["train"]
    assert table == {
        "total": 3,
        "per_class": {"cat": 1, "dog": 2},
        "aligned": 1,
        "conflicting": 1,
        "unknown": 1,
    }
    assert describe(_dataset())[0] == (
        "toy train: 3 images, 1 to 2 in a class, 1 bias-aligned, 1 conflicting,"
        " 1 without a bias label."
    )


def test_without_bias_hides_it_everywhere_and_changes_nothing_else():
    dataset = load_coloured_digits(image_size=8)
    assert dataset.bias_known
    hidden = without_bias(dataset)
    assert not hidden.bias_known
    for name, source in hidden.splits.items():
        fields = source.gather(np.array([5, 2]))
        assert source.bias.tolist() == [-1] * len(source)
        assert fields["bias"].tolist() == [-1, -1] and source[3]["bias"] == -1
        original = dataset.splits[name].gather(np.array([5, 2]))
        np.testing.assert_array_equal(fields["image"], original["image"])
        np.testing.assert_array_equal(fields["label"], original["label"])
        assert source.paths == dataset.splits[name].paths


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train": _source([1, 1])}, "no training image of class cat"),
        ({"test": _source([0, 2])}, "1 in the test split of toy has label 2"),
        ({"validation": _source([-1])}, "label -1"),
        ({"train": _source([0, 1], np.array([0, 2]))}, "has bias 2"),
        ({"validation": _source([])}, "validation split of toy is empty"),
        ({"test": _source([0], size=8)}, "one shape"),
    ],
)
def test_check_dataset_names_what_is_wrong(changes, words):
    with pytest.raises(ValueError, match=words):
        check_dataset(_dataset(**changes))


def test_check_dataset_accepts_a_sound_one():
    check_dataset(_dataset())
    check_dataset(load_coloured_digits(image_size=8))


def test_datasets_table():
    settings = SimpleNamespace(
        name="digits", aligned_share=0.9, colour_jitter=0.0,
        validation_share=0.5, test_share=0.5, seed=1, reference_share=0.0,
        background="white", allow_leaks=False,
    )  # fmt: skip
    dataset = load_dataset(settings, 12)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (449, 449, 899)
    assert dataset.train.image_shape == (12, 12, 3)
    assert np.sum(dataset.train.labels == dataset.train.bias) == 404  # round(0.9 * 449)
    settings.name = "digit"
    with pytest.raises(ValueError, match="no data set 'digit', there is"):
        load_dataset(settings, 12)
