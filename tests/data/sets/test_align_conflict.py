import pytest
from image_tree import make_tree, table

from ddb_jax.data.sets.align_conflict import TREES, list_align_conflict


def test_bffhq_with_flat_validation_and_test(tmp_path):
    make_tree(
        tmp_path,
        [
            *("0.5pct/align/0/10_0_0.png", "0.5pct/align/1/11_1_1.png"),
            *("0.5pct/conflict/0/a_b_0_1.png", "0.5pct/conflict/1/13_1_0.png"),
            *("1pct/align/0/99_0_0.png", "1pct/conflict/", "0.5pct/align/0/list.txt"),
            *("valid/20_1_1.png", "valid/21_0_1.png", "test/30_0_0.png", "test/31_0_1.png"),
        ],
    )
    listing = list_align_conflict(tmp_path, name="bffhq", pct="0.5pct")
    assert listing.name == "bffhq"
    assert listing.class_names == ("young", "old") and listing.bias_names == ("female", "male")
    assert table(listing.splits["train"]) == [
        ("0.5pct/align/0/10_0_0.png", 0, 0),
        ("0.5pct/align/1/11_1_1.png", 1, 1),
        ("0.5pct/conflict/0/a_b_0_1.png", 0, 1),
        ("0.5pct/conflict/1/13_1_0.png", 1, 0),
    ]
    assert table(listing.splits["validation"]) == [
        ("valid/20_1_1.png", 1, 1),
        ("valid/21_0_1.png", 0, 1),
    ]
    assert table(listing.splits["test"]) == [("test/30_0_0.png", 0, 0), ("test/31_0_1.png", 0, 1)]
    assert listing.published_counts == {
        "train": {"total": 19_200, "aligned": 19_104, "conflicting": 96},
        "test": {"total": 1_000, "aligned": 500, "conflicting": 500},
    }
    assert listing.notes == (
        "1 file that is not an image was left out, for example 0.5pct/align/0/list.txt.",
    )


@pytest.mark.parametrize("valid", ["2pct/valid/x_3_4.png", "2pct/valid/3/x_3_4.png"])
def test_ten_classes_with_the_validation_split_of_the_share(tmp_path, valid):
    make_tree(
        tmp_path,
        [
            *(f"2pct/align/{i}/{i}_{i}_{i}.png" for i in range(10)),
            *(f"2pct/conflict/{i}/9{i}_{i}_{9 - i}.png" for i in range(10)),
            *(valid, "valid/ignored_0_0.png", "test/7/1_7_2.png"),
        ],
    )
    for name in ("cmnist", "ccifar10"):
        listing = list_align_conflict(tmp_path, name=name, pct="2pct")
        assert table(listing.splits["validation"]) == [(valid, 3, 4)]
        assert table(listing.splits["test"]) == [("test/7/1_7_2.png", 7, 2)]
        train = listing.splits["train"]
        assert train.labels.tolist() == [*range(10)] * 2
        assert train.bias.tolist() == [*range(10), *range(9, -1, -1)]
        assert len(listing.class_names) == len(listing.bias_names) == 10
    assert listing.class_names[6] == "frog" and listing.bias_names[6] == "frosted glass blur"
    assert listing.published_counts["train"] == {
        "total": 45_032,
        "aligned": 44_145,
        "conflicting": 887,
    }


def test_published_counts_are_those_that_are_known(tmp_path):
    make_tree(tmp_path, ["test/1_0_0.jpg"])
    for pct in ("5pct", "3pct"):
        make_tree(tmp_path, [f"{pct}/align/0/1_0_0.jpg", f"{pct}/conflict/1/1_1_0.jpg"])
    known = list_align_conflict(tmp_path, name="dogs_and_cats", pct="5pct")
    assert "validation" not in known.splits
    assert known.published_counts["train"] == {
        "total": 8_489,
        "aligned": 8_037,
        "conflicting": 452,
    }
    assert known.published_counts["test"] == {"total": 1_000}
    unsure = list_align_conflict(tmp_path, name="bffhq", pct="5pct")
    assert unsure.published_counts["train"] == {"conflicting": 960}
    own = list_align_conflict(tmp_path, name="bffhq", pct="3pct")
    assert "train" not in own.published_counts


def test_published_sizes_add_up():
    # CMNIST: 55,000 training images of MNIST at every share, 10,000 test images.
    cmnist = TREES["cmnist"]
    assert {sum(counts) for counts in cmnist.train.values()} == {55_000}
    assert sum(cmnist.test) == sum(TREES["ccifar10"].test) == 10_000


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("1pct/align/0/5_0_1.png", r"5_0_1\.png lies in 1pct/align/, but .* label 0 and bias 1"),
        ("1pct/conflict/1/5_1_1.png", "lies in 1pct/conflict/, but .* label 1 and bias 1"),
        ("1pct/align/1/5_0_0.png", "lies in the folder of label 1, but its name says label 0"),
        ("1pct/align/0/5.png", r"5\.png is not named <id>_<label>_<bias>"),
        ("1pct/align/0/5_x_0.png", "is not named <id>_<label>_<bias>"),
        ("valid/5_2_0.png", "says label 2, which is not 0 to 1"),
        ("test/5_0_7.png", "says bias 7, which is not 0 to 1"),
    ],
)
def test_files_that_do_not_belong_are_named(tmp_path, path, message):
    make_tree(tmp_path, ["1pct/align/0/1_0_0.png", "1pct/conflict/1/2_1_0.png"])
    make_tree(tmp_path, ["test/3_0_0.png", path])
    with pytest.raises(ValueError, match=message) as error:
        list_align_conflict(tmp_path, name="bffhq", pct="1pct")
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_missing_parts_are_named(tmp_path):
    def listed(name="bffhq", pct="1pct"):
        return list_align_conflict(tmp_path, name=name, pct=pct)

    with pytest.raises(ValueError, match="no align/conflict tree 'celeba', there is cmnist"):
        listed(name="celeba")
    with pytest.raises(FileNotFoundError, match=r"pct is '1pct' and .* has no such folder at all"):
        listed()
    make_tree(tmp_path, ["1pct/align/0/1_0_0.png", "5pct/"])
    with pytest.raises(FileNotFoundError, match=r"pct is '0\.5pct' and .* has 1pct, 5pct"):
        listed(pct="0.5pct")
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*test"):
        listed()
    make_tree(tmp_path, ["test/"])
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*1pct/conflict"):
        listed()
    make_tree(tmp_path, ["1pct/conflict/0/2_0_1.png"])
    with pytest.raises(ValueError, match="has no test image of bffhq"):
        listed()
    make_tree(tmp_path, ["test/1_0_0.png"])
    with pytest.raises(ValueError, match="no training image of class old"):
        listed()
