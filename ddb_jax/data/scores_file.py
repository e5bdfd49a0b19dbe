"""Bias scores from elsewhere: a CSV file that says how suspicious every training image is."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ddb_jax.data.names import ClassCodes, composed, is_missing, plain, whole_number
from ddb_jax.data.sets.csv_table import SPLITS
from ddb_jax.data.table_file import Row, read_table
from ddb_jax.runtime.errors import first_few

FLAG_COLUMNS = ("pseudo_group", "pseudo_conflicting", "conflicting_guess")
# Columns in which our own tables write -1 for what is not known.
MINUS_ONE = ("loss", "predicted", "probability")
READ = ("path", "split", "index", "label", "score", *MINUS_ONE, *FLAG_COLUMNS)
LARGEST = 3e38  # of a float32


class GivenScores(NamedTuple):
    """Scores of one split from a file, in the order of its images; None for missing columns.

    Attributes:
        loss: float32 [N], at least 0; higher is more suspicious of conflicting with the bias.
        score: float64 [N], finite; likewise.
        flagged: bool [N], flagged as bias-conflicting.
        predicted: int32 [N], class that a biased model gives.
        probability: float32 [N] in 0..1, that it gives the image's own label.
    """

    loss: np.ndarray | None = None
    score: np.ndarray | None = None
    flagged: np.ndarray | None = None
    predicted: np.ndarray | None = None
    probability: np.ndarray | None = None


def read_given_scores(
    path: Path,
    paths_by_split: Mapping[str, Sequence[str]],
    labels_by_split: Mapping[str, np.ndarray],
    class_names: Sequence[str],
) -> tuple[dict[str, GivenScores], tuple[str, ...]]:
    """Read a CSV file of scores and join it to the images.

    Columns: `path`, as the data set names its images, with `split` where splits share names; or
    `split` and `index`, the position in the split. At least one of `loss`, `score`, and a verdict:
    `pseudo_group` ("<class>/aligned" or "<class>/conflicting"), `pseudo_conflicting` or
    `conflicting_guess` (0 or 1). Perhaps `predicted` (class name or number), `probability`, and
    `label`, which must then be the images' own. Others are not read. A column without a single
    value (all missing, or -1 where that is no value) counts as absent.

    Args:
        path: The file, UTF-8, with a header line.
        paths_by_split: Images of "train", "validation" and perhaps "test", in order; rows of the
            last are ignored.
        labels_by_split: int [N] of the same splits.
        class_names: Name of every label.

    Returns:
        "train" and "validation" -> GivenScores, all None for a validation split without rows; and
        notes for the log.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Columns or rows are missing, a row is of no image or of one that has a row
            already, or a value is not one of these.
    """
    rows = read_table(path, (), READ)
    found = _join(path, rows, paths_by_split)
    notes = []
    if found["test"]:
        notes.append(f"{path.name}: its {len(found['test']):,} rows of test images are not read.")
    result = {}
    for split in ("train", "validation"):
        names = paths_by_split[split]
        missing = [names[i] for i in range(len(names)) if i not in found[split]]
        if split == "validation" and not found[split]:
            result[split] = GivenScores()
            continue
        if missing:
            hint = "" if split == "train" else ", or to no validation image"
            raise ValueError(
                f"{path} lacks {len(missing):,} of {len(names):,} {split} images"
                f" ({first_few(missing)}): give a row to each of them{hint}."
            )
        ordered = [found[split][i] for i in range(len(names))]
        result[split] = _values(path, ordered, labels_by_split[split], class_names)
    train = result["train"]
    if train.loss is None and train.score is None and train.flagged is None:
        raise ValueError(
            f"{path} has no scores of training images: fill in a column loss, score,"
            f" {' or '.join(FLAG_COLUMNS)}."
        )
    for name, values in (("loss", train.loss), ("score", train.score)):
        if values is not None and np.all(values == values[0]):
            notes.append(
                f"{path.name} gives all training images the same {name}, {values[0]:g}: it does not"
                " tell them apart, and nothing can be found by it."
            )
    return result, tuple(notes)


def _join(
    path: Path, rows: Sequence[Row], paths_by_split: Mapping[str, Sequence[str]]
) -> dict[str, dict[int, Row]]:
    """The row of every image that has one, by split and position."""
    header = rows[0][1]
    by_index = "split" in header and "index" in header
    with_split = "split" in header
    known: dict[tuple[str, str], tuple[str, int]] = {}
    shared = ""
    for split, names in paths_by_split.items():
        for i, name in enumerate(names):
            key = (split if with_split else "", composed(name))
            shared = shared or (name if key in known else "")
            known[key] = split, i
    by_path = "path" in header and not shared
    if not by_path and not by_index:
        reason = f", where several images are named {shared}" if shared else ""
        raise ValueError(
            f"{path} cannot be joined to the images{reason}: give the columns"
            f" {'split and path' if shared and not with_split else 'path'}, or split and index."
        )
    if not by_path:
        names = paths_by_split.items()
        known = {(split, str(i)): (split, i) for split, paths in names for i in range(len(paths))}

    found: dict[str, dict[int, Row]] = {"train": {}, "validation": {}, "test": {}}
    strange, repeated = [], []
    for line, row in rows:
        split = SPLITS.get(plain(row["split"]).lower(), row["split"]) if with_split else ""
        key = split, composed(row["path"]) if by_path else _position(row["index"])
        if key not in known:
            strange.append(f"line {line}: {' '.join(key).strip() or 'empty'}")
            continue
        split, i = known[key]
        if i in found[split]:
            repeated.append(f"line {line}: {key[1]}")
        found[split][i] = line, row
    example = f"{paths_by_split['train'][0]!r}" if by_path else "'train', 0"
    if strange:
        raise ValueError(
            f"{path} has {len(strange):,} of {len(rows):,} rows that are of no image"
            f" ({first_few(strange)}): images are named as in {example}; fix or delete them."
        )
    if repeated:
        raise ValueError(
            f"{path} has {len(repeated):,} rows of images that have a row already"
            f" ({first_few(repeated)}): leave one of each."
        )
    return found


def _position(text: str) -> str:
    """An index as it is written at its shortest: 3 for 3.0, which pandas makes of it."""
    value = whole_number(text)
    return text if value is None else str(value)


def _values(
    path: Path, rows: Sequence[Row], labels: np.ndarray, class_names: Sequence[str]
) -> GivenScores:
    """The columns of one split, in the order of its images."""

    def column(name: str, parse: Callable[[str], object], words: str) -> list | None:
        fields = [(line, row.get(name, "")) for line, row in rows]
        if all(
            is_missing(text) or (name in MINUS_ONE and whole_number(text) == -1)
            for _, text in fields
        ):
            return None
        values, bad = [], []
        for line, text in fields:
            try:
                values.append(parse(text))
            except (ValueError, KeyError):
                bad.append(f"line {line}: {text!r}")
        if bad:
            raise ValueError(f"{path} has {len(bad):,} values of {name} that are not {words}"
                             f" ({first_few(bad)}): fix them.")  # fmt: skip
        return values

    classes = ClassCodes(class_names)
    kinds = {"aligned": False, "conflicting": True}

    def of_group(text: str) -> tuple[int, bool]:
        name, _, kind = text.rpartition("/")
        return classes[name], kinds[kind]

    class_words = f"a class ({first_few(class_names)}) or its number"
    given_labels = column("label", classes.__getitem__, class_words)
    groups = column("pseudo_group", of_group, "<class>/aligned or <class>/conflicting")
    own = labels.tolist()
    _refuse_difference(path, rows, "label", given_labels, "class of the image", own)
    if groups:
        named = [label for label, _ in groups]
        _refuse_difference(path, rows, "pseudo_group", named, "class of the image", own)
    verdicts = {"pseudo_group": groups and [flag for _, flag in groups]}
    verdicts |= {name: column(name, _yes_or_no, "0 or 1") for name in FLAG_COLUMNS[1:]}
    verdicts = {name: verdict for name, verdict in verdicts.items() if verdict}
    first = next(iter(verdicts), "")
    for name, verdict in verdicts.items():
        _refuse_difference(path, rows, name, verdict, f"verdict of {first}", verdicts[first])

    def array(values: list | None, dtype: type) -> np.ndarray | None:
        return None if values is None else np.array(values, dtype)

    return GivenScores(
        loss=array(column("loss", _between(0.0, LARGEST), "numbers of at least 0"), np.float32),
        score=array(column("score", _between(-LARGEST, LARGEST), "finite numbers"), np.float64),
        flagged=array(verdicts.get(first), bool),
        predicted=array(column("predicted", classes.__getitem__, class_words), np.int32),
        probability=array(column("probability", _between(0.0, 1.0), "between 0 and 1"), np.float32),
    )


def _between(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = float(text)
        if "_" in text or not (math.isfinite(value) and low <= value <= high):
            raise ValueError(text)
        return value

    return parse


def _yes_or_no(text: str) -> bool:
    value = whole_number(text)
    word = plain(text).lower() if value is None else str(value)
    return {"0": False, "1": True, "false": False, "true": True}[word]


def _refuse_difference(
    path: Path, rows: Sequence[Row], name: str, given: list | None, words: str, expected: list
) -> None:
    """Stop if an existing column has wrong values."""
    pairs = zip(rows, given or expected, expected, strict=True)
    lines = [f"line {line}" for (line, _), value, right in pairs if value != right]
    if lines:
        raise ValueError(
            f"{path} has {len(lines):,} rows whose {name} is not the {words} ({first_few(lines)}):"
            " fix them, or check whether the rows are of other images."
        )
