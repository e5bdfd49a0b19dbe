"""What a file really is, where it is not what its name says: for one sentence to whoever gave it.

Large files reach people as stand-ins: a clone without git-lfs leaves pointers, a download that
needs a login leaves a web page, a broken one leaves half a file. Every reader asks here first, so
that the same thing is said of weights, tables and JSON files.
"""

import zipfile
from collections.abc import Collection
from pathlib import Path

HEAD = 512  # bytes that are looked at
WEB_PAGE = (b"<!doctype html", b"<html", b"<head", b"<body")
# Kind -> where its mark stands, the mark, and what the file is.
MARKS = {
    "lfs": (0, b"version https://git-lfs.github.com/spec/", "a git-lfs pointer"),
    "old_lfs": (0, b"version https://hawser.github.com/spec/", "a git-lfs pointer"),
    "annex": (0, b"/annex/objects/", "a git-annex pointer"),
    "zip": (0, b"PK\x03\x04", "a zip archive"),
    "gzip": (0, b"\x1f\x8b", "compressed by gzip"),
    "xz": (0, b"\xfd7zXZ\x00", "compressed by xz"),
    "bzip2": (4, b"1AY&SY", "compressed by bzip2"),
    "zstd": (0, b"\x28\xb5\x2f\xfd", "compressed by zstd"),
    "7z": (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    "rar": (0, b"Rar!\x1a\x07", "a rar archive"),
    "tar": (257, b"ustar", "a tar archive"),
    "hdf5": (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes it"),
    "gguf": (0, b"GGUF\x03", "a GGUF file, as llama.cpp reads it"),
    "excel": (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel or Word file"),
    "parquet": (0, b"PAR1\x15", "a parquet file"),
    "safetensors": (4, b'\0\0\0\0{"', "a safetensors file"),
    "pickle": (0, b"\x80\x02", "a pickle, as torch.save writes it"),
}
POINTERS = {"lfs": "git lfs pull", "old_lfs": "git lfs pull", "annex": "git annex get ."}


def stand_in(path: Path, *, own: Collection[str] = ()) -> str:
    """What an existing file is where it is not what its reader expects, and what to do about it.

    Args:
        path: A local file.
        own: The kinds of MARKS that the reader can read.

    Returns:
        Words that follow the file's name in a sentence, such as "is a git-lfs pointer, not the
        content: run `git lfs pull` in FOLDER"; "" where nothing is known against the file.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head:
        return "is empty: get it again, the download or the copy has failed"
    if not head.strip(b"\0"):
        return f"begins with {len(head)} zero bytes: get it again, the disk or the copy has failed"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(WEB_PAGE):
        return (
            "is a web page, not the content, as sites give it where one must log in or the file"
            " is gone: get it again"
        )
    if text.startswith(b"<?xml"):
        return "is an XML page, as stores give it in place of a refused file: get it again"
    for kind, (start, mark, words) in MARKS.items():
        if kind in own or head[start : start + len(mark)] != mark:
            continue
        if kind in POINTERS:
            return f"is {words}, not the content: run `{POINTERS[kind]}` in {path.parent}"
        return f"is {words}{_advice(path, kind)}"
    return ""


def is_pointer(path: Path) -> bool:
    """Whether a file only stands for one that git-lfs or git-annex has not fetched."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    return any(head.startswith(MARKS[kind][1]) for kind in POINTERS)


def _advice(path: Path, kind: str) -> str:
    """What to do with a file of another kind."""
    if kind == "zip":
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except (OSError, zipfile.BadZipFile):
            return " that is cut short: get it again"
        if any(name.endswith("data.pkl") for name in names):
            return " that torch.save wrote: name it .pth, or save it again as safetensors"
        if "xl/workbook.xml" in names:
            return ", an Excel table: save it as CSV"
        return f" of {len(names):,} files: unpack it"
    if kind in ("safetensors", "hdf5", "gguf", "excel", "parquet", "pickle"):
        return ": give it the suffix of its kind, or save it in the kind that is read here"
    return ": unpack it"
