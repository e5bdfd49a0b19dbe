"""Finds image files below a folder, in the same order on every machine.

What the recipes over folders share: sorted walks; rows of (path, label, bias) made into `Files`.
"""

import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ddb_jax.data.folder_names import is_system
from ddb_jax.data.images.file_kinds import (
    DEAD_LINK,
    IMAGE,
    IMAGE_SUFFIXES,
    SYSTEM,
    TEXT_SUFFIXES,
    kind_of_file,
)
from ddb_jax.data.images.left_out import Other
from ddb_jax.data.listing import Files, Listing

Row = tuple[str, int, int]  # path relative to the listing's root, label, bias


def subfolders(folder: Path) -> tuple[str, ...]:
    """Names of the folders in a folder, sorted; hidden ones and what systems make are left out.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It is not a folder, or cannot be read.
    """
    return tuple(entry.name for entry in _entries(folder)[0] if entry.is_dir())


def system_entries(folder: Path) -> list[Other]:
    """The hidden folders, and the files and folders that systems make, directly in a folder."""
    return [Other(entry.name, SYSTEM) for entry in _entries(folder)[1]]


def images_in(folder: Path) -> list[str]:
    """Names of the images directly in a folder, sorted."""
    kept = _entries(folder)[0]
    names = {entry.name for entry in kept}
    files = [entry for entry in kept if not entry.is_dir()]
    return [e.name for e in files if _kind(folder / e.name, e, names) == IMAGE]


def find_images(root: Path, below: str = "") -> tuple[list[str], list[Other]]:
    """The image files in a folder and in all folders below it, and what is left out of them.

    What is an image is told by the suffix where it is of IMAGE_SUFFIXES, else by the first bytes.
    Links are followed. Hidden files are left out of both lists; of a folder that is hidden or that
    a system makes, nothing but its own name is in the second.

    Args:
        root: Folder that the paths are relative to.
        below: Where to look, relative to root.

    Returns:
        Paths of images, and of what else there is; relative to root, with forward slashes, sorted
        by code point.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: A folder cannot be read or links to one of its parents, or an image is a broken
            link.
    """
    images: list[str] = []
    others: list[Other] = []

    def visit(below: str, parents: frozenset[str]) -> None:
        folder = root / below
        real = os.path.realpath(folder)
        if real in parents:
            raise ValueError(f"{folder} is a link to a folder that holds it: remove the link.")
        kept, system = _entries(folder)
        prefix = f"{below}/" if below else ""
        others.extend(Other(prefix + entry.name, SYSTEM) for entry in system)
        names = {entry.name for entry in kept}
        for entry in kept:
            path = prefix + entry.name
            if entry.is_dir():
                visit(path, parents | {real})
                continue
            kind = _kind(root / path, entry, names)
            if kind == IMAGE:
                images.append(path)
            else:
                others.append(Other(path, kind))

    visit(below, frozenset())
    return sorted(images), sorted(others)


def _kind(path: Path, entry: os.DirEntry, names: set[str]) -> str:
    """As `kind_of_file`; pipes and the like are never opened, which could wait for ever."""
    if entry.is_file():
        return kind_of_file(entry.path, names)
    named_image = os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES
    if entry.is_symlink() and not os.path.exists(entry.path):
        if named_image:
            raise ValueError(f"{path} is a link to nothing: fix or remove it.")
        return DEAD_LINK
    if named_image:
        raise ValueError(f"{path} is not a regular file: remove it.")
    return "pipes and devices"


def files_of(rows: Iterable[Row]) -> Files:
    """The rows as one split, sorted by path."""
    rows = sorted(rows)
    return Files(
        tuple(path for path, _, _ in rows),
        np.array([label for _, label, _ in rows], np.int32),
        np.array([bias for _, _, bias in rows], np.int32),
    )


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


def _entries(folder: Path) -> tuple[list[os.DirEntry], list[os.DirEntry]]:
    """What a folder holds without what is hidden, and what systems made in it; both by name."""
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
    kept, system = [], []
    for entry in found:
        # The name first: asking a link whether it is a folder costs a look at the disk.
        made = is_system(entry.name, folder=True) and entry.is_dir()
        # ._NAME is what macOS keeps beside NAME; other hidden images may be meant to be read.
        image = os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES
        hidden = entry.name[0] == "." and image and not entry.name.startswith("._")
        if made or hidden or is_system(entry.name, folder=False):
            system.append(entry)
        elif entry.name[0] != ".":
            kept.append(entry)
    for entry in kept:
        suffix = os.path.splitext(entry.name)[1].lower()
        if not entry.name.isprintable() and (suffix not in TEXT_SUFFIXES or entry.is_dir()):
            _check_name(folder, entry.name)
    return kept, system


def _check_name(folder: Path, name: str) -> None:
    """Refuse a name that could be read here but not be written to a table or a line of a log."""
    kinds = {unicodedata.category(character) for character in name}
    if "Cs" in kinds:
        raise ValueError(f"the name of {os.fspath(folder / name)!a} is not UTF-8: rename it.")
    if kinds & {"Cc", "Zl", "Zp"}:
        raise ValueError(
            f"the name of {os.fspath(folder / name)!a} has a line break or another control"
            " character: rename it."
        )
