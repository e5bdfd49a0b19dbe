import pytest
from image_tree import make_tree, table

from ddb_jax.data.sets.imagenet9 import LABELS, list_imagenet9

# Numbers in ImageNet of the classes that ReBias takes, by label.
NUMBERS = (
    (151, 207, 234, 235, 254),
    range(281, 286),
    range(30, 33),
    range(33, 38),
    (89, 90, 94, 96, 97),
    (372, 373, 374, 375, 378),
    range(393, 398),
    range(118, 122),
    range(306, 311),
)


def make_imagenet(root, splits=("train", "val")):
    paths = [f"{split}/{wnid}/{wnid}_1.JPEG" for split in splits for wnid in LABELS]
    return make_tree(root, [*paths, "train/n01440764/tench.JPEG"])


def test_42_classes_in_the_order_of_imagenet_numbers():
    # ImageNet numbers its classes by sorted WordNet id, so both ways of picking must give the same
    # sequence of labels.
    by_number = sorted((n, label) for label, numbers in enumerate(NUMBERS) for n in numbers)
    assert [label for _, label in by_number] == [LABELS[wnid] for wnid in sorted(LABELS)]
    assert len(LABELS) == 42


def test_train_and_validation_from_imagenet_and_test_from_imagenet_a(tmp_path):
    imagenet = make_imagenet(tmp_path / "in")
    # A parrot, a bee, a bullfrog, and a stingray, which is none of the 42.
    ids = ("n01820546", "n02206856", "n01641577", "n01498041")
    imagenet_a = make_tree(tmp_path / "in-a", [f"{wnid}/x.jpg" for wnid in ids])
    listing = list_imagenet9(imagenet, imagenet_a)
    assert listing.name == "imagenet9" and listing.root == tmp_path
    names = ("dog", "cat", "frog", "turtle", "bird", "monkey", "fish", "crab", "insect")
    assert listing.class_names == names and listing.bias_names == ()
    train = table(listing.splits["train"])
    assert len(train) == len(listing.splits["validation"].paths) == 42
    assert train[0] == ("in/train/n01641577/n01641577_1.JPEG", 2, -1)
    assert ("in/train/n02106662/n02106662_1.JPEG", 0, -1) in train  # German shepherd
    assert table(listing.splits["test"]) == [
        ("in-a/n01641577/x.jpg", 2, -1),
        ("in-a/n01820546/x.jpg", 4, -1),
        ("in-a/n02206856/x.jpg", 8, -1),
    ]
    assert all((listing.root / path).is_file() for path in listing.splits["test"].paths)
    assert listing.notes == (
        "The folder of ImageNet-A has 3 of the 42 folders of ImageNet-9, and no image of class dog,"
        " cat, turtle, monkey, fish, crab.",
    )
    # 50 validation images of each of the 42 classes.
    published = listing.published_counts["validation"]
    assert published["total"] == 2_100 and published["crab"] == 200 and published["dog"] == 250


def test_validation_may_be_missing(tmp_path):
    imagenet = make_imagenet(tmp_path / "in", ("train",))
    imagenet_a = make_tree(tmp_path / "in" / "a", ["n01820546/x.jpg"])
    listing = list_imagenet9(imagenet, imagenet_a)
    assert sorted(listing.splits) == ["test", "train"] and not listing.published_counts


def test_bad_folders_are_refused(tmp_path):
    imagenet, imagenet_a = tmp_path / "in", tmp_path / "a"
    with pytest.raises(FileNotFoundError, match=f"there is no folder {imagenet}"):
        list_imagenet9(imagenet, imagenet_a)
    make_tree(imagenet, ["train/n01641577/1.JPEG", "val/ILSVRC2012_val_00000001.JPEG"])
    with pytest.raises(FileNotFoundError, match=r"train has 1 of the 42 folders .* n01644373"):
        list_imagenet9(imagenet, imagenet_a)
    make_imagenet(imagenet, ("train",))
    with pytest.raises(FileNotFoundError, match=r"val has 0 of the 42 folders .*: sort ImageNet's"):
        list_imagenet9(imagenet, imagenet_a)
    make_imagenet(imagenet)
    with pytest.raises(FileNotFoundError, match=f"there is no folder {imagenet_a}"):
        list_imagenet9(imagenet, imagenet_a)
    make_tree(imagenet_a, ["n01498041/x.jpg"])
    with pytest.raises(ValueError, match="none of the 42 folders of ImageNet-9"):
        list_imagenet9(imagenet, imagenet_a)
    make_tree(imagenet_a, ["n01820546/"])
    with pytest.raises(ValueError, match="n01820546 has no images"):
        list_imagenet9(imagenet, imagenet_a)
