"""Splits that a layout lacks, and counts against the published ones."""

from pathlib import Path

import numpy as np
import pytest

from ddb_jax.data.counts import count_mismatches, counts_table
from ddb_jax.data.listing import Files, Listing, complete_splits
from ddb_jax.data.source import ArraySource, Dataset


def files(labels):
    labels = np.array(labels, np.int32)
    return Files(tuple(f"{i:03d}.png" for i in range(len(labels))), labels, labels * 0 - 1)


def listing(published=None, **splits):
    return Listing("pets", Path(), splits, ("cat", "dog"), published_counts=published or {})


def test_missing_splits_are_a_stratified_share_of_train():
    whole = files([0] * 60 + [1] * 40)
    made = complete_splits(listing(train=whole), validation_share=0.25, test_share=0.2, seed=0)
    sizes = {name: np.bincount(part.labels).tolist() for name, part in made.splits.items()}
    # A fifth of 60 and 40 first, then a quarter of what is left.
    assert sizes == {"train": [36, 24], "test": [12, 8], "validation": [12, 8]}
    everything = [path for part in made.splits.values() for path in part.paths]
    assert sorted(everything) == list(whole.paths), "every image is in one split"
    assert all(list(part.paths) == sorted(part.paths) for part in made.splits.values())
    assert "no test split: 20 of the 100 training images" in made.notes[0]
    assert "no validation split: 20 of the 80 training images" in made.notes[1]
    again, other = (complete_splits(listing(train=whole), 0.25, 0.2, seed) for seed in (0, 1))
    assert again.splits["test"].paths == made.splits["test"].paths
    assert other.splits["test"].paths != made.splits["test"].paths


def test_splits_that_are_there_stay():
    given = {name: files([0, 1]) for name in ("train", "validation", "test")}
    made = complete_splits(listing(**given), 0.5, 0.5, 0)
    assert made.splits == given and not made.notes


def test_a_class_too_small_to_divide_is_named_by_its_count():
    with pytest.raises(ValueError, match=r"pets has no test split, and a share of 0.2 of 5 images"):
        complete_splits(listing(train=files([0, 0, 0, 0, 1])), 0.1, 0.2, 0)


def dataset_of(made):
    sources = {
        name: ArraySource(np.zeros((len(p.paths), 2, 2, 3), np.uint8), p.labels, p.bias)
        for name, p in made.splits.items()
    }
    return Dataset(
        "pets", **sources, class_names=made.class_names, published_counts=made.published_counts
    )


def test_published_counts_are_of_train_before_the_draw():
    published = {"train": {"total": 80, "cat": 50, "dog": 30}, "test": {"total": 4}}
    splits = {"train": files([0] * 50 + [1] * 30), "test": files([0, 1, 1])}
    made = complete_splits(listing(published, **splits), 0.1, 0.2, 0)
    assert count_mismatches(dataset_of(made)) == (
        "pets test: total is 3, the published set has 4.",
    )
    splits["train"] = files([0] * 49 + [1] * 30)
    made = complete_splits(listing(published, **splits), 0.1, 0.2, 0)
    assert count_mismatches(dataset_of(made))[:2] == (
        "pets train+validation: total is 79, the published set has 80.",
        "pets train+validation: cat is 49, the published set has 50.",
    )


def test_counts_are_printed_by_class_and_group():
    def dataset(labels, bias, bias_names):
        images = np.zeros((len(labels), 2, 2, 3), np.uint8)
        source = ArraySource(images, np.array(labels), np.array(bias))
        return Dataset("pets", source, source, source, ("cat", "dog"), bias_names)

    known = dataset([0, 0, 0, 1], [0, 0, 1, 1], ("sofa", "lawn"))
    lines = [line.split() for line in counts_table(known).splitlines()]
    assert lines == [
        ["train", "validation", "test"],
        ["cat", "/", "sofa", "2", "2", "2"],
        ["cat", "/", "lawn", "1", "1", "1"],
        ["dog", "/", "sofa", "0", "0", "0"],
        ["dog", "/", "lawn", "1", "1", "1"],
    ]
    assert "cat  2 + 1" in counts_table(known, max_rows=3)
    unknown = dataset([0, 0, 0, 1], [-1, 0, 1, 1], ("sofa", "lawn"))
    assert [line.split()[:2] for line in counts_table(unknown).splitlines()[1:]] == [
        ["cat", "3"],
        ["dog", "1"],
    ]
