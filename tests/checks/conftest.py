"""A small set of images, and a run that must end in one line."""

import pytest
from image_tree import pictures

from ddb_jax.main import main


@pytest.fixture
def refused(tmp_path, monkeypatch, capfd):
    """Runs main, which must end in one line on stderr and nothing of a traceback; returns it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def call(root, *more, config="folder"):
        fields = [f"--config.data.root={root}"] if root else []
        arguments = [f"--config=configs/{config}.py:smoke", f"--workdir={tmp_path / 'run'}"]
        assert main([*arguments, *fields, *more]) == 1
        error = capfd.readouterr().err
        assert error.startswith("error: ") and error.endswith(".\n") and error.count("\n") == 1
        assert not (tmp_path / "run").exists()
        return error

    return call


@pytest.fixture
def pets(tmp_path):
    for name in ("cat", "dog"):
        pictures(tmp_path / "pets" / name, 8)
    return tmp_path / "pets"
