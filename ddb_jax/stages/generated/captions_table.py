"""The table of captions that stages exchange: one row per caption, as CSV."""

import csv
import io
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ddb_jax.runtime.errors import UserError
from ddb_jax.runtime.files import read_rows, write_atomically
from ddb_jax.stages.context import Context

log = logging.getLogger("ddb_jax")

CAPTIONS = "captions.csv"
COLUMNS = ("label", "index", "caption")


class CaptionTable(NamedTuple):
    """Captions in the order of the file.

    Attributes:
        labels: int32 [N], class of each.
        indices: int32 [N], the training image that each describes; -1 where nobody knows.
        captions: N texts.
    """

    labels: np.ndarray
    indices: np.ndarray
    captions: tuple[str, ...]


def write_captions(folder: Path, table: CaptionTable) -> None:
    """Write `captions.csv`."""
    rows = zip(table.labels.tolist(), table.indices.tolist(), table.captions, strict=True)
    write_rows(folder / CAPTIONS, COLUMNS, rows)


def read_caption_table(folder: Path) -> CaptionTable:
    """Read what `write_captions` wrote."""
    rows = read_rows(folder / CAPTIONS)
    return CaptionTable(
        np.array([int(row["label"]) for row in rows], np.int32),
        np.array([int(row["index"]) for row in rows], np.int32),
        tuple(row["caption"] for row in rows),
    )


def write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a small CSV file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_atomically(path, text.getvalue())


def check_classes(context: Context, labels: np.ndarray, why: str, remedy: str) -> None:
    """Refuse captions that leave a class without any, or warn, as the config says.

    Args:
        context: What the stage is given.
        labels: int [N], classes of the captions that there are.
        why: Why a class has none, for the message.
        remedy: What the user can do about it.

    Raises:
        UserError: A class has none and text_filter.allow_empty_classes is not set, or all have
            none.
    """
    counts = np.bincount(labels, minlength=context.num_classes)
    names = [context.dataset.class_names[i] for i in np.flatnonzero(counts == 0)]
    if not names:
        return
    sentence = f"no caption of class {', '.join(names)} {why}"
    if not counts.any() or not context.config.text_filter.allow_empty_classes:
        raise UserError(
            f"{sentence}: {remedy}, or set config.text_filter.allow_empty_classes=True to draw no"
            " image of such a class."
            if counts.any()
            else f"{sentence}: {remedy}."
        )
    log.warning("warning: %s: %s, so that none of its images is drawn", context.name, sentence)
