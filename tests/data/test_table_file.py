"""The reader of tables: what it refuses, with the line and what to do."""

import os
import unicodedata

import pytest
from image_tree import make_tree

from ddb_jax.data.table_file import find_file, image_files, read_table

ROWS = [f"{i}.png,{('cat', 'dog')[i % 2]}" for i in range(6)]


@pytest.fixture
def refused(tmp_path):
    """The sentence for a file of this content."""

    def read(content, columns=("path", "label"), optional=()):
        path = tmp_path / "images.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(ValueError) as error:
            read_table(path, columns, optional)
        assert "\n" not in str(error.value) and str(path) in str(error.value)
        return str(error.value).replace(str(path), "FILE")

    return read


def rows_of(tmp_path, content, columns=("path", "label"), optional=()):
    path = tmp_path / "images.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, columns, optional)


def quoted(line, before, after):
    rows = list(ROWS)
    rows[line - 2] = rows[line - 2].replace(before, after)
    return "path,label\n" + "\n".join(rows) + "\n"


def test_unclosed_quotation_marks(refused):
    assert refused(quoted(4, "cat", '"cat')).startswith(
        "lines 4 to 7 of FILE: a quotation mark that opens a field of line 4 is not closed"
    )
    # The one that is not closed meets the next row's.
    both = quoted(3, "dog", '"dog').replace("3.png,dog", '3.png,"dog"')
    assert refused(both).startswith("lines 3 to 5 of FILE: a quotation mark that opens a field of")
    assert refused(quoted(5, "dog", '"dog"s')).startswith("line 5 of FILE: a quotation mark")
    huge = 'path,label\n0.png,"' + "x" * 200_000 + "\n"
    assert refused(huge).startswith("line 2 of FILE: a quotation mark")


def test_two_quotation_marks_that_swallow_rows(refused):
    text = quoted(3, "dog", '"dog').replace("4.png,cat", '4.png,cat"')
    assert refused(text) == (
        "line 3 of FILE has a quoted 'label' that goes on to line 6 and holds what looks like line"
        " 4, 5, 6: close the quotation mark in line 3, or remove it and its partner."
    )
    assert "a quoted 'label' that goes on to line 4:" in refused(quoted(3, "dog", '"big\ndog"'))
    # In a column that nobody reads, rows are swallowed all the same.
    noted = 'path,label,note\n0.png,cat,"a\n1.png,dog,b\n2.png,cat,c"\n3.png,dog,d\n'
    assert "a quoted 'note' that goes on to line 4 and holds what looks like line 3, 4" in refused(
        noted
    )


def test_marks_and_line_breaks_that_are_meant(tmp_path):
    text = (
        'path, "label" ,note\r\n0.png, "cat" ,"a, ""b""\r\nc, d"\r\n1.png,5" dog , \r\n\r\n'
        "\u00a02.png\u00a0,\ufeffcat,x"
    )
    assert rows_of(tmp_path, text) == [
        (2, {"path": "0.png", "label": "cat", "note": 'a, "b"\r\nc, d'}),
        (4, {"path": "1.png", "label": '5" dog', "note": ""}),
        (6, {"path": "2.png", "label": "cat", "note": "x"}),
    ]


def test_headers(refused, tmp_path):
    assert refused("path,label,Label \n") == (
        "line 1 of FILE has more than one column 'label' (upper and lower case are the same):"
        " rename or remove all but one."
    )
    assert refused("path;label\n0.png;cat\n").endswith("by commas instead of semicolons.")
    assert refused("path\tlabel\n0.png\tcat\n").endswith("by commas instead of tabs.")
    assert refused("path|label\n0.png|cat\n").endswith("by commas instead of bars.")
    assert refused("path;loss\n0.png;1,5\n", ()) == (
        "FILE has one column, its first line is 'path;loss': separate the columns by commas instead"
        " of semicolons."
    )
    for mark in (";", ",", "\t", "|"):
        assert refused(f"sep={mark}\npath{mark}label\n").startswith(
            "line 1 of FILE is Excel's 'sep"
        )
    assert "has no column label, its first line is 'path,class'" in refused("path,class\na,b\n")
    assert "has no column path or label, its first line is ','" in refused(",\n0.png,cat\n")
    assert "has no rows" in refused("path,label\n , \n")
    # Unnamed columns, as pandas writes its index, are not read; full-width letters are letters.
    table = rows_of(tmp_path, "\n,Path,\uff4c\uff41\uff42\uff45\uff4c,\n0,a,b,\n")
    assert [(line, row["path"], row["label"]) for line, row in table] == [(3, "a", "b")]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\x03\x04rest", "an Excel workbook or another zip file: save it as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook: save it as CSV"),
        (b"\x1f\x8b\x08", "a gzip file: unpack it"),
        (b"PAR1\x15\x04", "a parquet file"),
        (b"SQLite format 3\x00", "a database"),
        (b"%PDF-1.7", "a PDF file"),
        (b"\x89PNG\r\n", "an image: give the table"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "a git-lfs pointer and not the file: run",
        ),
        (b"\n <!DOCTYPE html>", "a web page or XML: download the file itself"),
        (b"\xef\xbb\xbf<html>", "a web page or XML"),
        ("path,label\n".encode("utf-16"), "in UTF-16: save it as CSV"),
        ("path,label\n".encode("utf-32"), "in UTF-32: save it as CSV"),
        ("path,label\n".encode("utf-16-le"), "line 1 of FILE has a zero byte"),
        (b"path,label\na,b\n\x00\x00", "line 3 of FILE has a zero byte"),
        (
            "path,label\na,b\nc,K\u00fche\n".encode("cp1252"),
            "line 3 of FILE is not a CSV file in U",
        ),
    ],
)
def test_files_that_are_no_tables_are_called_what_they_are(refused, content, words):
    assert words in refused(content)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_and_byte_order_mark(tmp_path, end):
    table = rows_of(tmp_path, f"\ufeffpath,label{end}a,b{end}c,d{end}")
    assert table == [(2, {"path": "a", "label": "b"}), (3, {"path": "c", "label": "d"})]


def nfd(text):
    return unicodedata.normalize("NFD", text)


def test_files_are_found_under_their_own_form(tmp_path):
    inside = nfd("K\u00fche") + "/a \u00fc.png"  # a folder decomposed, a file composed
    make_tree(tmp_path, [inside, "plain.png", "\u00e9.png", nfd("\u00e9.png")])
    listed = {}
    assert find_file(tmp_path, "K\u00fche/a \u00fc.png", listed) == inside
    assert find_file(tmp_path, nfd("K\u00fche/a \u00fc.png"), listed) == inside
    assert find_file(tmp_path, nfd("./K\u00fche/../plain.png"), listed) is not None
    # Where both forms are there, each is itself.
    assert find_file(tmp_path, "\u00e9.png", listed) == "\u00e9.png"
    assert find_file(tmp_path, nfd("\u00e9.png"), listed) == nfd("\u00e9.png")
    for absent in (
        "\u00e0.png",
        "K\u00fche",
        "K\u00fche/b.png",
        "x" * 5000 + "\u00fc",
        "a\0\u00fc",
    ):
        assert find_file(tmp_path, absent, listed) is None


def test_one_file_twice_is_named_with_both_lines(tmp_path):
    make_tree(tmp_path, ["a/0.png", "k\u00fch.png"])
    path = tmp_path / "images.csv"

    def files(*names):
        return image_files(path, [(i + 2, {"path": n}) for i, n in enumerate(names)], "path")

    assert files("./a/0.png", nfd("k\u00fch.png")) == ["./a/0.png", "k\u00fch.png"]
    for again in ("./a/0.png", "a//0.png", "a/../a/0.png", os.fspath(tmp_path / "a/0.png")):
        with pytest.raises(ValueError, match=r"line 3 of .* repeats .*, which is the file a/0.png"):
            files("a/0.png", again)
    with pytest.raises(ValueError, match=r"line 4 of .* of line 3: remove one"):
        files("a/0.png", "k\u00fch.png", nfd("k\u00fch.png"))
    with pytest.raises(FileNotFoundError, match=r"line 3 of .* names x+, which is not a file in"):
        files("a/0.png", "x" * 5000)
    with pytest.raises(ValueError, match=r"line 3 of .* has no path: fill it in or remove it"):
        files("a/0.png", "")
