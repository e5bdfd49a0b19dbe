"""Trees of image files for tests of listings, which open no image."""

import errno
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np


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
