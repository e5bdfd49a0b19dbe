import pytest
from image_tree import make_tree, refuse_folder, table

from ddb_jax.data.images.files import find_images
from ddb_jax.data.listing import complete_splits
from ddb_jax.data.sets.image_folder import list_folder


def test_classes_at_the_top_are_all_train(tmp_path):
    make_tree(tmp_path, ["dog/b.PNG", "dog/a.jpg", "cat/z.jpeg", "cat/y.webp", "cat/x.bmp"])
    listing = list_folder(tmp_path, name="pets")
    assert listing.name == "pets" and listing.root == tmp_path
    assert listing.class_names == ("cat", "dog") and listing.bias_names == ()
    assert list(listing.splits) == ["train"] and listing.notes == ()
    assert table(listing.splits["train"]) == [
        ("cat/x.bmp", 0, -1),
        ("cat/y.webp", 0, -1),
        ("cat/z.jpeg", 0, -1),
        ("dog/a.jpg", 1, -1),
        ("dog/b.PNG", 1, -1),
    ]


@pytest.mark.parametrize("validation", ["val", "valid", "validation"])
def test_split_folders_in_any_case_of_letters(tmp_path, validation):
    make_tree(
        tmp_path,
        [
            *("Train/a/1.png", "Train/b/2.png", "TEST/b/5.png", "TEST/a/6.png"),
            *(f"{validation}/a/3.png", f"{validation}/b/4.png"),
        ],
    )
    splits = list_folder(tmp_path).splits
    assert table(splits["train"]) == [("Train/a/1.png", 0, -1), ("Train/b/2.png", 1, -1)]
    assert table(splits["validation"]) == [
        (f"{validation}/a/3.png", 0, -1),
        (f"{validation}/b/4.png", 1, -1),
    ]
    assert table(splits["test"]) == [("TEST/a/6.png", 0, -1), ("TEST/b/5.png", 1, -1)]


def test_missing_splits_are_drawn_by_class_and_said(tmp_path):
    make_tree(tmp_path, [f"{c}/{i}.png" for c in "ab" for i in range(20)])
    listing = complete_splits(list_folder(tmp_path), 0.25, 0.2, seed=0)
    sizes = {split: len(files.paths) for split, files in listing.splits.items()}
    assert sizes == {"train": 24, "test": 8, "validation": 8}  # 40, less a fifth, less a quarter
    assert all(sum(files.labels) * 2 == len(files.labels) for files in listing.splits.values())
    assert len({p for files in listing.splits.values() for p in files.paths}) == 40
    assert len(listing.notes) == 2 and "seed 0" in listing.notes[0]


def test_numbered_classes_are_in_the_order_of_their_numbers(tmp_path):
    make_tree(tmp_path, [f"{i}/x.png" for i in range(12)])
    listing = list_folder(tmp_path)
    assert listing.class_names == tuple(str(i) for i in range(12))
    assert dict((p, n) for p, n, _ in table(listing.splits["train"]))["10/x.png"] == 10


def test_what_is_left_out_or_taken_in_is_said(tmp_path):
    make_tree(
        tmp_path,
        [
            *("train/a/1.png", "train/a/deep/er/2.png", "train/b/3.png", "train/b/readme.txt"),
            *("train/loose.png", "train/Thumbs.db", "train/c/7.png", "test/a/4.png"),
            *("train/.hidden/6.png", "train/a/._1.png", "test/b/5.png", "extra/a/8.png"),
            "__MACOSX/train/a/1.png",
        ],
    )
    listing = list_folder(tmp_path)
    assert [path for path, _, _ in table(listing.splits["train"])] == [
        "train/a/1.png",
        "train/a/deep/er/2.png",
        "train/b/3.png",
        "train/c/7.png",
    ]
    assert listing.splits["train"].labels.tolist() == [0, 0, 1, 2]
    text = "\n".join(listing.notes)
    assert "1 file that is not an image was left out, for example train/b/readme.txt." in text
    assert "were left out: 3, for example train/.hidden." in text
    warnings = "\n".join(listing.warnings)
    assert "no class folder were left out: 1, for example train/loose.png." in warnings
    assert "count as that class: 1, for example train/a/deep/er/2.png." in warnings
    assert "The test split of folder has no image of class c." in warnings
    assert "has extra, which are not read: move what" in warnings


def test_the_order_is_by_code_point_of_the_whole_path(tmp_path):
    make_tree(tmp_path, ["a/b/1.png", "a/b-1.png", "a/B.png", "a/é.png", "a/10.png", "a/9.png"])
    # "-" is before "/", digits before capitals before small letters before accents.
    expected = ["a/10.png", "a/9.png", "a/B.png", "a/b-1.png", "a/b/1.png", "a/é.png"]
    assert find_images(tmp_path) == (expected, [])


def test_linked_files_and_folders_are_followed(tmp_path):
    make_tree(tmp_path / "data", ["a/1.png", "b/"])
    make_tree(tmp_path / "elsewhere", ["x/2.png", "3.png"])
    (tmp_path / "data/a/linked.png").symlink_to(tmp_path / "elsewhere/3.png")
    (tmp_path / "data/b/x").symlink_to(tmp_path / "elsewhere/x")
    rows = table(list_folder(tmp_path / "data").splits["train"])
    assert rows == [("a/1.png", 0, -1), ("a/linked.png", 0, -1), ("b/x/2.png", 1, -1)]


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([], "there is no train/ or class folder in"),
        (["1.png", "2.png"], "there is no train/ or class folder in"),
        (["a/1.png", "b/"], "class folder .*b has no images"),
        (["a/1.png", "b/notes.txt"], "class folder .*b has no images"),
        (["train/a/1.png", "train/b/1.png", "test/a/"], "class folders of .*test have no images"),
        (["train/a/1.png", "train/b/1.png", "test/"], "no class folder in .*test"),
        (["train/1.png", "bus/1.png"], "no class folder in .*train"),
        (["a/1.png"], "one class folder only, a"),
        (["pets/a/1.png", "pets/b/1.png"], "folders a and b are the classes, give .*/pets"),
        (["train/a/1.png", "train/b/1.png", "test/c/1.png"], "test split .* class c, which train"),
        (["val/a/1.png", "test/a/1.png"], "has val/, test/ but no train/"),
        (["train/a/1.png", "val/a/1.png", "valid/a/1.png"], "has val and valid, which both"),
    ],
)
def test_bad_layouts_are_refused_in_one_sentence(tmp_path, paths, message):
    make_tree(tmp_path, paths)
    with pytest.raises(ValueError, match=message) as error:
        list_folder(tmp_path)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_missing_folders_links_to_nothing_and_loops_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*absent"):
        list_folder(tmp_path / "absent")
    make_tree(tmp_path, ["a/1.png", "b/2.png", "file"])
    with pytest.raises(ValueError, match="file is a file"):
        list_folder(tmp_path / "file")
    (tmp_path / "a/up").symlink_to(tmp_path / "a")
    with pytest.raises(ValueError, match="up is a link to a folder that holds it"):
        list_folder(tmp_path)
    (tmp_path / "a/up").unlink()
    (tmp_path / "a/gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(ValueError, match=r"gone\.png is a link to nothing"):
        list_folder(tmp_path)


def test_unreadable_folders_are_named(tmp_path, monkeypatch):
    make_tree(tmp_path, ["a/1.png", "b/2.png"])
    refuse_folder(monkeypatch, tmp_path / "b")
    with pytest.raises(ValueError, match="/b cannot be read, permission is denied"):
        list_folder(tmp_path)


def test_names_that_are_not_unicode_are_refused(tmp_path):
    make_tree(tmp_path, ["a/1.png", "b/\udce9.png"])
    with pytest.raises(ValueError, match=r"\\udce9\.png' is not UTF-8: rename it") as error:
        list_folder(tmp_path)
    str(error.value).encode()  # can be written to a log


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "tab\t", "bell\x07", "para\u2029graph"])
@pytest.mark.parametrize("path", ["{}/1.png", "b/{}.png"])
def test_names_that_would_break_a_line_are_refused(tmp_path, name, path):
    """Of classes and of images: they stand in the log, in sentences and in tables."""
    make_tree(tmp_path, ["a/1.png", "b/2.png", path.format(name)])
    with pytest.raises(ValueError, match="has a line break or another control") as error:
        list_folder(tmp_path)
    assert str(error.value).isprintable() and str(error.value).endswith(": rename it.")
    assert repr(name)[1:-1] in str(error.value)


def test_the_icon_files_of_macos_do_not_stop_a_run(tmp_path):
    make_tree(tmp_path, ["a/1.png", "b/2.png", "b/Icon\r"])
    assert list_folder(tmp_path).splits["train"].paths == ("a/1.png", "b/2.png")
