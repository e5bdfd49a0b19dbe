from pathlib import Path

import pytest
from image_tree import make_tree, table

from ddb_jax.data.sets.csv_table import list_csv


def write(tmp_path, text, encoding="utf-8"):
    """The CSV file, and an empty image for every path in its first column that ends in .png."""
    lines = [line.split(",")[0] for line in text.split("\n")]
    make_tree(tmp_path, (path for path in lines if path.endswith(".png")))
    path = tmp_path / "images.csv"
    path.write_text(text, encoding=encoding)
    return path


def test_names_splits_and_any_order_of_rows_and_columns(tmp_path):
    path = write(
        tmp_path,
        "Path, SPLIT ,label,camera\n"
        "z.png,train,dog,7\nsub/b.png,Val,cat,7\na.png,train,cat,7\n\n"
        "c.png,validation,dog,7\nd.png,valid,dog,7\n e.png ,TEST, cat,7\n",
    )
    make_tree(tmp_path, ["e.png"])
    listing = list_csv(path, name="pets")
    assert listing.name == "pets" and listing.root == tmp_path
    assert listing.class_names == ("cat", "dog")
    assert table(listing.splits["train"]) == [("a.png", 0, -1), ("z.png", 1, -1)]
    assert table(listing.splits["validation"]) == [
        ("c.png", 1, -1),
        ("d.png", 1, -1),
        ("sub/b.png", 0, -1),
    ]
    assert table(listing.splits["test"]) == [("e.png", 0, -1)]
    assert listing.bias_names == () and listing.notes == ()


def test_without_a_split_column_all_is_train(tmp_path):
    # Spreadsheets write a byte order mark.
    listing = list_csv(write(tmp_path, "path,label\nb.png,1\na.png,0\n", "utf-8-sig"))
    assert list(listing.splits) == ["train"] and listing.class_names == ("0", "1")
    assert table(listing.splits["train"]) == [("a.png", 0, -1), ("b.png", 1, -1)]


def test_integer_labels_keep_their_numbers(tmp_path):
    rows = "\n".join(f"{i}.png,{i}" for i in range(12))
    listing = list_csv(write(tmp_path, f"path,label\n{rows}\n"))
    assert listing.class_names == tuple(str(i) for i in range(12))
    assert ("10.png", 10, -1) in table(listing.splits["train"])


def test_a_mixture_of_names_and_numbers_is_names(tmp_path):
    listing = list_csv(write(tmp_path, "path,label\na.png,cat\nb.png,7\n"))
    assert listing.class_names == ("7", "cat")
    assert listing.splits["train"].labels.tolist() == [1, 0]


def test_bias_named_by_classes(tmp_path):
    text = "path,label,bias\na.png,cat,dog\nb.png,dog,dog\nc.png,cat,\nd.png,bird,-1\n"
    listing = list_csv(write(tmp_path, text))
    assert listing.bias_names == listing.class_names == ("bird", "cat", "dog")
    assert listing.splits["train"].bias.tolist() == [2, 2, -1, -1]
    assert "1 of 4 bias values" in listing.notes[0] and "unknown: '-1' (1)" in listing.notes[0]
    assert "names the class" in listing.notes[1]


def test_bias_numbered_like_the_labels(tmp_path):
    text = "path,label,bias\na.png,0,1\nb.png,1,1\nc.png,0,\nd.png,0,3\n"
    listing = list_csv(write(tmp_path, text))
    assert listing.splits["train"].bias.tolist() == [1, 1, -1, 3]
    assert listing.bias_names == ("0", "1", "2", "3")


def test_bias_with_names_of_its_own_goes_with_the_most_frequent_class(tmp_path):
    # In train, cow is on grass twice and on sand once; camel on sand. The test rows, where it is
    # the other way round, do not count. Snow goes with no class and comes last.
    text = (
        "path,label,split,bias\n"
        "1.png,cow,train,grass\n2.png,cow,train,grass\n3.png,cow,train,sand\n"
        "4.png,camel,train,sand\n5.png,camel,train,\n6.png,cow,train,snow\n"
        "7.png,camel,test,grass\n8.png,camel,test,grass\n9.png,camel,test,grass\n"
    )
    listing = list_csv(write(tmp_path, text))
    assert listing.class_names == ("camel", "cow")
    assert listing.bias_names == ("sand", "grass", "snow")
    assert listing.splits["train"].labels.tolist() == [1, 1, 1, 0, 0, 1]
    assert listing.splits["train"].bias.tolist() == [1, 1, 0, 0, -1, 2]
    assert listing.splits["test"].bias.tolist() == [1, 1, 1]
    assert "sand with camel, grass with cow" in listing.notes[0]


@pytest.mark.parametrize(
    "rows",
    [
        "1.png,cow,grass\n2.png,camel,grass\n3.png,camel,grass\n4.png,camel,sand",  # both grass
        "1.png,cow,grass\n2.png,camel,grass\n3.png,camel,sand",  # a tie
        "1.png,cow,grass\n2.png,camel,",  # nothing known
    ],
)
def test_bias_that_cannot_be_paired_is_refused(tmp_path, rows):
    path = write(tmp_path, f"path,label,bias\n{rows}\n")
    with pytest.raises(ValueError, match=r"cannot be paired with the classes.* write into it the"):
        list_csv(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column path or label"),
        ("path;label\na.png;0\n", "no column path or label, its first line is 'path;label'"),
        ("path,class\na.png,0\n", "has no column label"),
        ("path,label\n", "has no rows"),
        ("path,label\na.png,0,1\n", "line 2 .* has 3 fields and the first line 2"),
        ("path,label\na.png,0\nb.png,\n", "line 3 .* has no label"),
        ("path,label\na.png,0\na.png,1\n", "line 3 .* repeats a.png of line 2"),
        ("path,label\na.png,0\nb.png,2\n", "2 integers from 0 to 2: number the classes 0 to 1"),
        ("path,label\na.png,1\nb.png,2\n", "2 integers from 1 to 2"),
        ("path,label\na.png,x\nb.png,x\n", "one class only, x"),
        ("path,label,split\na.png,0,train\nb.png,1,dev\n", "line 3 .* has split 'dev'"),
        ("path,label,split\na.png,0,test\nb.png,1,test\n", "no row whose split is train"),
        (
            "path,label,split\na.png,x,train\nb.png,y,train\nc.png,z,test\n",
            "test split of .* has class z, which train lacks",
        ),
        ("path,label,bias\na.png,0,0\nb.png,1,-2\n", "negative bias"),
    ],
)
def test_bad_tables_are_refused_in_one_sentence(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match=message) as error:
        list_csv(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_missing_files_are_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*absent\.csv"):
        list_csv(tmp_path / "absent.csv")
    with pytest.raises(ValueError, match="is a folder: give the CSV file"):
        list_csv(tmp_path)
    path = write(tmp_path, "path,label\na.png,0\nsub\\b.jpg,1\n")
    with pytest.raises(FileNotFoundError, match=r"line 3 of .* names sub\\b\.jpg, which is not a"):
        list_csv(path)

    def refuse(*args, **kwargs):
        raise PermissionError

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ValueError, match="cannot be read, permission is denied"):
        list_csv(path)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "images.csv"
    path.write_bytes(b"path,label\n\xe9.png,0\n")
    with pytest.raises(ValueError, match="not a CSV file in UTF-8"):
        list_csv(path)
