"""What costs the user data is said first: by a run before the counts, and by --dry_run."""

import numpy as np
import pytest
from PIL import Image

from ddb_jax.main import main
from ddb_jax.run import pipeline

WARNING = "warning: 3 of 23 files of cat are not read (HEIC), for example cat/0.heic: "


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    """Of main, on twenty images of each of two classes and three photographs that are not read."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        folder = tmp_path / "pets" / name
        folder.mkdir(parents=True)
        for i in range(20):
            pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    for i in range(3):
        (tmp_path / "pets" / "cat" / f"{i}.heic").write_bytes(b"\0\0\0\x18ftypheic")
    root = f"--config.data.root={tmp_path / 'pets'}"
    return ["--config=configs/folder.py:smoke", root, f"--workdir={tmp_path / 'run'}"]


def test_dry_run_prints_them_before_the_tasks(arguments, capsys):
    assert main([*arguments, "--dry_run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    first = {
        start: next(i for i, line in enumerate(lines) if line.startswith(start))
        for start in (WARNING, "warning: 40 of 40 images", "3 files that are not", "would run")
    }
    assert first[WARNING] == 0 and list(first.values()) == sorted(first.values())


def test_a_run_logs_them_before_notes_and_counts(arguments, monkeypatch, capfd):
    monkeypatch.setattr(pipeline, "_run_task", lambda *_: None)
    assert main(arguments) == 0
    lines = [line for text in capfd.readouterr() for line in text.splitlines()]
    place = {
        what: next(i for i, line in enumerate(lines) if what in line)
        for what in (WARNING, "3 files that are not images", "pets train: 28 images")
    }
    assert list(place.values()) == sorted(place.values())
