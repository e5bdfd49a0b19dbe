"""An image set described by a CSV file: a path and a label per row, perhaps a split and a bias."""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ddb_jax.data.images.files import files_of
from ddb_jax.data.listing import Listing

SPLITS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


def list_csv(path: Path, *, name: str = "csv") -> Listing:
    """List the images named in a CSV file with columns path, label and perhaps split and bias.

    Paths are relative to the CSV file; their suffixes are not looked at. The index is by path, not
    by row. Without a split column all is train.

    Labels that are all integers are the classes 0 to K-1; otherwise they are names, numbered in
    alphabetical order. A bias that is empty or -1 is unknown. Bias values that are classes, in the
    way the labels are, say which class an image's bias goes with, so that it is aligned where they
    agree. Other values, say grass and water, get the number of the class in whose training images
    they are the most frequent.

    Args:
        path: The CSV file, UTF-8, with a header line.
        name: Name of the data set.

    Raises:
        FileNotFoundError: There is no such file, or an image is missing.
        ValueError: Columns are missing, a value is not one of these, a path comes twice, there is
            one class only, or a split has a class that train lacks.
    """
    path = Path(path)
    rows = read_table(path, ("path", "label"))
    _check_paths(path, rows)
    classes, labels = _code_labels(path, rows)
    splits = []
    for line, row in rows:
        split = row.get("split", "train").lower()
        if split not in SPLITS:
            raise ValueError(
                f"line {line} of {path} has split {row['split']!r}: it must be"
                f" {', '.join(list(SPLITS)[:-1])} or {list(SPLITS)[-1]}."
            )
        splits.append(SPLITS[split])
    trained = {label for label, split in zip(labels, splits, strict=True) if split == "train"}
    if not trained:
        raise ValueError(f"{path} has no row whose split is train: mark the training images so.")
    for label, split in zip(labels, splits, strict=True):
        if label not in trained:
            raise ValueError(
                f"the {split} split of {path} has class {classes[label]}, which train lacks: add"
                " training images of it or remove these rows."
            )
    bias, bias_names, notes = _code_bias(path, rows, classes, labels, splits)
    table = list(zip((row["path"] for _, row in rows), labels, bias, strict=True))
    by_split = {
        split: files_of(r for r, s in zip(table, splits, strict=True) if s == split)
        for split in ("train", "validation", "test")
        if split in splits
    }
    return Listing(name, path.parent, by_split, classes, bias_names, notes)


def read_table(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Line number and stripped fields, by lower-case column, of every row of a CSV file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a UTF-8 table with these columns, or has no rows.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}: check the path.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [column.strip().lower() for column in next(reader, [])]
            lines = [(reader.line_num, fields) for fields in reader if any(fields)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8 ({error}): save it as one.") from None
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder: give the CSV file.") from None
    except PermissionError:
        raise ValueError(
            f"{path} cannot be read, permission is denied: give the user who runs this the right"
            " to read it."
        ) from None
    missing = [column for column in columns if column not in header]
    if missing:
        raise ValueError(
            f"{path} has no column {' or '.join(missing)}, its first line is"
            f" {','.join(header)!r}: name the columns there, separated by commas."
        )
    if not lines:
        raise ValueError(f"{path} has no rows: add one line per image.")
    for line, fields in lines:
        if len(fields) != len(header):
            raise ValueError(
                f"line {line} of {path} has {len(fields)} fields and the first line {len(header)}:"
                " put quotes around fields with commas."
            )
    return [
        (line, dict(zip(header, map(str.strip, fields), strict=True))) for line, fields in lines
    ]


def _check_paths(path: Path, rows: Sequence[tuple[int, dict[str, str]]]) -> None:
    lines: dict[str, int] = {}
    for line, row in rows:
        for column in ("path", "label"):
            if not row[column]:
                raise ValueError(f"line {line} of {path} has no {column}: fill it in or remove it.")
        image = row["path"]
        if image in lines:
            raise ValueError(
                f"line {line} of {path} repeats {image} of line {lines[image]}: remove one."
            )
        lines[image] = line
        if not (path.parent / image).is_file():
            raise FileNotFoundError(
                f"line {line} of {path} names {image}, which is not a file in {path.parent}: paths"
                " are relative to the CSV file, with forward slashes."
            )


def _code_labels(
    path: Path, rows: Sequence[tuple[int, dict[str, str]]]
) -> tuple[tuple[str, ...], list[int]]:
    """Class names, and the label of every row."""
    values = [row["label"] for _, row in rows]
    if _all_integers(values):
        labels = list(map(int, values))
        numbers = sorted(set(labels))
        if numbers != list(range(len(numbers))):
            raise ValueError(
                f"the labels of {path} are {len(numbers)} integers from {numbers[0]} to"
                f" {numbers[-1]}: number the classes 0 to {len(numbers) - 1}, or give their names."
            )
        classes = tuple(map(str, numbers))
    else:
        classes = tuple(sorted(set(values)))
        code = {c: i for i, c in enumerate(classes)}
        labels = [code[value] for value in values]
    if len(classes) == 1:
        raise ValueError(f"{path} has one class only, {classes[0]}: classification needs two.")
    return classes, labels


def _code_bias(
    path: Path,
    rows: Sequence[tuple[int, dict[str, str]]],
    classes: tuple[str, ...],
    labels: Sequence[int],
    splits: Sequence[str],
) -> tuple[list[int], tuple[str, ...], tuple[str, ...]]:
    """Bias of every row, names of the bias values, notes."""
    values = [row.get("bias", "") for _, row in rows]
    values = ["" if value == "-1" else value for value in values]
    known = sorted(set(values) - {""})
    if not known:
        return [-1] * len(rows), (), ()
    numbered = _all_integers(classes)
    if _all_integers(known) if numbered else set(known) <= set(classes):
        code = {value: int(value) if numbered else classes.index(value) for value in known}
        if min(code.values()) < 0:
            raise ValueError(f"{path} has a negative bias: it must be a class, or empty.")
        largest = max(code.values())  # above the classes: a bias that goes with none
        names = (*classes, *map(str, range(len(classes), largest + 1)))
        note = f"The bias column of {path.name} names the class that every image's bias goes with."
    else:
        paired = _pair_with_classes(path, classes, labels, splits, values)
        names = (*paired, *(value for value in known if value not in paired))
        code = {value: i for i, value in enumerate(names)}
        pairs = ", ".join(f"{value} with {c}" for value, c in zip(paired, classes, strict=True))
        note = (
            f"Bias values of {path.name} go with the class in whose training images they are the"
            f" most frequent: {pairs}."
        )
    return [code.get(value, -1) for value in values], names, (note,)


def _pair_with_classes(
    path: Path,
    classes: tuple[str, ...],
    labels: Sequence[int],
    splits: Sequence[str],
    values: Sequence[str],
) -> list[str]:
    """The most frequent bias value of every class, if it is one-to-one."""
    counts = [Counter[str]() for _ in classes]
    for label, split, value in zip(labels, splits, values, strict=True):
        if split == "train" and value:
            counts[label][value] += 1
    paired = []
    for c, count in zip(classes, counts, strict=True):
        first, second = (*count.most_common(2), ("", 0), ("", 0))[:2]
        if first[1] == second[1] or first[0] in paired:
            raise ValueError(
                f"the bias column of {path} cannot be paired with the classes, for the training"
                f" images of {c} have no most frequent value of their own: write into it the class"
                " that each image's bias goes with."
            )
        paired.append(first[0])
    return paired


def _all_integers(values: Sequence[str]) -> bool:
    return all(re.fullmatch(r"[+-]?[0-9]+", value) for value in values)
