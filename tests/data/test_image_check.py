"""What is found in the images of a set, and what a run stops for; every set is made by hand."""

import csv
import hashlib
import io

import numpy as np
import pytest

from ddb_jax.data.data_check_file import COLUMNS, data_check_csv
from ddb_jax.data.image_check import check_images, sizes_sentence
from ddb_jax.data.images.decode import DecodedImage
from ddb_jax.data.images.facts import facts_of
from ddb_jax.data.source import ArraySource, Dataset

SIDE = 8


def noise(number):
    return np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def colour(value):
    return np.full((SIDE, SIDE, 3), value, np.uint8)


def decoded(pixels, side=80, mode="RGB"):
    counts = [np.bincount(pixels[..., c].ravel(), minlength=256) for c in range(3)]
    sha256 = hashlib.sha256(pixels).hexdigest()[:32]
    histogram = np.concatenate(counts).tolist()
    return DecodedImage(pixels, histogram, sha256, side, side, mode, False, -1, -1)


def make(train, validation=(), test=(), **facts):
    """A set of (name, label, pixels, changes of its facts); each split gets two more of noise."""
    splits, images = {}, {}
    parts = {"train": train, "validation": validation, "test": test}
    for number, (split, rows) in enumerate(parts.items()):
        own = [(f"{split}_{i}.png", i, noise(1000 + 10 * number + i)) for i in range(2)]
        rows = [(*row, {})[:4] for row in (*rows, *own)]
        pixels = np.stack([row[2] for row in rows])
        labels = np.array([row[1] for row in rows])
        names = [row[0] for row in rows]
        splits[split] = ArraySource(pixels, labels, np.full(len(rows), -1), names)
        images[split] = tuple(
            facts_of([decoded(row[2])])[0]._replace(**{**facts, **row[3]}) for row in rows
        )
    return Dataset("toy", **splits, class_names=("cat", "dog"), images=images)


def found(dataset, **options):
    return {finding.kind: finding for finding in check_images(dataset, **options)}


def names(finding):
    return [image.path for image in finding.images]


def test_nothing_is_found_where_nothing_is():
    assert check_images(make([("a.png", 0, noise(1)), ("b.png", 1, noise(2))])) == ()


def test_sets_that_are_not_files_are_not_checked():
    dataset = make([])
    bare = Dataset("toy", **dataset.splits, class_names=("cat", "dog"))
    assert check_images(bare) == () and sizes_sentence(bare) == ""
    assert data_check_csv(bare).splitlines() == [",".join(COLUMNS)]


@pytest.mark.parametrize("other", ["train", "validation"])
def test_a_leak_into_test_stops_the_run_unless_it_is_allowed(other):
    copies = {other: [("a.png", 0, noise(1))]}
    dataset = make(**{"train": [], **copies}, test=[("b.png", 0, noise(1))])
    finding = found(dataset)["in test and in training"]
    assert finding.refused and names(finding) == ["a.png", "b.png"]
    assert finding.sentence == (
        "1 of 3 test images are in train or validation, too, equal in every pixel at 8 px:"
        f" a.png ({other}) = b.png (test). Remove them from one side, or go on with"
        " config.data.allow_leaks=True."
    )
    allowed = found(dataset, allow_leaks=True)["in test and in training"]
    assert not allowed.refused and "allow_leaks" not in allowed.sentence


def test_copies_in_train_and_validation():
    dataset = make([("a.png", 0, noise(1))], [("b.png", 0, noise(1)), ("c.png", 0, noise(1))])
    kinds = found(dataset)
    assert set(kinds) == {"in train and in validation", "more than once"}
    assert kinds["in train and in validation"].sentence.startswith("2 of 4 validation images are")
    assert kinds["more than once"].sentence.startswith("1 image more than once in a split")


def test_one_image_under_two_labels():
    dataset = make([("a.png", 0, noise(1)), ("b.png", 1, noise(1)), ("c.png", 1, noise(2))])
    finding = found(dataset)["under two labels"]
    assert not finding.refused and names(finding) == ["a.png", "b.png"]
    assert "a.png (cat) = b.png (dog)" in finding.sentence


def test_one_image_under_two_names():
    dataset = make([("a.png", 0, noise(1)), ("./a.png", 0, noise(1)), ("c.png", 0, noise(1))])
    finding = found(dataset)["more than once"]
    assert names(finding) == ["a.png", "./a.png", "c.png"] and "count 3 times" in finding.sentence


def test_of_many_copies_three_are_shown():
    rows = [(f"{k}{i}.png", 0, noise(i)) for i in range(9) for k in "ab"]
    sentence = found(make(rows))["more than once"].sentence
    assert "a2.png (train) = b2.png (train); and 6 more" in sentence and "a3.png" not in sentence


def test_images_of_one_colour_are_told_by_class_and_are_no_copies():
    rows = [(f"{i}.png", 1, colour(7)) for i in range(4)]
    kinds = found(make(rows, test=[("t.png", 1, colour(7))]))
    assert set(kinds) == {"one colour"}
    assert kinds["one colour"].sentence.startswith("5 of 11 images (dog 5 of 8) show one colour")
    assert not kinds["one colour"].refused


def test_a_set_of_one_colour_is_refused():
    dataset = make([("a.png", 0, colour(7))])
    one = {
        split: ArraySource(np.full_like(s.images, 7), s.labels, s.bias, s.paths)
        for split, s in dataset.splits.items()
    }
    (facts,) = facts_of([decoded(colour(7), SIDE, "L")])
    images = {split: (facts,) * len(source) for split, source in one.items()}
    black = Dataset("toy", **one, class_names=("cat", "dog"), images=images)
    finding = found(black)["all one colour"]
    assert finding.refused and finding.sentence.startswith("all 7 images are of one and the same")


def test_images_that_show_next_to_nothing():
    faint = colour(100)
    faint[0, 0] = 104  # a deviation of 4 * sqrt(1/64 * 63/64), about 0.5
    contrast = colour(100)
    contrast[:4] = 106  # of 3
    dataset = make([("faint.png", 0, faint), ("contrast.png", 0, contrast)])
    assert names(found(dataset)["nearly empty"]) == ["faint.png"]


def test_transparent_parts_are_told_with_what_they_show():
    dataset = make([("a.png", 0, noise(1), {"transparent": True})])
    sentence = found(dataset, background="#808080")["transparent"].sentence
    assert sentence.startswith("1 of 7 images (cat 1 of 4) have transparent parts, which show #808")


@pytest.mark.parametrize(
    ("low", "high", "bits", "little"),
    [(0, 255, 8, False), (0, 4000, 12, False), (0, 4096, 13, False), (30_000, 33_000, 16, True)],
)
def test_the_range_of_deep_grey_is_told(low, high, bits, little):
    grey = {"mode": "I;16", "grey_low": low, "grey_high": high}
    sentence = found(make([("a.png", 0, noise(1), grey)]))["16-bit grey"].sentence
    assert f"from {low:,} to {high:,} over the whole set: they are read as {bits}-bit" in sentence
    assert ("little contrast" in sentence) == little


def test_a_size_that_tells_the_class():
    rows = [(f"{i}.png", i % 2, noise(i), {"width": 100 + i % 2}) for i in range(40)]
    kinds = found(make(rows))
    # Of 46 images six are 80 x 80, three of each class: 43 are named right.
    assert "size tells the class" not in kinds  # 93%
    rows += [(f"more{i}.png", i % 2, noise(100 + i), {"width": 100 + i % 2}) for i in range(40)]
    sentence = found(make(rows))["size tells the class"].sentence
    assert "alone tells the class of 97% of the images" in sentence  # 83 of 86
    assert "the largest class: 50%" in sentence


def test_a_size_of_its_own_for_every_image_tells_nothing():
    rows = [(f"{i}.png", i % 2, noise(i), {"width": 100 + i}) for i in range(60)]
    assert found(make(rows)) == {}


def test_a_kind_of_pixel_that_tells_the_class():
    rows = [(f"{i}.png", i % 2, noise(i), {"mode": "L" if i % 2 else "P"}) for i in range(200)]
    assert "kind of pixel tells the class" in found(make(rows))


def test_thumbnails_are_told():
    rows = [("a.png", 0, noise(1), {"width": 3, "height": 3})]
    assert names(found(make(rows))["enlarged"]) == ["a.png"]
    rows = [("a.png", 0, noise(1), {"width": 4, "height": 3})]
    assert found(make(rows)) == {}


def test_the_table_has_a_line_for_every_image():
    dataset = make([("a,b.png", 0, noise(1)), ("c.png", 1, noise(1))])
    dataset = Dataset(**{**vars(dataset), "findings": check_images(dataset)})
    rows = list(csv.DictReader(io.StringIO(data_check_csv(dataset))))
    assert len(rows) == 8 and tuple(rows[0]) == COLUMNS
    assert rows[0]["path"] == "a,b.png" and rows[1]["class"] == "dog"
    assert rows[0]["findings"] == "under two labels; more than once"
    assert rows[0]["sha256"] == rows[1]["sha256"] != rows[2]["sha256"] and rows[2]["findings"] == ""


def test_the_sizes_in_one_sentence():
    assert sizes_sentence(make([])) == "toy files: all 80 x 80 pixels; 6 RGB."
    rows = [("a.png", 0, noise(1), {"width": 1200, "mode": "L"})]
    assert sizes_sentence(make(rows)) == (
        "toy files: 80 to 1,200 pixels wide (median 80) and 80 to 80 high (median 80); 6 RGB, 1 L."
    )
