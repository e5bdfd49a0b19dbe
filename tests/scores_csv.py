"""Fourteen images of two classes, and files of scores about them."""

import numpy as np

CLASSES = ("cat", "big/dog")
PATHS = {
    "train": [f"t{i}.png" for i in range(8)],
    "validation": ["v0.png", "v1.png", "v2.png", "v3.png"],
    "test": ["s0.png", "s1.png"],
}
LABELS = {
    "train": np.array([0, 0, 0, 0, 1, 1, 1, 1]),
    "validation": np.array([0, 0, 1, 1]),
    "test": np.array([0, 1]),
}
LOSSES = [0.1, 0.2, 0.3, 4.0, 0.1, 3.0, 5.0, 0.4]  # of the training images, in order
PREDICTED = [0, 0, 0, 1, 1, 0, 0, 1]


def csv(tmp_path, header, rows):
    path = tmp_path / "mine.csv"
    lines = [header, *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def train_rows(*columns):
    return list(zip(PATHS["train"], *columns, strict=True))


NUMBERS = list(range(8))
