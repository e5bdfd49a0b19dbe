"""CSV files that people have, from the file to the listing."""

import unicodedata

import pytest
from image_tree import make_tree, table

from ddb_jax.data.sets.csv_table import list_csv
from ddb_jax.data.sets.waterbirds import list_waterbirds


def write(tmp_path, header, rows):
    """A CSV file of 1.png, 2.png, ... and these other columns."""
    make_tree(tmp_path, [f"{i}.png" for i in range(1, len(rows) + 1)])
    path = tmp_path / "data.csv"
    lines = [f"{i}.png,{row}" for i, row in enumerate(rows, 1)]
    path.write_text("\n".join([f"path,{header}", *lines]) + "\n", encoding="utf-8")
    return path


def test_celeba(tmp_path):
    rows = ["0,-1", "1,1", "0,-1", "1,1", "0,1", "1,-1"]
    listing = list_csv(write(tmp_path, "label,bias", rows))
    assert listing.splits["train"].bias.tolist() == [0, 1, 0, 1, 1, 0]
    assert listing.bias_names == ("-1", "1")
    names = [row.replace("0,", "dark,").replace("1,", "blond,", row[0] == "1") for row in rows]
    listing = list_csv(write(tmp_path, "label,bias", names))
    assert listing.class_names == ("blond", "dark") and listing.bias_names == ("1", "-1")
    assert listing.splits["train"].bias.tolist() == [1, 0, 1, 0, 0, 1]


def test_labels_of_two_files_put_together(tmp_path):
    listing = list_csv(write(tmp_path, "label", ["0.0", "1.0", "0", "1"]))
    assert listing.class_names == ("0", "1")
    assert table(listing.splits["train"]) == [
        ("1.png", 0, -1),
        ("2.png", 1, -1),
        ("3.png", 0, -1),
        ("4.png", 1, -1),
    ]


def test_a_space_after_every_comma(tmp_path):
    rows = [' "cat", "train"', ' "dog", train', ' "cat" , "val"', ' "dog", "val"']
    listing = list_csv(write(tmp_path, " label, split", rows))
    assert listing.class_names == ("cat", "dog")
    assert table(listing.splits["validation"]) == [("3.png", 0, -1), ("4.png", 1, -1)]


def test_a_table_from_linux_with_pictures_from_a_mac(tmp_path):
    files = [unicodedata.normalize("NFD", f"k\u00fche/{i}.png") for i in range(4)]
    make_tree(tmp_path, files)
    path = tmp_path / "data.csv"
    names = [unicodedata.normalize("NFC", file) for file in files]
    rows = [f"{name},{('cat', 'dog')[i % 2]}" for i, name in enumerate(names)]
    path.write_text("path,label\n" + "\n".join(rows), encoding="utf-8")
    listing = list_csv(path)
    assert table(listing.splits["train"]) == [(f, i % 2, -1) for i, f in enumerate(files)]
    assert names[0] != files[0]


@pytest.mark.parametrize(
    ("header", "rows", "words"),
    [
        (
            "label",
            ["cat", "dog", "nan", "cat", "None"],
            "line 4 .* no label but 'nan', .*like 1 more .line 6",
        ),
        ("label", ["cat", "dog", "Cat", "dog"], r"'Cat' \(line 4\) and 'cat' \(line 2\)"),
        ("label", ["cat", '"dog', "cat", "dog"], "lines 3 to 5 of .* a quotation mark that opens"),
        ("label", ["cat", '"dog', "cat", 'dog"'], "line 3 .* goes on to line 5 .* line 4, 5"),
        ("label,label", ["cat,dog", "dog,dog"], "line 1 of .* more than one column 'label'"),
        ("label,bias", ["0,-1", "1,0", "0,-1"], "holds only -1 and 0, and -1 may be a value"),
        ("split,label", ["train,cat", "nan,dog"], "line 3 .* has split 'nan': it must be train"),
    ],
)
def test_what_is_refused(tmp_path, header, rows, words):
    path = write(tmp_path, header, rows)
    with pytest.raises(ValueError, match=words) as error:
        list_csv(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_waterbirds_is_read_as_strictly(tmp_path):
    make_tree(tmp_path, ["a.jpg", "b.jpg"])
    (tmp_path / "metadata.csv").write_text("img_filename,y,place,split\na.jpg,0,0,0\n./a.jpg,1,0,0")
    with pytest.raises(ValueError, match=r"line 3 of .* repeats \./a\.jpg, which is the file a"):
        list_waterbirds(tmp_path)
    (tmp_path / "metadata.csv").write_text('img_filename,y,place,split\n"a.jpg,0,0,0\nb.jpg,1,0,0')
    with pytest.raises(ValueError, match=r"lines 2 to 3 of .* a quotation mark that opens a field"):
        list_waterbirds(tmp_path)
