"""Sets of labelled images as the library datasets keeps them, read without the library.

Three layouts: what `save_to_disk` wrote, a folder of parquet files as on the Hugging Face hub, and
an image folder whose metadata.csv names the files in its column file_name.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddb_jax.data.listing import Files, Listing
from ddb_jax.data.names import plain
from ddb_jax.data.sets.arrow_files import ArrowFile
from ddb_jax.data.sets.csv_table import check_train_has_all
from ddb_jax.data.sets.huggingface_layout import WORDS, parquet_files, saved_files, split_roles
from ddb_jax.data.sets.label_codes import code_bias, code_labels, refuse_missing
from ddb_jax.data.table_file import image_files, read_table
from ddb_jax.runtime.errors import first_few


@dataclass(frozen=True)
class HuggingFaceImages:
    """A set and where its images are.

    Attributes:
        listing: Of the splits that are there.
        open_image: Gives the image file of a path of the listing; None where the paths are files.
        content_key: Stands for the content of the set's files; empty where the paths are files.
    """

    listing: Listing
    open_image: Callable[[str], bytes] | None = None
    content_key: str = ""


@dataclass(frozen=True)
class _Split:
    """Texts of N rows, before they are numbered."""

    paths: tuple[str, ...]
    labels: list[str]
    biases: list[str]
    places: list[str]
    names: tuple[str, ...] = ()  # of a ClassLabel


def open_huggingface(
    root: Path,
    splits: tuple[str, str, str] = ("", "", ""),
    *,
    image_column: str = "image",
    label_column: str = "label",
    bias_column: str = "",
) -> HuggingFaceImages:
    """Open a set; reads its labels, and no image.

    Args:
        root: Folder of one of the three layouts.
        splits: Names of train, validation and test; "" is the one of a usual name, if there is one.
        image_column: Of encoded images or their paths; not used with metadata.csv.
        label_column: Of the class: a ClassLabel, texts or numbers.
        bias_column: Of the bias, likewise; "" for none. See `label_codes.code_bias`.

    Raises:
        FileNotFoundError: An image of metadata.csv is missing.
        ValueError: The folder has another layout, lacks a split or a column, a file of it is
            damaged, or labels or biases cannot be numbered.
    """
    if not root.is_dir():
        raise ValueError(f"there is no folder {root}: give the folder that holds the set.")
    columns = (label_column, bias_column)
    found = saved_files(root)
    if not found:
        tables = [path for path in (root / "metadata.csv", *sorted(root.glob("*/metadata.csv")))]
        if any(path.is_file() for path in tables):
            by_name = _of_metadata([path for path in tables if path.is_file()], root, columns)
            roles = split_roles(root, by_name, splits)
            return HuggingFaceImages(
                _listing(root, {role: by_name[name] for role, name in roles.items()}, by_name)
            )
        found = parquet_files(root)
    roles = split_roles(root, found, splits)
    opened = {role: [ArrowFile(path, root) for path in found[roles[role]]] for role in roles}
    parts = {role: _of_files(root, role, opened[role], image_column, columns) for role in roles}
    places = {
        path: (file, row)
        for role in roles
        for path, (file, row) in zip(
            parts[role].paths,
            ((file, row) for file in opened[role] for row in range(file.num_rows)),
            strict=True,
        )
    }

    def open_image(path: str) -> bytes:
        file, row = places[path]
        return file.image(image_column, row)

    used = [file.path for role in roles for file in opened[role]]
    key = _content_key(root, used, (image_column, *roles.items()))
    return HuggingFaceImages(_listing(root, parts, found), open_image, key)


def _of_metadata(tables: Sequence[Path], root: Path, columns: tuple[str, str]) -> dict[str, _Split]:
    """The rows of every split: its column split, else a folder of a usual name, else train."""
    label, bias = (plain(column).casefold() for column in columns)
    lists: dict[str, tuple[list[str], list[str], list[str], list[str]]] = {}
    for table in tables:
        required = ("file_name", label, bias) if bias else ("file_name", label)
        rows = read_table(table, required, ("split",))
        for (line, row), file in zip(rows, image_files(table, rows, "file_name"), strict=True):
            path = (table.parent.relative_to(root) / file).as_posix()
            folders = [part for part in path.split("/")[:-1] if part.lower() in WORDS]
            split = row.get("split") or (folders or ["train"])[0]
            values = (path, row[label], row[bias] if bias else "", f"line {line} of {table}")
            for column, value in zip(
                lists.setdefault(split, ([], [], [], [])), values, strict=True
            ):
                column.append(value)
    return {
        name: _Split(tuple(paths), labels, biases, places)
        for name, (paths, labels, biases, places) in lists.items()
    }


def _of_files(
    root: Path, role: str, files: Sequence[ArrowFile], image_column: str, columns: tuple[str, str]
) -> _Split:
    label, bias = columns
    count = sum(file.num_rows for file in files)
    if not count:
        raise ValueError(f"the {role} split of {root} has no rows: save it again, or remove it.")
    for file in files:
        file.check(image_column, images=True)
        for column in filter(None, columns):
            file.check(column, images=False)
            if file.names(column) != files[0].names(column):
                raise ValueError(
                    f"{file.path} and {files[0].path} name the classes of {column!r} differently:"
                    " save the set again."
                )
    return _Split(
        tuple(f"{role}/{row:07d}" for row in range(count)),
        [text for file in files for text in file.texts(label)],
        [text for file in files for text in file.texts(bias)] if bias else [""] * count,
        [f"row {row} of {file.path}" for file in files for row in range(file.num_rows)],
        files[0].names(label),
    )


def _listing(root: Path, parts: Mapping[str, _Split], found: Iterable[str]) -> Listing:
    splits = [role for role, part in parts.items() for _ in part.paths]
    labels, biases, places = (
        [text for part in parts.values() for text in getattr(part, column)]
        for column in ("labels", "biases", "places")
    )
    where = str(root)
    declared = parts["train"].names
    if any(part.names != declared for part in parts.values()):
        raise ValueError(f"the splits of {root} name the classes differently: save the set again.")
    notes: tuple[str, ...] = ()
    if declared:
        missing = [p for p, text in zip(places, labels, strict=True) if not text]
        refuse_missing(where, [""] * len(missing), missing)
        used = set(labels)
        classes = tuple(name for name in declared if name in used)
        if unused := [name for name in declared if name not in used]:
            notes = (f"No image of {root} has class {first_few(unused)}: left out.",)
        if len(classes) < 2:
            raise ValueError(f"{root} has one class only, {first_few(classes)}: add another.")
        order = {name: i for i, name in enumerate(classes)}
        codes = [order[text] for text in labels]
    else:
        classes, codes, notes = code_labels(where, labels, places)
    check_train_has_all(where, classes, codes, splits)
    bias, bias_names, bias_notes = code_bias(where, biases, places, classes, codes, splits)
    unread = len(list(found)) - len(parts)
    if unread:
        notes += (f"{unread} other split{'s' if unread > 1 else ''} of {root} are not read.",)
    of_role = np.array(splits)
    return Listing(
        root.resolve().name,
        root,
        {
            role: Files(
                part.paths,
                np.array(codes, np.int32)[of_role == role],
                np.array(bias, np.int32)[of_role == role],
            )
            for role, part in parts.items()
        },
        classes,
        bias_names,
        (*notes, *bias_notes),
    )


def _content_key(root: Path, files: Iterable[Path], asked: Sequence[object]) -> str:
    stats = [(path.relative_to(root).as_posix(), path.stat()) for path in files]
    named = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    return hashlib.sha256(repr((named, *asked)).encode()).hexdigest()[:16]
