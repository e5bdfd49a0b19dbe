"""What a manifest says of a package that the test writes, in git and out of it."""

import hashlib
import subprocess

import numpy as np
import pytest

import ddb_jax
from ddb_jax.runtime.manifest import code_version, library_versions, source_hash


@pytest.fixture
def package(tmp_path):
    (tmp_path / "checkout/pack/inner").mkdir(parents=True)
    (tmp_path / "checkout/pack/__init__.py").write_bytes(b"")
    (tmp_path / "checkout/pack/b.py").write_bytes(b"x = 1\n")
    (tmp_path / "checkout/pack/inner/a.py").write_bytes(b"y = 2\n")
    (tmp_path / "checkout/pack/notes.txt").write_bytes(b"not code")
    return tmp_path / "checkout/pack"


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def copy_of(package, name):
    """Another folder of the same content, which no call has seen before."""
    return package.rename(package.with_name(name))


def test_hash_by_hand(package):
    text = b"__init__.py\x000\x00" + b"b.py\x006\x00x = 1\n" + b"inner/a.py\x006\x00y = 2\n"
    assert source_hash(package) == hashlib.sha256(text).hexdigest()[:16]
    (package / "notes.txt").write_bytes(b"changed")
    assert source_hash(package) == hashlib.sha256(text).hexdigest()[:16]
    (package / "b.py").rename(package / "c.py")
    assert source_hash(package) != hashlib.sha256(text).hexdigest()[:16]


def test_outside_git(package, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(package.parent.parent))
    found = code_version(package)
    assert found == {
        "version": ddb_jax.__version__,
        "commit": None,
        "dirty": None,
        "source_sha256": source_hash(package),
    }


def test_without_a_git_program(package, monkeypatch):
    git(package.parent, "init", "-q")
    git(package.parent, "add", ".")
    git(package.parent, "commit", "-qm", "first")
    monkeypatch.setenv("PATH", "")
    assert code_version(package)["commit"] is None


def test_in_a_checkout(package):
    root = package.parent
    git(root, "init", "-q")
    # A package beside what is tracked, as an environment in a project is, has no commit.
    (root / "readme").write_text("a project")
    git(root, "add", "readme")
    git(root, "commit", "-qm", "zero")
    assert code_version(package)["commit"] is None

    package = copy_of(package, "second")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    (root / "beside.txt").write_text("of no interest")
    found = code_version(package)
    assert found["commit"] == git(root, "rev-parse", "HEAD").strip()
    assert found["dirty"] is False

    # Once a process: what changes while it runs does not show, and the result may be changed.
    found["dirty"] = "mine"
    (package / "new.py").write_text("z = 3\n")
    assert code_version(package)["dirty"] is False
    package = copy_of(package, "third")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "second")
    (package / "newer.py").write_text("z = 4\n")
    assert code_version(package)["dirty"] is True


def test_this_package_and_its_libraries():
    found = code_version()
    assert found["version"] == ddb_jax.__version__ and len(found["source_sha256"]) == 16
    assert library_versions()["numpy"] == np.__version__
    assert {"jax", "flax", "optax"} <= library_versions().keys()
