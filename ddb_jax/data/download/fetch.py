"""One file from a server: resumed, tried again, checked, and given its name when it is whole.

Not the package pooch, which begins a broken download from its first byte.
"""

import functools
import hashlib
import http.client
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from ddb_jax.data.download.origins import RemoteFile
from ddb_jax.runtime.files import write_atomically
from ddb_jax.runtime.lock import Lock, try_lock
from ddb_jax.runtime.progress import Progress

log = logging.getLogger("ddb_jax")

WAITS = (1.0, 3.0, 10.0)  # seconds before another attempt, after attempts that brought nothing
TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 2**18


class FetchFailed(Exception):
    """One attempt brought nothing or not all; the message says why.

    Args:
        message: The reason.
        again: Whether another attempt may bring more.
    """

    def __init__(self, message: str, again: bool = True) -> None:
        super().__init__(message)
        self.again = again


def fetch(
    file: RemoteFile, address: str, target: Path, *, waits: Sequence[float], timeout: float
) -> None:
    """Download `address` to `target` by way of `<target>.part`, unless it is there and right.

    Args:
        file: Whose checksum is compared; where it has none, the digest that `keep_digest` kept.
        address: An http or https address.
        target: Its folder is made if missing.
        waits: Seconds before each further attempt, after attempts that brought nothing.
        timeout: Seconds that the server may be silent.

    Raises:
        ValueError: The server cannot be reached or has no such file, or the checksum is wrong.
        OSError: The file cannot be written.
    """
    expected, by = file.checksum, "published"
    if expected is None and _record_of(target).exists():
        words = _record_of(target).read_text().split()
        expected, by = f"sha256:{words[0] if words else ''}", f"kept in {_record_of(target)}"
    kind, _, value = (expected or "").partition(":")
    if target.exists():
        if expected and not (found := file_digest(target, kind)).startswith(value):
            raise ValueError(
                f"{target} has the {kind.upper()} {found}, but the one {by} is {value}; remove the"
                " file to download it again."
            )
        log.info("%s is there already", target)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    log.info("downloading %s to %s", address, target)
    try:
        _receive(address, part, file, waits, timeout)
    except FetchFailed as error:
        if part.stat().st_size == 0:
            part.unlink()
        raise ValueError(
            f"{address} cannot be fetched ({error}); run the same command again to go on, or fetch"
            f" the address by other means and put the file at {target}."
        ) from None
    if expected and not (found := file_digest(part, kind)).startswith(value):
        part.unlink()
        raise ValueError(
            f"{address} brought a file whose {kind.upper()} is {found}, but the one {by} is"
            f" {value}; what was downloaded is removed: run the same command again, or take another"
            " --mirror."
        )
    os.replace(part, target)


def file_digest(path: Path, kind: str) -> str:
    """Hex digest of a file, by a name that hashlib knows."""
    with path.open("rb") as file:
        new = functools.partial(hashlib.new, kind, usedforsecurity=False)
        return hashlib.file_digest(file, new).hexdigest()


def keep_digest(target: Path) -> None:
    """Write `<target>.sha256` in the format of sha256sum, to compare later downloads with."""
    line = f"{file_digest(target, 'sha256')}  {target.name}\n"
    write_atomically(_record_of(target), line, every_process=True)


def _record_of(target: Path) -> Path:
    return target.with_name(target.name + ".sha256")


def _receive(
    address: str, part: Path, file: RemoteFile, waits: Sequence[float], timeout: float
) -> None:
    """Complete `part` from where it ends, over as many connections as needed."""
    with part.open("ab") as sink:
        if try_lock(sink, unprotected="a second download of it spoils it") is Lock.TAKEN:
            raise ValueError(f"another process is downloading {part}; wait for it.")
        failures = 0
        while True:
            before = sink.tell()
            try:
                return _receive_once(address, sink, file, timeout)
            except FetchFailed as error:
                failures = 0 if sink.tell() > before else failures + 1
                if failures > len(waits) or not error.again:
                    raise
                wait = waits[max(failures - 1, 0)] if waits else 0.0
                log.info("%s: %s; trying again in %g s", address, error, wait)
            time.sleep(wait)


def _receive_once(address: str, sink: BinaryIO, file: RemoteFile, timeout: float) -> None:
    """Append what the server sends; returns when `sink` holds all of it.

    Raises:
        FetchFailed: It does not.
    """
    offset = sink.tell()
    headers = {"User-Agent": "ddb_jax"} | ({"Range": f"bytes={offset}-"} if offset else {})
    try:
        response = urllib.request.urlopen(
            urllib.request.Request(address, headers=headers), timeout=timeout
        )
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and error.headers.get("Content-Range") == f"bytes */{offset}":
            return  # all of it was there
        if error.code == 416:
            sink.truncate(0)
            sink.seek(0)
            raise FetchFailed("what was there does not fit the server's file") from None
        again = error.code >= 500 or error.code in (408, 429)
        raise FetchFailed(f"the server answers {error.code} {error.reason}", again) from None
    except (OSError, http.client.HTTPException) as error:
        raise FetchFailed(str(getattr(error, "reason", "") or error)) from None
    with response:
        content_range = response.headers.get("Content-Range", "")
        if not (response.status == 206 and content_range.startswith(f"bytes {offset}-")):
            offset = 0  # the server ignores Range and sends all of it
            sink.truncate(0)
            sink.seek(0)
        length = response.headers.get("Content-Length")
        total = offset + int(length) if length else None
        shown = max(total or file.num_bytes, 1) / 1e6
        progress = Progress(f"downloading {file.name}", round(shown), round(offset / 1e6), "MB")
        try:
            while chunk := _read(response):
                sink.write(chunk)
                progress.update(round(sink.tell() / 1e6))
        finally:
            progress.close()
            sink.flush()
    if total is not None and sink.tell() < total:
        raise FetchFailed(f"the connection ended after {sink.tell():,} of {total:,} bytes")


def _read(response: http.client.HTTPResponse) -> bytes:
    """The next bytes, b"" at the end; writing is separate, as a full disk is no lost connection."""
    try:
        return response.read1(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise FetchFailed(str(error) or type(error).__name__) from None
