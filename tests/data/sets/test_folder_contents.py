"""What lies in folders beside images: what systems make, other formats, odd files and names."""

import os

import numpy as np
import pytest
from image_tree import make_tree
from PIL import Image

from ddb_jax.data.sets.align_conflict import list_align_conflict
from ddb_jax.data.sets.bar import CLASSES, list_bar
from ddb_jax.data.sets.image_folder import list_folder

HEIC = b"\0\0\0\x18ftypheic" + bytes(200)


@pytest.fixture
def pets(tmp_path):
    """Four files of each of two classes."""
    return make_tree(tmp_path / "pets", [f"{c}/{i}.jpg" for c in ("cat", "dog") for i in range(4)])


def write(root, **files):
    for name, data in files.items():
        (root / name).write_bytes(data)


def counts(listing):
    return np.bincount(listing.splits["train"].labels).tolist()


@pytest.mark.parametrize("top", [["@eaDir/SYNOPHOTO_THUMB_XL.jpg"], []])
def test_thumbnails_of_file_servers_are_left_out_and_counted(pets, top):
    inside = [
        f"{c}/@eaDir/{i}.jpg/THUMB_{s}.jpg" for c in ("cat", "dog") for i in "01" for s in "SM"
    ]
    make_tree(pets, [*top, *inside])
    listing = list_folder(pets)
    assert listing.class_names == ("cat", "dog") and counts(listing) == [4, 4]
    first = "@eaDir" if top else "cat/@eaDir"
    assert len(listing.notes) == 1
    assert listing.notes[0].endswith(f"were left out: {2 + len(top)}, for example {first}.")


def test_what_other_systems_make_is_left_out_and_counted(pets):
    folders = [
        *("#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found", "__MACOSX"),
        *("__pycache__", "@Recycle", ".AppleDouble", ".ipynb_checkpoints", "cat/.@__thumb"),
    ]
    make_tree(pets, [f"{folder}/x/1.jpg" for folder in folders])
    make_tree(pets, ["cat/Thumbs.db", "dog/desktop.ini", "dog/1.jpg:Zone.Identifier"])
    make_tree(pets, ["cat/._1.jpg", "cat/.DS_Store", "cat/.secret.jpg"])
    listing = list_folder(pets)
    assert listing.class_names == ("cat", "dog") and counts(listing) == [4, 4]
    # Ten folders, three files, and the hidden image; not what macOS keeps beside a file.
    assert "were left out: 14, for" in listing.notes[0] and len(listing.notes) == 1


def test_with_splits_what_lies_beside_them_is_counted_too(tmp_path):
    make_tree(tmp_path, [f"{s}/{c}/1.jpg" for s in ("train", "test") for c in "ab"])
    make_tree(tmp_path, ["@eaDir/1.jpg", "train/@eaDir/1.jpg", "test/a/@eaDir/1.jpg"])
    listing = list_folder(tmp_path)
    assert "were left out: 3, for" in listing.notes[0] and counts(listing) == [1, 1]


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("a.jfif", "jpeg"),
        ("a.JFIF", "jpeg"),
        ("a.jpe", "jpeg"),
        ("a", "png"),
        ("a.jpg_large", "jpeg"),
        ("a.jpg?w=300", "jpeg"),
        ("a.jpg ", "jpeg"),
        ("a.heic", "jpeg"),
        ("a.php", "gif"),
        ("a.0", "bmp"),
        ("a.pnm", "ppm"),
        ("a.tmp", "webp"),
        ("a.image", "tiff"),
    ],
)
def test_images_are_told_by_content(pets, name, format):
    Image.new("RGB", (5, 5)).save(pets / "cat" / name, format)
    listing = list_folder(pets)
    assert f"cat/{name}" in listing.splits["train"].paths and counts(listing) == [5, 4]
    assert listing.notes == () and listing.warnings == ()


def test_photographs_of_other_formats_are_counted_by_class(pets):
    write(pets / "cat", **{f"IMG_{i}.HEIC": HEIC for i in range(12)}, bare=HEIC)
    write(pets / "dog", **{"IMG_0.heic": HEIC, "1.nef": b"MM\0*" + bytes(99)})
    listing = list_folder(pets)
    assert counts(listing) == [4, 4]
    assert listing.warnings == (
        "13 of 17 files of cat, 1 of 6 files of dog are not read (HEIC), for example"
        " cat/IMG_0.HEIC: convert them to JPEG or PNG, for example with `magick mogrify -format"
        " png *.heic`.",
        "1 of 6 files of dog is not read (camera raw), for example dog/1.nef: develop them to JPEG"
        " or PNG, for example with darktable or RawTherapee.",
    )
    assert listing.notes == (
        "15 files that are not images were left out, for example cat/IMG_0.HEIC. They are 13 HEIC"
        " in cat, 1 camera raw in dog, 1 HEIC in dog.",
    )


def test_labels_beside_images_are_noted_and_not_warned_about(pets):
    make_tree(pets, [f"cat/{i}.txt" for i in range(4)] + ["dog/labels.csv"])
    listing = list_folder(pets)
    assert listing.warnings == () and counts(listing) == [4, 4]
    assert listing.notes == (
        "5 files that are not images were left out, for example cat/0.txt. They are 4 TXT in cat, 1"
        " CSV in dog.",
    )


def test_unknown_contents_are_warned_about_from_a_tenth_of_a_class(pets):
    make_tree(pets, [f"dog/{i}.png" for i in range(5)])
    write(pets / "dog", film=b"\0\0\0\x18ftypisom")
    assert list_folder(pets).warnings == (
        "1 of 10 files of dog is not read (video), for example dog/film: look whether these should"
        " be images.",
    )
    make_tree(pets, ["dog/x.png"])
    assert list_folder(pets).warnings == ()


def test_files_that_were_images_are_called_what_they_are(pets):
    write(
        pets / "cat",
        pointer=b"version https://git-lfs.github.com/spec/v1\n",
        page=b"<!DOCTYPE html>",
        zero=b"",
    )
    os.symlink("nowhere", pets / "cat" / "link")
    warnings = list_folder(pets).warnings
    ends = ["(empty files), ", "(git-lfs pointers), ", "(links to nothing), ", "(web pages), "]
    assert [w.split("not read ")[1].split("for")[0] for w in warnings] == ends
    assert "run `git lfs pull`" in warnings[1] and "1 of 8 files of cat is" in warnings[0]


def test_a_class_that_is_lost_whole_is_refused_with_the_kind(pets):
    write(make_tree(pets, ["fox/"]) / "fox", **{"1.heic": HEIC, "2.heic": HEIC})
    with pytest.raises(ValueError, match=r"fox has no images, only 2 files .* \(HEIC\): convert"):
        list_folder(pets)


def test_backup_copies_are_left_out(pets):
    for name in ("0.jpg~", "1.jpg_original", "2.jpg.bak"):
        Image.new("RGB", (5, 5)).save(pets / "cat" / name, "jpeg")
    listing = list_folder(pets)
    assert counts(listing) == [4, 4] and "3 backup copies in cat" in listing.notes[0]


def test_thumbnails_in_a_folder_below_a_class_are_warned_about(pets):
    make_tree(pets, ["cat/thumbnails/1.jpg", "cat/thumbnails/2.jpg"])
    listing = list_folder(pets)
    assert counts(listing) == [6, 4]
    assert "count as that class: 2, for example cat/thumbnails/1.jpg." in listing.warnings[0]


def test_images_in_no_class_are_warned_about(tmp_path):
    make_tree(tmp_path, [f"{s}/{c}/1.jpg" for s in ("train", "test") for c in "ab"])
    make_tree(tmp_path, ["1.jpg", "2.jpg", "readme.txt", "train/3.jpg"])
    listing = list_folder(tmp_path)
    assert counts(listing) == [1, 1]
    assert "beside the splits were left out: 2, for example 1.jpg." in listing.warnings[0]
    assert "in no class folder were left out: 1, for example train/3.jpg." in listing.warnings[1]


def test_arrays_instead_of_images_are_warned_about(pets):
    write(pets / "cat", **{f"{i}.npy": b"\x93NUMPY\1\0" for i in range(12)})
    assert "12 of 16 files of cat are not read (NPY)" in list_folder(pets).warnings[0]


def test_pipes_are_never_opened(pets):
    os.mkfifo(pets / "cat" / "pipe")
    assert "is not read (pipes and devices)" in list_folder(pets).warnings[0]
    os.mkfifo(pets / "cat" / "pipe.jpg")
    with pytest.raises(ValueError, match=r"pipe\.jpg is not a regular file: remove it"):
        list_folder(pets)


def test_a_file_that_cannot_be_opened_is_warned_about(pets, monkeypatch):
    write(pets / "cat", secret=b"\xff\xd8\xff")

    def refuse(*_, **__):
        raise PermissionError

    monkeypatch.setattr("builtins.open", refuse)
    assert "1 of 5 files of cat is not read (unreadable files)" in list_folder(pets).warnings[0]


def test_names_with_line_breaks_are_shown_on_one_line(pets):
    make_tree(pets, ["cat/c\nd.txt", "dog/e\nf.json"])
    listing = list_folder(pets)
    assert counts(listing) == [4, 4]
    assert not any("\n" in sentence for sentence in (*listing.notes, *listing.warnings))


def test_published_trees_tell_by_content_and_warn_too(tmp_path):
    bar = tmp_path / "bar"
    make_tree(bar, [f"{split}/{c}_1.jpg" for split in ("train", "test") for c in CLASSES])
    Image.new("RGB", (5, 5)).save(bar / "train" / "climbing_2", "jpeg")
    write(bar / "train", **{"diving_3.heic": HEIC})
    listing = list_bar(bar)
    assert counts(listing) == [2, 1, 1, 1, 1, 1]
    assert listing.warnings[0].startswith("1 of 8 files of train is not read (HEIC)")

    bffhq = tmp_path / "bffhq"
    make_tree(bffhq, [f"1pct/align/{i}/a_{i}_{i}.png" for i in (0, 1)])
    make_tree(bffhq, [f"1pct/conflict/{i}/b_{i}_{1 - i}.png" for i in (0, 1)])
    make_tree(bffhq, ["test/t_0_0.png", "1pct/align/@eaDir/x.png"])
    Image.new("RGB", (5, 5)).save(bffhq / "1pct/align/0/c_0_0", "png")
    listing = list_align_conflict(bffhq, name="bffhq", pct="1pct")
    assert counts(listing) == [3, 2] and listing.warnings == ()
    assert "were left out: 1, for example 1pct/align/@eaDir." in listing.notes[0]
