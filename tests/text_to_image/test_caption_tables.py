"""Caption tables as people have them: swallowed rows, missing captions, columns of another kind."""

import pytest

from ddb_jax.checks.config import check_config, load_config
from ddb_jax.runtime.errors import UserError
from ddb_jax.text_to_image.captions import check_captions, read_captions, read_image_captions

CLASSES, PATHS, LABELS = ("ball", "box"), ("a.png", "b.png", "k\u00fch.png"), (0, 1, 0)


@pytest.fixture
def table(tmp_path):
    def write(text):
        path = tmp_path / "captions.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def read(path):
    return read_captions(path, CLASSES, PATHS, LABELS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('path,caption\na.png,"red\nb.png,blue\na.png,green"\n', "line 2 .* like line 3, 4: close"),
        (
            'label,generated_text\nball,"red\nbox,blue\nbox,x"\nbox,y\n',
            "line 2 .* looks like line 3, 4",
        ),
        (
            'path,caption\na.png,"red\nb.png,blue\n',
            "lines 2 to 3 of .* a quotation mark that opens",
        ),
        ("path,caption,Caption\na.png,x,y\n", "more than one column 'caption'"),
        ("path;caption\na.png;x\n", "by commas instead of semicolons"),
        ("label,generated_text\nnan,x\n", "1 rows whose label is not a class .* line 2: 'nan'"),
        (",\nball,x\n", "no column label or generated_text, its first line is"),
        ("path,caption\na.png,nan\nb.png,NULL\n", "has no caption, all are empty: fill them in"),
    ],
)
def test_tables_are_refused_with_the_line(table, text, words):
    with pytest.raises(ValueError, match=words) as error:
        read(table(text))
    assert "\n" not in str(error.value)


def test_missing_captions_are_left_out_and_counted(table):
    found = read(table("path,caption\na.png,nan\nb.png,a box\na.png, None \na.png,-\nb.png,\n"))
    assert found.texts == ("a box",) and found.images.tolist() == [1]
    assert found.notes == ("captions.csv: 4 empty captions are left out (3 of them: '-', 'nan',"
                           " 'none').",)  # fmt: skip


def test_captions_of_several_lines_and_inch_marks_are_captions(table):
    path = table('label,generated_text\nball,"a man,\nsmiling, with hat"\nbox,a 5" box\n')
    assert read(path).texts == ("a man, smiling, with hat", 'a 5" box')


def test_spellings_of_paths_and_labels(table):
    assert read(table("path,caption\nku\u0308h.png,x\n")).images.tolist() == [2]
    path = table("label,generated_text\n1.0,x\nball\u00a0,y\n0,z\n")
    assert read(path).labels.tolist() == [1, 0, 0]


def test_captions_that_do_not_say_their_image(table):
    path = table("label,generated_text\nball,a ball\n")
    with pytest.raises(ValueError, match="which do not say what image a caption is of, and no col"):
        read_image_captions(path)
    check_captions(path, of_images=False)
    check_captions(table("path,caption\nz.png,x\n"), of_images=False)  # whatever the images are
    with pytest.raises(ValueError, match="no column caption, its first line is 'path,text'"):
        check_captions(table("path,text\nz.png,x\n"), of_images=False)


def test_columns_are_looked_at_before_anything_runs(table):
    pytest.importorskip("tokenizers")
    path = table("label,generated_text\nball,a ball\n")
    shared = ["--config.methods=diffubias", f"--config.captioned.csv={path}"]
    config = load_config("configs/digits_diffubias.py:smoke", shared)
    with pytest.raises(UserError, match=r"config\.captioned\.csv: .* do not say what image"):
        check_config(config)
    path = table("name,words\nball,a ball\n")
    given = [f"--config.captions.csv={path}", "--config.captions.source=csv", *shared[:1]]
    config = load_config("configs/digits_diffubias.py:smoke", given)
    with pytest.raises(UserError, match=r"config\.captions\.csv: .* has no column label or gen"):
        check_config(config)
