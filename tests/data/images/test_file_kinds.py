"""Files are images or something else by their first bytes."""

import io

import pytest
from PIL import Image

from ddb_jax.data.images.file_kinds import (
    HEAD,
    IMAGE,
    kind_of_content,
    kind_of_file,
    why_unreadable,
)

NOT_IMAGES = {
    "HEIC": b"\0\0\0\x18ftypheic",
    "AVIF": b"\0\0\0\x1cftypavif",
    "JPEG XL": b"\xff\x0a\x01\x02",
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n",
    "PDF": b"%PDF-1.7\n",
    "Photoshop": b"8BPS\0\1",
    "DICOM": bytes(128) + b"DICM",
    "SVG": b"<?xml version='1.0'?>\n<!-- made by hand -->\n<svg xmlns=''>",
    "web pages": b"\n<!DOCTYPE html><html>",
    "XML": b"<?xml version='1.0'?><annotation>",
    "git-lfs pointers": b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
    "video": b"\0\0\0\x18ftypisom",
    "archives": b"PK\x03\x04\x14\0",
    "camera raw": b"II*\0\x10\0\0\0CR\2\0",
    "icons": b"\0\0\1\0\1\0",
    "empty files": b"",
    "text": b"BM is a text, P3 people wrote it",
    "": b"\x01\x02\x03\x04",
}


@pytest.mark.parametrize("format", ["jpeg", "png", "gif", "bmp", "tiff", "webp", "ppm"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_every_format_that_is_decoded_is_known(format, mode):
    file = io.BytesIO()
    Image.new(mode, (5, 7)).save(file, format)
    assert kind_of_content(file.getvalue()[:HEAD]) == IMAGE


@pytest.mark.parametrize("head", [b"P1\n# by hand\n5 7\n", b"P4 5 7\n", b"II+\0\x08\0", b"MM\0*\0"])
def test_rarer_heads_of_these_formats(head):
    assert kind_of_content(head) == IMAGE


@pytest.mark.parametrize("kind", NOT_IMAGES)
def test_other_contents_are_named(kind):
    assert kind_of_content(NOT_IMAGES[kind]) == kind


def test_texts_that_begin_like_images_are_none():
    assert kind_of_content(b"P3 people came") == kind_of_content(b"BMW and others") == "text"
    assert kind_of_content(b"P3") == "text" and kind_of_content(b"P5 \0\1") == ""


def test_a_file_is_opened_only_where_its_suffix_does_not_say(tmp_path):
    absent = str(tmp_path / "absent")
    assert kind_of_file(f"{absent}.JPG") == IMAGE
    assert kind_of_file(f"{absent}.txt") == "TXT"
    assert kind_of_file(f"{absent}.NEF") == "camera raw"
    assert kind_of_file(absent) == kind_of_file(f"{absent}.jfif") == "unreadable files"


def test_backups_are_known_by_their_original(tmp_path):
    path = tmp_path / "a.png_original"
    Image.new("RGB", (5, 5)).save(path, "png")
    assert kind_of_file(str(path), {"a.png", "a.png_original"}) == "backup copies"
    assert kind_of_file(str(path), {"a.png_original"}) == IMAGE


def test_why_a_file_with_an_image_s_suffix_cannot_be_read():
    said = why_unreadable(NOT_IMAGES["HEIC"])
    assert said == (
        "HEIC, which is not read (convert it to JPEG or PNG, for example with"
        " `magick heic:FILE FILE.png`)"
    )
    assert why_unreadable(NOT_IMAGES["git-lfs pointers"]) == (
        "a git-lfs pointer, which is not read (run `git lfs pull` in the folder)"
    )
    assert why_unreadable(NOT_IMAGES["text"]) == ""
    assert why_unreadable(b"\x89PNG\r\n\x1a\n") == why_unreadable(b"\1\2\3") == ""
