"""The work directory: one folder a stage, written under a temporary name and renamed when whole.

A finished stage is a folder with `done.json` in it. What a stage depends on is its fingerprint:
the part of the config that it reads, its seed, and the fingerprints of the stages it reads from.
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ddb_jax.training.errors import UserError
from ddb_jax.training.files import read_json, write_json

log = logging.getLogger("ddb_jax")


def fingerprint(content: Any) -> str:
    """Hash of a JSON value, equal for equal content whatever the order of the keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Make `workdir` and hold it for this process; the lock ends with the process.

    Raises:
        UserError: It cannot be written to, or another process holds it.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = (workdir / ".lock").open("a+")
    except OSError as error:
        raise UserError(
            f"the work directory {workdir} cannot be written to ({error.strerror});"
            " give another one with --workdir."
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise UserError(
                f"the work directory {workdir} is in use by process {lock.read().strip() or '?'};"
                " wait for it, or give another one with --workdir."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def partial_folder(folder: Path) -> Path:
    """Where a stage writes until it is whole."""
    return folder.with_name(folder.name + ".partial")


def is_done(folder: Path, expected: str) -> bool:
    """Whether the stage has finished under this fingerprint."""
    done = folder / "done.json"
    return done.exists() and read_json(done)["fingerprint"] == expected


def finish_rename(folder: Path) -> None:
    """Name a folder whose stage was killed between its last write and the rename."""
    partial = partial_folder(folder)
    if (partial / "done.json").exists() and not folder.exists():
        os.rename(partial, folder)


def is_begun(folder: Path, expected: str) -> bool:
    """Whether an earlier run began the stage under this fingerprint and did not finish."""
    started = partial_folder(folder) / "started.json"
    return started.exists() and read_json(started)["fingerprint"] == expected


def previous_record(folder: Path) -> dict[str, Any] | None:
    """What the stage was last finished or begun with, whatever its fingerprint; None if never."""
    for path in (folder / "done.json", partial_folder(folder) / "started.json"):
        if path.exists():
            return read_json(path)
    return None


def open_stage(folder: Path, record: dict[str, Any]) -> Path:
    """The temporary folder to write the stage into, with what an earlier run left if it fits.

    What was made under another fingerprint is removed, and the log says so.

    Args:
        folder: The stage's final folder.
        record: What the stage depends on; its "fingerprint" decides what fits.
    """
    partial = partial_folder(folder)
    for stale in (folder, partial):
        if stale.exists() and not (stale == partial and is_begun(folder, record["fingerprint"])):
            log.info("removing %s, which other settings made", stale)
            shutil.rmtree(stale)
    if not partial.exists():
        partial.mkdir(parents=True)
        write_json(partial / "started.json", record)
    return partial


def close_stage(folder: Path, record: dict[str, Any]) -> None:
    """Write `done.json` and give the folder its final name."""
    partial = partial_folder(folder)
    size = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
    write_json(partial / "done.json", {**record, "bytes": size})
    (partial / "started.json").unlink(missing_ok=True)
    os.rename(partial, folder)
