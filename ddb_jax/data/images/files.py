"""Finds image files below a folder, in the same order on every machine.

Shared by the recipes over folders: sorted walks, `Files` from rows of (path, label, bias), and
messages on what was left out.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ddb_jax.data.listing import IMAGE_SUFFIXES, Files, Listing

Row = tuple[str, int, int]  # path relative to the listing's root, label, bias


def subfolders(folder: Path) -> tuple[str, ...]:
    """Names of the folders in a folder, sorted; hidden ones are left out.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It is not a folder, or cannot be read.
    """
    return tuple(entry.name for entry in _entries(folder) if entry.is_dir())


def find_images(root: Path, below: str = "") -> tuple[list[str], list[str]]:
    """The image files in a folder and in all folders below it, and its other files.

    Links are followed. Hidden files and folders are left out of both lists.

    Args:
        root: Folder that the paths are relative to.
        below: Where to look, relative to root.

    Returns:
        Paths with a suffix of IMAGE_SUFFIXES, and paths without; relative to root, with forward
        slashes, sorted by code point.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: A folder cannot be read or links to one of its parents, or an image is a broken
            link.
    """
    images: list[str] = []
    others: list[str] = []

    def visit(below: str, parents: frozenset[str]) -> None:
        folder = root / below
        real = os.path.realpath(folder)
        if real in parents:
            raise ValueError(f"{folder} is a link to a folder that holds it: remove the link.")
        for entry in _entries(folder):
            path = f"{below}/{entry.name}" if below else entry.name
            if entry.is_dir():
                visit(path, parents | {real})
            elif os.path.splitext(entry.name)[1].lower() not in IMAGE_SUFFIXES:
                others.append(path)
            elif entry.is_file():
                images.append(path)
            else:
                raise ValueError(f"{root / path} is a broken link: fix or delete it.")

    visit(below, frozenset())
    return sorted(images), sorted(others)


def files_of(rows: Iterable[Row]) -> Files:
    """The rows as one split, sorted by path."""
    rows = sorted(rows)
    return Files(
        tuple(path for path, _, _ in rows),
        np.array([label for _, label, _ in rows], np.int32),
        np.array([bias for _, _, bias in rows], np.int32),
    )


def left_out_notes(others: Sequence[str]) -> tuple[str, ...]:
    """One sentence on files that are not images; () without such files."""
    if not others:
        return ()
    what = (
        "1 file that is not an image was"
        if len(others) == 1
        else (f"{len(others):,} files that are not images were")
    )
    return (f"{what} left out, for example {others[0]}.",)


def check_classes(listing: Listing) -> Listing:
    """The listing, if train has an image of every class and no split is empty.

    Raises:
        ValueError: One has not.
    """
    for split, files in listing.splits.items():
        if not files.paths:
            raise ValueError(f"{listing.root} has no {split} image of {listing.name}.")
    present = np.bincount(listing.splits["train"].labels, minlength=len(listing.class_names))
    missing = [listing.class_names[i] for i in np.flatnonzero(present == 0)]
    if missing:
        raise ValueError(
            f"{listing.root} has no training image of class {', '.join(missing)}: add some, or"
            " download the set again."
        )
    return listing


def _entries(folder: Path) -> list[os.DirEntry]:
    """Entries of a folder by name, without hidden files and macOS's archive leftovers."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no folder {folder}: check the path.") from None
    except NotADirectoryError:
        raise ValueError(f"{folder} is a file: give the folder that holds the images.") from None
    except PermissionError:
        raise ValueError(
            f"{folder} cannot be read, permission is denied: give the user who runs this the right"
            " to read it."
        ) from None
    for entry in found:
        # A name that is not Unicode could be read here but not be written to any table.
        if entry.name.encode(errors="replace").decode() != entry.name:
            raise ValueError(
                f"the name of {os.fspath(folder / entry.name)!a} is not UTF-8: rename it."
            )
    return [entry for entry in found if entry.name[0] != "." and entry.name != "__MACOSX"]
