"""What stands in for a file that failed to arrive is called what it is."""

import gzip
import io
import tarfile
import zipfile

import pytest

from ddb_jax.models.file_content import is_pointer, stand_in

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 3438167540\n"


def archive(*names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        for name in names:
            opened.writestr(name, "x")
    return file.getvalue()


def tar():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as opened:
        opened.addfile(tarfile.TarInfo("a"), io.BytesIO())
    return file.getvalue()


WRONG = {
    "empty": (b"", "is empty: get it again, the download or the copy has failed"),
    "zeros": (
        bytes(600),
        "begins with 512 zero bytes: get it again, the disk or the copy has failed",
    ),
    "pointer": (POINTER, "is a git-lfs pointer, not the content: run `git lfs pull` in FOLDER"),
    "annex": (
        b"/annex/objects/SHA256E-s3--ab.bin\n",
        "is a git-annex pointer, not the content: run `git annex get .` in FOLDER",
    ),
    "page": (
        b"\n<!DOCTYPE html><html><title>401 Unauthorized</title></html>",
        "is a web page, not the content, as sites give it where one must log in or the file is"
        " gone: get it again",
    ),
    "xml": (
        b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
        "is an XML page, as stores give it in place of a refused file: get it again",
    ),
    "zip": (archive("a.txt", "b.txt"), "is a zip archive of 2 files: unpack it"),
    "cut_zip": (archive("a.txt")[:20], "is a zip archive that is cut short: get it again"),
    "torch": (
        archive("archive/data.pkl"),
        "is a zip archive that torch.save wrote: name it .pth, or save it again as safetensors",
    ),
    "xlsx": (archive("xl/workbook.xml"), "is a zip archive, an Excel table: save it as CSV"),
    "gzip": (gzip.compress(b"label,x"), "is compressed by gzip: unpack it"),
    "tar": (tar(), "is a tar archive: unpack it"),
    "safetensors": (
        (2).to_bytes(8, "little") + b'{"a":1}',
        "is a safetensors file: give it the suffix of its kind, or save it in the kind that is"
        " read here",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files_are_called_what_they_are(case, tmp_path):
    content, words = WRONG[case]
    path = tmp_path / "file"
    path.write_bytes(content)
    assert stand_in(path) == words.replace("FOLDER", str(tmp_path))
    assert is_pointer(path) == (case in ("pointer", "annex"))


@pytest.mark.parametrize(
    "content",
    [b"path,label\na.png,cat\n", b'{"a": 1}', b'\xef\xbb\xbf{"a": 1}', b"PA", b"\0\0\0\1", b"<a>"],
)
def test_nothing_is_said_against_others(content, tmp_path):
    (tmp_path / "file").write_bytes(content)
    assert stand_in(tmp_path / "file") == ""


def test_a_reader_is_not_told_of_its_own_kind(tmp_path):
    (tmp_path / "w.pth").write_bytes(WRONG["torch"][0])
    assert stand_in(tmp_path / "w.pth", own=("zip", "pickle")) == ""
