"""The work directory: one folder a stage, with `done.json` in it once the stage has finished.

A local stage is written under a temporary name and renamed when complete. Object stores cannot
rename a folder: there a stage is written in place, and `done.json`, written last, marks it as
complete. A stage's fingerprint covers the part of the config that it reads, its seed, and the
fingerprints of the stages it reads from.
"""

import contextlib
import functools
import hashlib
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from ddb_jax.runtime.errors import UserError, first_line
from ddb_jax.runtime.files import (
    DamagedFile,
    first_process,
    is_local,
    make_folder,
    read_json,
    remove,
    size_of,
    write_json,
)
from ddb_jax.runtime.lock import Lock, try_lock
from ddb_jax.runtime.processes import barrier

log = logging.getLogger("ddb_jax")

SEEN_WITHIN = 120  # seconds
LISTS = ("captions_so_far.json",)  # JSON files of stages that hold a list; the others, an object


def fingerprint(content: Any) -> str:
    """Hash of a JSON value, equal for equal content whatever the order of the keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Make `workdir` and hold it for this process.

    A local lock ends with the process; where the file system has none, a warning says so. An object
    store has no locks: a mark is there while the run lasts, and who finds one is warned.

    Raises:
        UserError: It cannot be written to, or another process holds it.
    """
    with _locked(workdir) if is_local(workdir) else _marked(workdir):
        yield


@contextlib.contextmanager
def _locked(workdir: Path) -> Iterator[None]:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = (workdir / ".lock").open("a+")
    except OSError as error:
        raise UserError(
            f"the work directory {workdir} cannot be written to ({error.strerror});"
            " give another one with --workdir."
        ) from error
    with lock:
        if try_lock(lock, unprotected="two runs in one work directory spoil it") is Lock.TAKEN:
            lock.seek(0)
            raise UserError(
                f"the work directory {workdir} is in use by process {lock.read().strip() or '?'};"
                " wait for it, or give another one with --workdir."
            )
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@contextlib.contextmanager
def _marked(workdir: Path) -> Iterator[None]:
    mark = workdir / ".lock"
    try:
        if mark.exists():
            log.warning(
                "warning: %s is in use by %s, or that run was killed; two runs in one work"
                " directory corrupt it", workdir, mark.read_text(),
            )  # fmt: skip
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        mark.write_text(f"process {os.getpid()} on {socket.gethostname()} since {since}")
    except Exception as error:  # every store's library raises different types
        raise UserError(
            f"the work directory {workdir} cannot be written to ({first_line(error)});"
            " give another one with --workdir."
        ) from error
    try:
        yield
    finally:
        with contextlib.suppress(Exception):  # the error that ended the run matters more
            mark.unlink(missing_ok=True)


def partial_folder(folder: Path) -> Path:
    """Where a stage writes until it is complete."""
    return folder.with_name(folder.name + ".partial") if is_local(folder) else folder


def is_done(folder: Path, expected: str) -> bool:
    """Whether the stage has finished under this fingerprint, and its small files can be read.

    A stage with a damaged file is not done, and the log says so: it is then made again.
    """
    return _says(folder / "done.json", expected) and not _damaged(folder)


def finish_rename(folder: Path) -> None:
    """Name a folder whose stage was killed between its last write and the rename."""
    partial = partial_folder(folder)
    if not first_process() or partial == folder:
        return
    if (partial / "done.json").exists() and not folder.exists():
        os.rename(partial, folder)


def is_begun(folder: Path, expected: str) -> bool:
    """Whether an earlier run started the stage with this fingerprint and did not finish it."""
    return _says(partial_folder(folder) / "started.json", expected)


def previous_record(folder: Path) -> dict[str, Any] | None:
    """The record with which the stage was last finished or started; None if it never was."""
    for path in (folder / "done.json", partial_folder(folder) / "started.json"):
        record = read_record(path)
        if record is not None:
            return record
    return None


def read_record(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file of the work directory; None where it is missing or damaged.

    That it is damaged is said in the log.
    """
    if not path.exists():
        return None
    try:
        return read_json(path)
    except DamagedFile as error:
        _say_damaged(error.path, error.reason)
        return None


def open_stage(folder: Path, record: dict[str, Any]) -> Path:
    """The folder to write the stage into, with the files of an earlier run if they fit.

    Files made with another fingerprint are removed, and the log says so.

    Args:
        folder: The stage's final folder.
        record: What the stage depends on; its "fingerprint" decides what fits.
    """
    partial = partial_folder(folder)
    if first_process():
        begun = is_begun(folder, record["fingerprint"])
        for stale in dict.fromkeys((folder, partial)):
            if stale.exists() and not (stale == partial and begun):
                log.info("removing %s, which %s", stale, _why_stale(stale, record))
                # First what says that it is whole: removing the rest can be cut short.
                remove(stale / "done.json")
                remove(stale / "started.json")
                remove(stale)
        if not begun:
            make_folder(partial)
            write_json(partial / "started.json", record)
    barrier(f"{folder.name} is open")
    return partial


def close_stage(folder: Path, record: dict[str, Any]) -> None:
    """Write `done.json` and give the folder its final name.

    Raises:
        UserError: This process does not see what process 0 has written.
    """
    partial = partial_folder(folder)
    barrier(f"{folder.name} is whole")
    if first_process():
        write_json(partial / "done.json", {**record, "bytes": size_of(partial)})
        remove(partial / "started.json")
        if partial != folder:
            os.rename(partial, folder)
    barrier(f"{folder.name} is closed")
    # A network file system may show it to other machines a little later.
    late = time.monotonic() + SEEN_WITHIN
    while not is_done(folder, record["fingerprint"]):
        if time.monotonic() > late:
            raise UserError(
                f"process {jax.process_index()} does not see {folder / 'done.json'}, which process"
                " 0 has written: give all processes one work directory that all of them see."
            )
        time.sleep(1)


def _says(path: Path, expected: str) -> bool:
    return (read_record(path) or {}).get("fingerprint") == expected


def _damaged(folder: Path) -> bool:
    """Whether a file at the top of a stage's folder was cut short; the first one is said.

    Only of a local folder: an object of a store appears whole or not at all.
    """
    for path in sorted(folder.iterdir()) if is_local(folder) else ():
        try:
            if path.suffix == ".json":
                read_json(path, list if path.name in LISTS else dict)
            elif path.suffix in (".csv", ".npy") and not path.stat().st_size:
                raise DamagedFile(path, "it is empty")
        except DamagedFile as error:
            _say_damaged(error.path, error.reason)
            return True
    return False


@functools.cache  # a stage is asked for several times
def _say_damaged(path: Path, reason: str) -> None:
    log.warning("warning: %s is damaged (%s): its stage counts as not done", path, reason)


def _why_stale(folder: Path, record: dict[str, Any]) -> str:
    """Why a folder is removed before its stage begins."""
    for name in ("done.json", "started.json"):
        if (folder / name).exists():
            found = read_record(folder / name)
            same = found is None or found.get("fingerprint") == record["fingerprint"]
            return "is damaged" if same else "other settings made"
    return "was left unfinished"
