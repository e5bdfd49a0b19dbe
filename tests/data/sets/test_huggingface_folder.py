"""Image folders with metadata.csv, as Hugging Face has them, and the names of splits."""

import pytest
from huggingface_folder import COLUMNS, refused, write_folder
from image_tree import make_tree, table

from ddb_jax.data.sets.huggingface import open_huggingface
from ddb_jax.data.sets.huggingface_layout import split_roles


def test_image_folder_with_metadata(tmp_path):
    write_folder(tmp_path)
    found = open_huggingface(tmp_path, **COLUMNS)
    assert found.open_image is None and found.content_key == ""
    assert found.listing.class_names == ("camel", "cow")
    assert table(found.listing.splits["test"]) == [
        ("test/images/0.png", 0, 1),
        ("test/images/1.png", 1, 0),
    ]
    assert found.listing.bias_names == ("land", "sea")
    assert found.listing.splits["train"].bias.tolist() == [1, 0, 1, 0, -1]


def test_one_metadata_file_and_its_column_split(tmp_path):
    make_tree(tmp_path, [f"{i}.png" for i in range(4)])
    (tmp_path / "metadata.csv").write_text(
        "file_name,Label,split\n0.png,a,train\n1.png,b,train\n2.png,a,extra\n3.png,b,Test\n"
    )
    listing = open_huggingface(tmp_path, label_column="Label").listing
    assert table(listing.splits["train"]) == [("0.png", 0, -1), ("1.png", 1, -1)]
    assert table(listing.splits["test"]) == [("3.png", 1, -1)]
    assert listing.notes == (f"1 other split of {tmp_path} are not read.",)
    listing = open_huggingface(tmp_path, ("train", "Test", "extra"), label_column="label").listing
    assert table(listing.splits["test"]) == [("2.png", 0, -1)]
    assert "no column animal" in refused(tmp_path, label_column="animal")
    (tmp_path / "2.png").unlink()
    assert "line 4 of" in refused(tmp_path) and "names 2.png, which is not a" in refused(tmp_path)


@pytest.mark.parametrize(
    ("found", "asked", "sentence"),
    [
        (["a", "b"], ("", "", ""), "no training split, there is a, b"),
        (["train", "val", "dev"], ("", "", ""), "several splits that look like validation"),
        (["train", "test"], ("train", "test", "test"), "one split cannot be two of"),
        (["train"], ("Train", "", ""), "no split 'Train', there is train"),
    ],
)
def test_splits_that_are_not_clear(tmp_path, found, asked, sentence):
    with pytest.raises(ValueError, match=sentence):
        split_roles(tmp_path, found, asked)


def test_the_usual_names_of_splits(tmp_path):
    assert split_roles(tmp_path, ["Training", "dev", "extra", "Testing"], ("", "", "")) == {
        "train": "Training",
        "validation": "dev",
        "test": "Testing",
    }
