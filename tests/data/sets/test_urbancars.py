from itertools import product

import pytest
from image_tree import make_tree, table

from ddb_jax.data.sets.urbancars import list_urbancars

WORDS = ("urban", "country")
TRAIN, EVEN = "bg-0.95_co_occur_obj-0.95/train", "bg-0.5_co_occur_obj-0.5"


def folder(car, background, item):
    return f"obj-{WORDS[car]}_bg-{WORDS[background]}_co_occur_obj-{WORDS[item]}"


@pytest.fixture
def root(tmp_path):
    for split, group in product((TRAIN, f"{EVEN}/val", f"{EVEN}/test"), product((0, 1), repeat=3)):
        stem = f"{split}/{folder(*group)}/000"
        make_tree(tmp_path, [f"{stem}{end}" for end in (".jpg", "_mask.png")])
        make_tree(tmp_path, [f"{stem}_co_occur_obj_mask.png"])
    return tmp_path


def test_eight_groups_of_every_split_without_masks(root):
    make_tree(root, [f"{TRAIN}/{folder(1, 0, 1)}/001.jpg", f"{TRAIN}/{folder(1, 0, 1)}/log.txt"])
    listing = list_urbancars(root)
    assert listing.name == "urbancars" and listing.class_names == WORDS
    assert {split: len(files.paths) for split, files in listing.splits.items()} == {
        "train": 9,
        "validation": 8,
        "test": 8,
    }
    # Path, label, bias; country sorts before urban.
    assert table(listing.splits["train"]) == [
        (f"{TRAIN}/{folder(1, 1, 1)}/000.jpg", 1, 1),
        (f"{TRAIN}/{folder(1, 1, 0)}/000.jpg", 1, 3),
        (f"{TRAIN}/{folder(1, 0, 1)}/000.jpg", 1, 2),
        (f"{TRAIN}/{folder(1, 0, 1)}/001.jpg", 1, 2),
        (f"{TRAIN}/{folder(1, 0, 0)}/000.jpg", 1, 0),
        (f"{TRAIN}/{folder(0, 1, 1)}/000.jpg", 0, 1),
        (f"{TRAIN}/{folder(0, 1, 0)}/000.jpg", 0, 3),
        (f"{TRAIN}/{folder(0, 0, 1)}/000.jpg", 0, 2),
        (f"{TRAIN}/{folder(0, 0, 0)}/000.jpg", 0, 0),
    ]
    assert len(listing.notes) == 1 and listing.notes[0].startswith("1 file that is not an image")


def test_the_two_biases_are_told_apart(root):
    listing = list_urbancars(root)
    assert listing.bias_attributes == {
        "background": (0, 1, 0, 1),
        "co_occurring_object": (0, 1, 1, 0),
    }
    assert listing.bias_names[2] == "urban background, country object"
    for files in listing.splits.values():
        for path, label, bias in table(files):
            group = path.split("/")[-2]
            background = listing.bias_attributes["background"][bias]
            item = listing.bias_attributes["co_occurring_object"][bias]
            assert group == folder(label, background, item)
            assert (
                listing.bias_names[bias] == f"{WORDS[background]} background, {WORDS[item]} object"
            )
            assert (bias == label) == (background == item == label)


def test_published_counts_follow_from_the_shares(root):
    counts = list_urbancars(root).published_counts
    assert counts["train"]["aligned"] == round(8_000 * 0.95 * 0.95)
    assert counts["train"]["conflicting"] == 2 * (190 + 190 + 10)
    assert counts["train"]["total"] == 8_000 and counts["train"]["urban"] == 4_000
    assert counts["test"] == counts["validation"] == {"total": 1_000, "urban": 500, "country": 500}


def test_missing_and_empty_folders_are_named(root):
    group = root / EVEN / "val" / folder(0, 1, 0)
    for file in list(group.iterdir()):
        if not file.name.endswith("_mask.png"):
            file.unlink()
    with pytest.raises(ValueError, match=f"{group} has no images"):
        list_urbancars(root)
    for file in group.iterdir():
        file.unlink()
    group.rmdir()
    with pytest.raises(FileNotFoundError, match=f"there is no folder {group}"):
        list_urbancars(root)
