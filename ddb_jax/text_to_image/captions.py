"""Captions as CSV files: one row a caption with its class, or rows of images and their captions.

`label,generated_text` is the layout of the caption files that DiffuBias' authors published, which
name the class of a caption but not the image. `path,caption`, or `path,caption_1,caption_2,...`
as in the tables that their scripts read, say the image.
"""

import re
from collections import Counter
from collections.abc import Container, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ddb_jax.data.names import ClassCodes, composed, is_missing, whole_number
from ddb_jax.data.table_file import Row, read_table
from ddb_jax.runtime.errors import first_few

LABEL_COLUMNS = ("label", "generated_text")
CAPTION_COLUMN = re.compile(r"caption(_\d+)?")
LAYOUTS = "label,generated_text or path,caption or path,caption_1,caption_2,caption_3"


class Captions(NamedTuple):
    """Texts and what they describe.

    Attributes:
        texts: N captions.
        labels: int32 [N], class of each.
        images: int32 [N], position of the image that each describes; -1 where the file does not
            say.
        notes: Lines for the log.
    """

    texts: tuple[str, ...]
    labels: np.ndarray
    images: np.ndarray
    notes: tuple[str, ...] = ()


def read_captions(
    path: Path,
    class_names: Sequence[str],
    image_paths: Sequence[str] = (),
    image_labels: Sequence[int] = (),
) -> Captions:
    """Read a CSV file of either layout.

    A label is a class name or number; where a class name is itself a whole number, only the names
    are understood. Rows of images may stand in any order, and more than one may be of an image.

    Args:
        path: The file, UTF-8, with a header line; other columns are not read.
        class_names: Name of every label.
        image_paths: N images that the captions may be of, as the data set names them.
        image_labels: int [N], their classes.

    Returns:
        The captions, by row and in a row from left to right; empty ones are left out, and a note
        counts them.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Columns or captions are missing, a label is no class, or a path is not among
            the images.
    """
    header, rows, spelled = _read_table(path)
    if set(LABEL_COLUMNS) <= set(header):
        codes = _codes(class_names)
        values = [row["label"] for _, row in rows]
        _refuse_unknown(
            path, "label", rows, values, codes, f"a class ({first_few(class_names)}) or its number"
        )
        labels = [codes[value] for value in values]
        images = [-1] * len(rows)
        columns = ("generated_text",)
    else:
        columns = _caption_columns(path, header)
        positions = {composed(name): i for i, name in enumerate(image_paths)}
        values = [composed(row["path"]) for _, row in rows]
        words = f"among the {len(image_paths):,} images ({first_few(image_paths)})"
        _refuse_unknown(path, "path", rows, values, positions, words)
        images = [positions[value] for value in values]
        labels = [image_labels[i] for i in images]
    found = [
        (row[column], label, image)
        for (_, row), label, image in zip(rows, labels, images, strict=True)
        for column in columns
        if row[column]
    ]
    notes = _note_empty(path, len(rows) * len(columns), len(found), spelled)
    texts, kept_labels, kept_images = zip(*found, strict=True)
    return Captions(texts, np.array(kept_labels, np.int32), np.array(kept_images, np.int32), notes)


def read_image_captions(path: Path) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Read the captions of any images, a reference set's say, from a CSV file that names paths.

    Args:
        path: The file, UTF-8, with columns path and caption, or path, caption_1, caption_2, ...

    Returns:
        Path -> its captions, in the order of the file, and notes for the log. An image whose
        captions are all empty is left out.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Columns, captions or a path are missing.
    """
    header, rows, spelled = _read_table(path)
    columns = _caption_columns(path, header)
    result: dict[str, tuple[str, ...]] = {}
    for line, row in rows:
        if not row["path"]:
            raise ValueError(f"line {line} of {path} has no path: fill it in or remove the line.")
        texts = tuple(row[column] for column in columns if row[column])
        if texts:
            result[row["path"]] = result.get(row["path"], ()) + texts
    notes = _note_empty(path, len(rows) * len(columns), sum(map(len, result.values())), spelled)
    return result, notes


def check_captions(path: Path, *, of_images: bool) -> None:
    """Look whether a table can be read and has the columns, before there are images to join.

    Args:
        path: The file.
        of_images: Whether it must say the image of every caption, as `read_image_captions` needs.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Columns, captions or, with `of_images`, a path are missing.
    """
    if of_images:
        read_image_captions(path)
        return
    header, *_ = _read_table(path)
    if not set(LABEL_COLUMNS) <= set(header):
        _caption_columns(path, header)


def _read_table(path: Path) -> tuple[list[str], list[Row], Counter[str]]:
    """Lower-case columns; line number and fields of every row; how captions say "missing".

    In captions line breaks and runs of spaces are made one space, and one that only says that it
    is missing is made empty.
    """
    rows: list[Row] = []
    words: Counter[str] = Counter()
    for line, row in read_table(Path(path), (), ("path", "label")):
        texts = {}
        for column, text in row.items():
            if column == "generated_text" or CAPTION_COLUMN.fullmatch(column):
                text = " ".join(text.split())
                if text and is_missing(text):
                    words[text.casefold()] += 1
                    text = ""
            texts[column] = text
        rows.append((line, texts))
    return list(rows[0][1]), rows, words


def _caption_columns(path: Path, header: Sequence[str]) -> tuple[str, ...]:
    """The columns that hold captions of the image in the column path, from left to right."""
    columns = tuple(column for column in header if CAPTION_COLUMN.fullmatch(column))
    if "path" in header and columns:
        return columns
    if "path" in header:
        missing = "caption"
    elif columns:
        missing = "path"
    else:
        missing = " or ".join(c for c in LABEL_COLUMNS if c not in header)
    if not missing:
        raise ValueError(
            f"{path} has the columns {' and '.join(LABEL_COLUMNS)}, which do not say what image a"
            " caption is of, and no column path: it must have path,caption or"
            " path,caption_1,caption_2,caption_3."
        )
    raise ValueError(
        f"{path} has no column {missing}, its first line is {','.join(header)!r}: it must have"
        f" {LAYOUTS}."
    )


def _codes(class_names: Sequence[str]) -> ClassCodes:
    """What a label may be called -> its number."""
    numbers = any(whole_number(name) is not None for name in class_names)
    return ClassCodes(class_names, with_numbers=not numbers)


def _refuse_unknown(
    path: Path,
    column: str,
    rows: Sequence[Row],
    values: Sequence[str],
    known: Container[str],
    words: str,
) -> None:
    bad = [
        f"line {line}: {value!r}"
        for (line, _), value in zip(rows, values, strict=True)
        if value not in known
    ]
    if bad:
        raise ValueError(
            f"{path} has {len(bad):,} rows whose {column} is not {words}: {first_few(bad)}."
        )


def _note_empty(path: Path, asked: int, found: int, spelled: Counter[str]) -> tuple[str, ...]:
    if not found:
        raise ValueError(f"{path} has no caption, all are empty: fill them in.")
    if found == asked:
        return ()
    words = ", ".join(map(repr, sorted(spelled)))
    written = f" ({spelled.total():,} of them: {words})" if spelled else ""
    return (f"{Path(path).name}: {asked - found:,} empty captions are left out{written}.",)
