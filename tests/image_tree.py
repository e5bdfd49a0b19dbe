"""Trees of image files: empty ones for listings, which open no image, and small pictures."""

import errno
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def make_tree(root: Path, paths: Iterable[str]) -> Path:
    """Empty files at these paths; a path that ends in / is an empty folder."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if path.endswith("/"):
            (root / path).mkdir(exist_ok=True)
        else:
            (root / path).touch()
    return root


def table(files) -> list[tuple[str, int, int]]:
    """Rows (path, label, bias) of one split, after a check of its types."""
    assert files.labels.dtype == files.bias.dtype == np.int32
    assert len(files.paths) == len(files.labels) == len(files.bias)
    return list(zip(files.paths, files.labels.tolist(), files.bias.tolist(), strict=True))


def refuse_folder(monkeypatch, folder: Path) -> None:
    """Reading this folder fails for want of permission, also for root."""
    scandir = os.scandir

    def refuse(path):
        if Path(path) == folder:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)


def pictures(folder: Path, count: int) -> None:
    """So many PNG files like PIXELS, no two of one name and folder name alike."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        rng = np.random.default_rng([i, *folder.name.encode()])
        Image.fromarray(rng.permutation(PIXELS)).save(folder / f"{i}.png")
