"""What a wheel holds, and a run of it in a folder of somebody else's."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ddb_jax.checks.config import load_config
from ddb_jax.runtime.errors import UserError

ROOT = Path(__file__).parent.parent
CONFIGS = sorted(path.name for path in (ROOT / "configs").glob("*.py"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder that a wheel would be unpacked to: `setup.py build_py`, offline."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    source, target = folder / "source", folder / "site-packages"
    source.mkdir()
    for name in ("setup.py", "README.md", "ddb_jax", "configs"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    command = [sys.executable, "setup.py", "-q", "build_py", f"--build-lib={target}"]
    subprocess.run(command, check=True, cwd=source, capture_output=True)
    return target


def in_folder(folder, paths, *command):
    """Run Python in `folder` with these folders on its path; its output."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    command = [sys.executable, *command]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


LOAD = (
    "import sys; from ddb_jax.checks.config import load_config\n"
    "c = load_config(sys.argv[1], ['--config.diffusion.num_steps=7'])\n"
    "import ddb_jax; print(ddb_jax.__file__, c.name, c.diffusion.num_steps)\n"
    "print(getattr(sys.modules.get('configs'), '__file__', None))\n"
)


def test_the_wheel_holds_the_configs_in_the_package_and_nothing_beside_it(installed):
    assert [path.name for path in installed.iterdir()] == ["ddb_jax"]
    assert sorted(path.name for path in (installed / "ddb_jax/configs").iterdir()) == CONFIGS
    expected = {p.relative_to(ROOT) for p in (ROOT / "ddb_jax").rglob("*.py")}
    found = {p.relative_to(installed) for p in installed.rglob("*.py")}
    assert expected <= found


def test_configs_load_in_an_empty_folder_beside_a_foreign_package_configs(installed, tmp_path):
    foreign, empty = tmp_path / "foreign", tmp_path / "empty"
    (foreign / "configs").mkdir(parents=True)
    (foreign / "configs/__init__.py").write_text("raise ImportError('of another project')\n")
    empty.mkdir()
    out = in_folder(empty, [foreign, installed], "-c", LOAD, "configs/digits.py:smoke")
    assert out.stdout == f"{installed}/ddb_jax/__init__.py digits_smoke 7\nNone\n", out.stderr


def test_a_config_of_ones_own_starts_from_the_base(tmp_path, monkeypatch):
    """A file in the current folder comes before the package's of the same name."""
    monkeypatch.chdir(tmp_path)
    assert load_config("configs/digits.py", []).name == "digits"
    Path("configs").mkdir()
    Path("configs/digits.py").write_text(
        "from ddb_jax.configs import base\n\n"
        "def get_config(preset=''):\n    c = base.get_config()\n    c.name = 'mine'\n    return c\n"
    )
    assert load_config("configs/digits.py", []).name == "mine"
    assert load_config("configs/bar.py", []).name == "bar"
    with pytest.raises(UserError, match=r"no config file bar.py: check the path"):
        load_config("bar.py", [])
    with pytest.raises(UserError, match=r"configs/bat.py; the nearest .* is configs/bar.py"):
        load_config("configs/bat.py", [])


def test_nothing_imports_a_top_level_module_configs():
    rooms = ("ddb_jax", "configs", "tests", "docs")
    for path in (path for room in rooms for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "configs" for name in names), path


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--help"], 0, "--dry_run"),
        (["--stage=score"], 2, "required: --config"),
        (["--config=c.py", "--methods=erm"], 2, "unknown arguments: --methods=erm"),
        (["--config=c.py", "--dry_run=all"], 2, "invalid choice: 'all'"),
    ],
)
def test_help_and_wrong_flags_are_answered_without_jax(arguments, status, words):
    code = (
        "import sys, ddb_jax.main as m\n"
        "try:\n    m.command_line()\nexcept SystemExit as end:\n    print('status', end.code)\n"
        "print('jax' in sys.modules)\n"
    )
    out = in_folder(ROOT, [], "-c", code, *arguments)
    assert out.stdout.endswith(f"status {status}\nFalse\n"), out
    assert words in out.stdout + out.stderr
