"""Which code and which libraries made a result."""

import functools
import hashlib
import importlib.metadata
import os
import subprocess
from pathlib import Path

import ddb_jax

PACKAGE = Path(ddb_jax.__file__).parent
LIBRARIES = (
    "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "scipy",
    "scikit-learn", "pillow",
)  # fmt: skip


def code_version(package: Path = PACKAGE) -> dict[str, str | bool | None]:
    """Version, commit and hash of the running code; computed once per process.

    Args:
        package: Folder of the package.

    Returns:
        version: of the package. commit: of the git checkout that the package is tracked in, and
        dirty: whether files of the package differ from it or are new; both None without one.
        source_sha256: 16 hexadecimal digits of the hash of all its .py files, names and content.
    """
    return dict(_code_version(package))


@functools.cache
def _code_version(package: Path) -> dict[str, str | bool | None]:
    version = {"version": ddb_jax.__version__, "commit": None, "dirty": None}
    # A package installed inside another project's checkout does not belong to that project.
    if _git(package, "ls-files", "--error-unmatch", "__init__.py"):
        version["commit"] = (_git(package, "rev-parse", "HEAD") or "").strip() or None
    if version["commit"]:
        changes = _git(package, "status", "--porcelain", "--", ".")
        version["dirty"] = None if changes is None else bool(changes.strip())
    return {**version, "source_sha256": source_hash(package)}


def source_hash(package: Path) -> str:
    """The first 16 hexadecimal digits of SHA-256 over every .py file's name and content."""
    digest = hashlib.sha256()
    files = {path.relative_to(package).as_posix(): path for path in package.rglob("*.py")}
    for name in sorted(files):
        content = files[name].read_bytes()
        # The length keeps the end of one file and the start of the next apart.
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def library_versions() -> dict[str, str]:
    """Version of every installed library in LIBRARIES; computed once per process."""
    return dict(_library_versions())


@functools.cache
def _library_versions() -> dict[str, str]:
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints in that folder; None without git, without a checkout, or if it fails."""
    try:
        result = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return result.stdout
