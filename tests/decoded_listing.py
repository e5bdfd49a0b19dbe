"""A listing of nine small images, for the tests of decoding."""

import numpy as np

SIZE = 8
TRAIN = tuple(f"train/{name}.png" for name in "dbac")  # not in the order of their names
SPLITS = {
    "train": TRAIN,
    "validation": ("train/e.png", "train/f.png"),
    "test": ("test/a.png", "test/g.png", "test/b.png"),
}
PATHS = tuple(path for paths in SPLITS.values() for path in paths)


def pixels(path):
    """What is in the file of this path; all differ."""
    return np.random.default_rng(PATHS.index(path)).integers(0, 256, (SIZE, SIZE, 3), np.uint8)


def the_cache(tmp_path):
    (folder,) = (tmp_path / "cache").iterdir()
    return folder
