"""Files of the work directory, which is a local folder or lies on an object store (gs://, s3://).

Everything a stage writes goes through here: process 0 writes, the others do nothing, and a reader
sees either the old content of a file or the new one, never half of it. Local paths are pathlib's,
others are `etils.epath`'s; both have `/`, `name`, `parent`, `exists`, `is_file`,
`is_dir`, `iterdir`, `read_bytes` and `read_text`, and stages use nothing else.
"""

import contextlib
import csv
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from etils import epath

from ddb_jax.runtime.errors import UserError, first_line
from ddb_jax.runtime.processes import from_first

# Scheme -> library that reads and writes it without TensorFlow.
SCHEMES = {"gs": "gcsfs", "s3": "s3fs", "az": "adlfs"}


def work_path(text: str) -> Path:
    """The path of a local folder, or of a folder on an object store, from the user's text.

    Raises:
        UserError: The object store is of another kind, its library is missing, or it cannot be
            reached.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Path(text)
    if scheme not in SCHEMES or not rest.strip("/"):
        raise UserError(
            f"--workdir={text} cannot be used: give a local folder, or BUCKET/FOLDER after one of"
            f" {', '.join(f'{name}://' for name in SCHEMES)}."
        )
    path = epath.Path(text)
    try:
        path.exists()
    except ImportError as error:
        raise UserError(
            f"--workdir={text} needs the library {SCHEMES[scheme]}: pip install {SCHEMES[scheme]}."
        ) from error
    except Exception as error:  # every store's library raises different types
        raise UserError(f"--workdir={text} cannot be reached ({first_line(error)}).") from error
    return path


def is_local(path: Path) -> bool:
    """Whether the path is local."""
    return "://" not in os.fspath(path)


def first_process() -> bool:
    """Whether this is the process that writes."""
    return jax.process_index() == 0


def agreed(check: Callable[[], bool]) -> bool:
    """The result of `check` in process 0; every process must call this, the others do not check.

    Use it for every decision that depends on files: one process may see changes later than
    another.
    """
    return bool(from_first(int(check()) if first_process() else 0))


def write_atomically(path: Path, content: str | bytes, *, every_process: bool = False) -> None:
    """Replace `path` by `content` in one step.

    Args:
        path: File in a folder that exists.
        content: Text is written as UTF-8.
        every_process: Write in all processes, for files that are not the work directory's.

    Raises:
        OSError: The content could not be written (a full disk, say); `path` is as it was.
    """
    content = content.encode() if isinstance(content, str) else content

    def write(local: Path) -> None:
        local.write_bytes(content)

    if is_local(path):
        write_through(path, write, every_process=every_process)
    elif first_process():
        _put(io.BytesIO(content), path)


def write_json(path: Path, value: Any, *, every_process: bool = False) -> None:
    """`write_atomically` of readable JSON."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    write_atomically(path, text, every_process=every_process)


def save_array(path: Path, array: np.ndarray) -> None:
    """Write a .npy file, as `write_atomically`."""

    def write(local: Path) -> None:
        with local.open("wb") as file:
            np.save(file, array)

    write_through(path, write)


def write_through(
    path: Path, write: Callable[[Path], object], *, every_process: bool = False
) -> None:
    """Let `write` make a local file, and rename it to `path` when it is complete.

    For libraries that write local files only.

    Raises:
        OSError: As `write_atomically`; and what `write` raises.
    """
    if not (every_process or first_process()):
        return
    if not is_local(path):
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder) / path.name)
            with (Path(folder) / path.name).open("rb") as source:
                _put(source, path)
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno and not isinstance(error.filename, str):  # of a write: names no file
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        with contextlib.suppress(OSError):  # a disk that became read-only: what failed is told
            temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; object stores have none and need none."""
    if first_process() and is_local(folder):
        folder.mkdir(parents=True, exist_ok=True)


def copy_file(source: Path, target: Path) -> None:
    """Copy one file."""
    write_atomically(target, source.read_bytes())


def copy_tree(source: Path, target: Path) -> None:
    """Copy all files of a folder into another one, which is made if missing."""
    if first_process():
        _copy_files(source, target)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all in it, if it is there."""
    if not first_process():
        return
    if not path.is_dir():
        path.unlink(missing_ok=True)
    elif is_local(path):
        shutil.rmtree(path)
    else:
        path.rmtree(missing_ok=True)


class DamagedFile(UserError):
    """A file that we wrote cannot be read back: a disk was full, or a copy was cut short."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path} is damaged ({reason}): remove {path.parent} and run again, which makes it"
            " again."
        )
        self.path, self.reason = path, reason


def read_json(path: Path, kind: Any = dict) -> Any:
    """Parsed content of a JSON file that we wrote.

    Raises:
        DamagedFile: It is empty, cut short, not JSON, or holds something else than `kind`.
    """
    content = path.read_bytes()
    if not content.strip():
        raise DamagedFile(path, "it is empty")
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DamagedFile(path, f"it is cut short or not JSON: {first_line(error)}") from None
    if not isinstance(value, kind) or value == {}:  # we write no empty object
        raise DamagedFile(path, f"it holds {'nothing' if value == {} else type(value).__name__}")
    return value


def load_array(path: Path, *, on_disk: bool = False) -> np.ndarray:
    """What `save_array` wrote; `on_disk` leaves it there where it is a local file.

    Raises:
        DamagedFile: It is empty, cut short or something else.
    """
    with path.open("rb") as file:
        try:
            if on_disk and is_local(path):
                return np.load(path, mmap_mode="r", allow_pickle=False)
            return np.load(file, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise DamagedFile(path, f"it is cut short or no array: {first_line(error)}") from None


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file in UTF-8 with a header, as we write it.

    Raises:
        DamagedFile: It is empty, or cannot be parsed.
    """
    try:
        rows = csv.DictReader(io.StringIO(path.read_bytes().decode(), newline=""))
        if not rows.fieldnames:
            raise DamagedFile(path, "it is empty")
        return list(rows)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DamagedFile(path, f"it is no table: {first_line(error)}") from None


@contextlib.contextmanager
def local_copy(path: Path) -> Iterator[Path]:
    """A local path of a file or folder, for libraries that read only local files.

    It is the path itself if local, else a temporary copy that is deleted on exit. Every process
    gets one.
    """
    if is_local(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder) / path.name
        if path.is_dir():
            _copy_files(path, copied)
        else:
            _fetch(path, copied)
        yield copied


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(
        path.stat().st_size if is_local(path) else path.stat().length for path in _files(folder)
    )


def _files(folder: Path) -> Iterator[Path]:
    """All files in a folder and below; epath's own walk loses the scheme of the path."""
    for path in folder.iterdir():
        if path.is_dir():
            yield from _files(path)
        else:
            yield path


def _copy_files(source: Path, target: Path) -> None:
    for path in _files(source):
        copied = target.joinpath(*path.relative_to(source).parts)
        if is_local(copied):
            copied.parent.mkdir(parents=True, exist_ok=True)
            _fetch(path, copied)
        else:
            with path.open("rb") as file:
                _put(file, copied)


def _fetch(path: Path, local: Path) -> None:
    with path.open("rb") as source, local.open("wb") as target:
        shutil.copyfileobj(source, target)


def _put(source: io.BufferedIOBase, path: Path) -> None:
    """One object; it appears when it is closed, even by an exception."""
    try:
        with path.open("wb") as target:
            shutil.copyfileobj(source, target)
    except BaseException as error:
        with contextlib.suppress(Exception):
            path.unlink()  # it could look complete
        if isinstance(error, OSError) or not isinstance(error, Exception):
            raise
        raise OSError(f"{path} could not be written ({first_line(error)})") from error
