"""An image set described by a CSV file: a path and a label per row, perhaps a split and a bias."""

from collections.abc import Sequence
from pathlib import Path

from ddb_jax.data.images.files import files_of
from ddb_jax.data.listing import Listing
from ddb_jax.data.names import plain
from ddb_jax.data.sets.label_codes import code_bias, code_labels
from ddb_jax.data.table_file import image_files, read_table

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

    Labels that are all whole numbers are the classes 0 to K-1; otherwise they are names, numbered
    in alphabetical order. Names that look the same are one, names that differ only in case are
    refused, and so is a label that means "missing" (`names.MISSING`). For the bias see `code_bias`.

    Args:
        path: The CSV file, UTF-8, with a header line.
        name: Name of the data set.

    Raises:
        FileNotFoundError: There is no such file, or an image is missing.
        ValueError: Columns are missing, a value is not one of these, a file comes twice, there is
            one class only, or a split has a class that train lacks.
    """
    path = Path(path)
    rows = read_table(path, ("path", "label"), ("split", "bias"))
    files = image_files(path, rows, "path")
    places = [f"line {line}" for line, _ in rows]
    texts = [row["label"] for _, row in rows]
    classes, labels, label_notes = code_labels(str(path), texts, places)
    splits = []
    for line, row in rows:
        split = plain(row.get("split", "train")).lower()
        if split not in SPLITS:
            raise ValueError(
                f"line {line} of {path} has split {row['split']!r}: it must be"
                f" {', '.join(list(SPLITS)[:-1])} or {list(SPLITS)[-1]}."
            )
        splits.append(SPLITS[split])
    check_train_has_all(str(path), classes, labels, splits)
    biases = [row.get("bias", "") for _, row in rows]
    bias, bias_names, notes = code_bias(str(path), biases, places, classes, labels, splits)
    table = list(zip(files, labels, bias, strict=True))
    by_split = {
        split: files_of(r for r, s in zip(table, splits, strict=True) if s == split)
        for split in ("train", "validation", "test")
        if split in splits
    }
    return Listing(name, path.parent, by_split, classes, bias_names, (*label_notes, *notes))


def check_train_has_all(
    where: str, classes: Sequence[str], labels: Sequence[int], splits: Sequence[str]
) -> None:
    """Stop where a split has a class without a training image.

    Raises:
        ValueError: One has.
    """
    trained = {label for label, split in zip(labels, splits, strict=True) if split == "train"}
    if not trained:
        raise ValueError(f"{where} has no row whose split is train: mark the training images so.")
    for label, split in zip(labels, splits, strict=True):
        if label not in trained:
            raise ValueError(
                f"the {split} split of {where} has class {classes[label]}, which train lacks: add"
                " training images of it or remove these rows."
            )
