"""The table of bias scores: one row for every real training and validation image, as CSV."""

import csv
import io
from pathlib import Path

import numpy as np

from ddb_jax.runtime.errors import UserError
from ddb_jax.runtime.files import read_rows, write_atomically

# index: position in its split; probability and loss: of the image's own label under the amplifier;
# rank_in_class: 1 is the highest loss of the class; error_set: the amplifier misclassifies it;
# pseudo_conflicting: the configured rule's verdict; bias and conflicting: empty where unknown.
COLUMNS = {
    "index": int,
    "path": str,
    "split": str,
    "label": int,
    "predicted": int,
    "probability": float,
    "loss": float,
    "pseudo_group": str,
    "rank_in_class": int,
    "error_set": int,
    "pseudo_conflicting": int,
    "bias": int,
    "conflicting": int,
}


def write_scores(path: Path, columns: dict[str, np.ndarray]) -> None:
    """Write the table; `columns` maps every name of COLUMNS to its values, -1 for unknown."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in zip(*(columns[name] for name in COLUMNS), strict=True):
        writer.writerow(
            "" if name in ("bias", "conflicting") and value < 0 else _format(kind, value)
            for (name, kind), value in zip(COLUMNS.items(), row, strict=True)
        )
    write_atomically(path, text.getvalue())


def _format(kind: type, value: object) -> str:
    # 9 significant digits give a float32 back exactly.
    return f"{value:.9g}" if kind is float else str(value)


def read_scores(path: Path) -> dict[str, np.ndarray]:
    """Read what `write_scores` wrote; unknown bias comes back as -1.

    Raises:
        UserError: A column is missing.
    """
    rows = read_rows(path)
    missing = [name for name in COLUMNS if rows and name not in rows[0]]
    if missing:
        raise UserError(f"{path} lacks the columns {', '.join(missing)}.")
    return {
        name: np.array(
            [row[name] if kind is str else kind(row[name] or -1) for row in rows],
            dtype={int: np.int32, float: np.float32, str: object}[kind],
        )
        for name, kind in COLUMNS.items()
    }


def select_split(table: dict[str, np.ndarray], split: str) -> dict[str, np.ndarray]:
    """The rows of one split."""
    rows = table["split"] == split
    return {name: column[rows] for name, column in table.items()}


def rank_in_class(labels: np.ndarray, scores: np.ndarray | None = None) -> np.ndarray:
    """int32 [N]: 1 for the highest score of its class, 2 for the next, and so on.

    Ties, and all where there are no scores, are ranked by position.

    Args:
        labels: int [N], of any values.
        scores: float [N].
    """
    scores = np.zeros(len(labels)) if scores is None else scores
    ranks = np.zeros(len(labels), np.int32)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = np.argsort(-scores[members], kind="stable")
        ranks[members[order]] = np.arange(1, len(members) + 1)
    return ranks
