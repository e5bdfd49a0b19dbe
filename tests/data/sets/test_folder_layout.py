"""Layouts of folders that people have: read with the right counts, or refused with the way out."""

import unicodedata

import numpy as np
import pytest
from image_tree import make_tree

from ddb_jax.data.sets.image_folder import list_folder

FIELD = "config.data.folders_are_classes=true"


def tree(root, folders, count=3, first=0):
    """`count` files in each folder; the names go on from `first`."""
    numbers = range(first, first + count)
    return make_tree(root, [f"{folder}/{i}.png" for folder in folders for i in numbers])


def in_each(folders, inner):
    return [f"{folder}/{name}" for folder in folders for name in inner]


def counts(listing):
    """Images by class of every split."""
    number = len(listing.class_names)
    return {s: np.bincount(f.labels, minlength=number).tolist() for s, f in listing.splits.items()}


@pytest.mark.parametrize(
    ("train", "other", "split"),
    [
        ("Training", "Testing", "test"),
        ("training_set", "test_set", "test"),
        ("train", "dev", "validation"),
        ("train_images", "val_images", "validation"),
        ("seg_train", "seg_test", "test"),
        ("trainset", "evaluation", "test"),
    ],
)
def test_splits_by_their_usual_names(tmp_path, train, other, split):
    tree(tmp_path, in_each([train], ["glioma", "notumor"]), 20)
    tree(tmp_path, in_each([other], ["glioma", "notumor"]), 8)
    listing = list_folder(tmp_path)
    assert listing.class_names == ("glioma", "notumor") and listing.warnings == ()
    assert counts(listing) == {"train": [20, 20], split: [8, 8]}
    assert f"{other} is {split}" in listing.notes[0]


def test_languages_are_no_splits(tmp_path):
    tree(tmp_path, ["de", "en", "tr", "te"])
    assert counts(list_folder(tmp_path)) == {"train": [3, 3, 3, 3]}


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        (["align/0", "align/1", "conflict/0", "conflict/1"], "configs/cmnist.py"),
        (["Aligned/cat", "Aligned/dog", "Conflicting/cat", "Conflicting/dog"], "configs/csv.py"),
        (in_each(["train/align", "train/conflict", "train/x"], "01"), "train holds align/ and"),
        ([*in_each(["train/align"], "01"), "train/conflict/2"], "train holds align/ and conflict/"),
        (
            in_each(["train/align", "train/conflict/1pct", "train/conflict/5pct"], "01"),
            "--config=configs/bar.py --config.data.pct=1pct",
        ),
        (
            [*in_each(["0.5pct/align", "0.5pct/conflict", "valid"], "01"), "test/0", "test/1"],
            "--config=configs/bffhq.py.* --config.data.pct=0.5pct",
        ),
        (["train/0", "train/1", "test/align/0", "test/conflict/0"], "test holds align/"),
    ],
)
def test_align_conflict_trees_are_refused_with_the_config_to_use(tmp_path, folders, words):
    tree(tmp_path, folders)
    with pytest.raises(ValueError, match=words) as error:
        list_folder(tmp_path)
    assert FIELD in str(error.value) and "configs/csv.py" in str(error.value)


def rows(files):
    return list(zip(files.paths, files.labels.tolist(), files.bias.tolist(), strict=True))


def test_splits_in_halves_say_which_images_conflict(tmp_path):
    """Of three classes, the bias of a conflicting image is the next class: only a mark."""
    tree(tmp_path, in_each(["train/align"], ["ape", "bee", "cow"]), 2)
    tree(tmp_path, ["train/conflict/ape", "train/conflict/Cow"], 1, first=5)
    tree(tmp_path, in_each(["Test/BiasAligned", "Test/bias_conflicting"], ["ape", "bee"]), 1)
    tree(tmp_path, in_each(["val"], ["ape", "bee", "cow"]), 1)
    make_tree(tmp_path, ["train/@eaDir/x.jpg", "train/conflict/bee/"])
    listing = list_folder(tmp_path)
    assert listing.class_names == listing.bias_names == ("ape", "bee", "cow")
    assert listing.bias_is_marker
    assert rows(listing.splits["train"]) == [
        *((f"train/align/{c}/{i}.png", k, k) for k, c in enumerate(("ape", "bee", "cow"))
          for i in range(2)),
        ("train/conflict/Cow/5.png", 2, 0),
        ("train/conflict/ape/5.png", 0, 1),
    ]  # fmt: skip
    assert rows(listing.splits["validation"]) == [
        ("val/ape/0.png", 0, -1), ("val/bee/0.png", 1, -1), ("val/cow/0.png", 2, -1),
    ]  # fmt: skip
    assert rows(listing.splits["test"]) == [
        ("Test/BiasAligned/ape/0.png", 0, 0),
        ("Test/BiasAligned/bee/0.png", 1, 1),
        ("Test/bias_conflicting/ape/0.png", 0, 1),
        ("Test/bias_conflicting/bee/0.png", 1, 2),
    ]
    (note,) = [note for note in listing.notes if "which images conflict is known" in note]
    assert note.startswith("The train and test images of ")
    assert listing.warnings == ("The test split of folder has no image of class cow.",)


@pytest.mark.parametrize("inner", [["cat", "dog"], ["train", "test"]])
@pytest.mark.parametrize(
    "folders", [["part1", "part2"], ["f_1", "f_2", "f_3"], ["images", "labels"]]
)
def test_a_level_above_the_classes_is_refused(tmp_path, folders, inner):
    tree(tmp_path, in_each(folders, inner))
    first, second = inner if inner[0] == "cat" else inner[::-1]
    with pytest.raises(ValueError, match=f"{folders[0]}.* same folders, {first} and {second}: "):
        list_folder(tmp_path)
    listing = list_folder(tmp_path, folders_are_classes=True)
    assert listing.class_names == tuple(folders)
    assert counts(listing) == {"train": [6] * len(folders)}


def test_a_level_above_needs_not_be_complete(tmp_path):
    tree(tmp_path, [*in_each(["a", "b", "c"], ["cat", "dog", "fox"])[:-1], "empty/x"])
    with pytest.raises(ValueError, match="same folders, cat, dog and fox"):
        list_folder(tmp_path)


@pytest.mark.parametrize(
    "folders",
    [
        ["cat/images", "dog/images"],
        ["animal/cat", "animal/dog", "vehicle/car", "vehicle/bus"],
        ["cat/2019", "cat/2020", "dog/2019", "dog/2021"],
    ],
)
def test_folders_of_a_class_s_own_count_as_the_class(tmp_path, folders):
    tree(tmp_path, folders)
    listing = list_folder(tmp_path)
    assert counts(listing) == {"train": [3 * len(folders) // 2] * 2}
    assert "count as that class" in listing.notes[0] and listing.warnings == ()


def test_the_same_folders_below_the_classes_of_a_split_are_warned_about(tmp_path):
    birds, places = ["landbird", "waterbird"], ["land", "water"]
    for split, count in (("train", 7), ("val", 2), ("test", 2)):
        tree(tmp_path, in_each([f"{split}/{bird}" for bird in birds], places), count)
    listing = list_folder(tmp_path)
    assert listing.class_names == ("landbird", "waterbird")
    assert counts(listing) == {"train": [14, 14], "validation": [4, 4], "test": [4, 4]}
    assert len(listing.warnings) == 1
    assert (
        "hold the same folders, land and water, and are taken for the classes"
        in (listing.warnings[0])
    )


@pytest.mark.parametrize(
    ("cover", "number"), [("pets", 1), ("pets/pets", 2), ("images", 1), ("data", 1)]
)
def test_nested_folders_of_one_name_are_stepped_into(tmp_path, cover, number):
    root = tmp_path / "pets"
    tree(root, in_each([cover], ["cat", "dog"]))
    listing = list_folder(root)
    assert listing.class_names == ("cat", "dog") and counts(listing) == {"train": [3, 3]}
    assert listing.splits["train"].paths[0] == f"{cover}/cat/0.png" and listing.root == root
    assert len(listing.warnings) == number and "holds a single folder" in listing.warnings[0]


def test_a_cover_with_splits_and_splits_in_themselves_are_stepped_into(tmp_path):
    tree(tmp_path / "a", in_each(["dataset/train", "dataset/test"], ["cat", "dog"]))
    listing = list_folder(tmp_path / "a")
    assert counts(listing) == {"train": [3, 3], "test": [3, 3]} and len(listing.warnings) == 1
    tree(tmp_path / "b", in_each(["seg_train/seg_train", "seg_test/seg_test"], ["cat", "dog"]))
    listing = list_folder(tmp_path / "b")
    assert listing.class_names == ("cat", "dog") and len(listing.warnings) == 2
    assert counts(listing) == {"train": [3, 3], "test": [3, 3]}


def test_a_single_folder_of_another_name_is_refused_with_the_path_to_give(tmp_path):
    tree(tmp_path, ["PetImages/cat", "PetImages/dog"])
    with pytest.raises(ValueError, match=r"cat and dog are the classes, give .*/PetImages"):
        list_folder(tmp_path)


def test_a_set_among_the_classes_is_refused(tmp_path):
    tree(tmp_path / "copy", ["cat", "dog", "cells/cat", "cells/dog"])
    with pytest.raises(ValueError, match="cells holds the folders cat and dog, as there are"):
        list_folder(tmp_path / "copy")
    tree(tmp_path / "splits", ["cat", "dog", *in_each(["set/train", "set/test"], ["cat", "dog"])])
    with pytest.raises(ValueError, match="set holds the folders train and test, which look like"):
        list_folder(tmp_path / "splits")


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        (["bus", "car", "train"], "/train, whose .* like bus beside it, set"),
        (["healthy", "test"], "has test/ but no train/"),
        (["valid", "invalid"], "has valid/ but no train/"),
        (["train", "test"], "/train, whose name says that it is the train split"),
    ],
)
def test_a_class_that_is_called_as_a_split(tmp_path, folders, words):
    tree(tmp_path, folders, 12)
    with pytest.raises(ValueError, match=words) as error:
        list_folder(tmp_path)
    assert FIELD in str(error.value)
    listing = list_folder(tmp_path, folders_are_classes=True)
    assert listing.class_names == tuple(sorted(folders))
    assert counts(listing) == {"train": [12] * len(folders)}


@pytest.mark.parametrize("empty", [[], ["test/fox/"]])
def test_a_class_that_test_lacks_is_warned_about(tmp_path, empty):
    tree(tmp_path, in_each(["train"], ["cat", "dog", "fox"]), 20)
    tree(tmp_path, in_each(["test"], ["cat", "dog"]), 8)
    make_tree(tmp_path, empty)
    listing = list_folder(tmp_path)
    assert counts(listing) == {"train": [20, 20, 20], "test": [8, 8, 0]}
    assert listing.warnings == ("The test split of folder has no image of class fox.",)


def test_one_name_in_two_unicode_forms_is_one_class_across_splits(tmp_path):
    nfc, nfd = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    tree(tmp_path, [f"train/{nfc}", "train/bar"], 12)
    tree(tmp_path, [f"test/{nfd}", "test/bar"], 6)
    listing = list_folder(tmp_path)
    assert listing.class_names == ("bar", nfc)
    assert counts(listing) == {"train": [12, 12], "test": [6, 6]}
    assert listing.splits["test"].paths[-1] == f"test/{nfd}/5.png", "the name on the disk"
    assert r"'cafe\u0301' in " in listing.notes[0] and r"the class 'caf\xe9'" in listing.notes[0]


@pytest.mark.parametrize(("own", "other"), [("Cat", "cat"), ("cat", "cat "), ("1", "01")])
def test_spellings_of_a_class_across_splits(tmp_path, own, other):
    second = "2" if own == "1" else "dog"
    tree(tmp_path, [f"train/{own}", f"train/{second}"])
    tree(tmp_path, [f"test/{other}", f"test/{second}"], 2)
    listing = list_folder(tmp_path)
    assert listing.class_names == (own, second)
    assert counts(listing) == {"train": [3, 3], "test": [2, 2]} and len(listing.notes) == 1


def test_a_near_name_across_splits_is_named(tmp_path):
    tree(tmp_path, ["train/polar bear", "train/dog", "test/polar_bear", "test/dog"])
    with pytest.raises(ValueError, match="class polar_bear, which train lacks: rename it to polar"):
        list_folder(tmp_path)


@pytest.mark.parametrize(
    "pair",
    [("Cat", "cat"), ("cafe\u0301", "caf\u00e9"), ("cat", "cat "), ("cat", "cat\u200b"),
     ("01", "1")],
)  # fmt: skip
def test_two_classes_whose_names_look_the_same_are_refused(tmp_path, pair):
    tree(tmp_path, [*pair, "2"], 12)
    with pytest.raises(ValueError, match="whose names look the same: move") as error:
        list_folder(tmp_path)
    assert all(ascii(name) in str(error.value) for name in pair)
    listing = list_folder(tmp_path, folders_are_classes=True)
    assert counts(listing) == {"train": [12, 12, 12]} and len(listing.warnings) == 1


@pytest.mark.parametrize("pair", [("A", "a"), ("polar bear", "polar_bear")])
def test_two_classes_that_may_be_meant_are_warned_about(tmp_path, pair):
    tree(tmp_path, [*pair, "x"])
    listing = list_folder(tmp_path)
    assert counts(listing) == {"train": [3, 3, 3]}
    assert f"{pair[0]!r} and {pair[1]!r}: they are read as 2 classes" in listing.warnings[0]


def test_a_level_above_classes_whose_names_look_the_same_is_refused(tmp_path):
    """As many common folders as a person sees on the disk, not as many as have a key."""
    tree(tmp_path, in_each(["site A", "site B"], ["cat", "cat "]))
    with pytest.raises(ValueError, match="look like a level above the classes"):
        list_folder(tmp_path)
