"""Unpacking downloaded archives without trusting them.

Only plain files and folders are unpacked, only below the new folder, and at most a given number of
bytes. The folder appears under its name when everything is unpacked and checked.
"""

import gzip
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath

MAX_BYTES = 20 * 2**30  # ten times what the largest of the data sets unpacks to
_CHUNK = 2**20
_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    NotImplementedError,  # a compression that zipfile does not know
)


def unpack(
    archive: Path,
    folder: Path,
    *,
    inner: str = "",
    max_bytes: int = MAX_BYTES,
    check: Callable[[Path], None] | None = None,
) -> None:
    """Unpack a .tar.gz, .tgz or .zip into a new folder.

    Args:
        archive: The file; its name says what it is.
        folder: Made here; must not exist.
        inner: Folder inside the archive that becomes `folder`; "" takes all that is in it.
        max_bytes: Largest sum of the unpacked files' sizes.
        check: Raises when what was unpacked, in the folder it is given, is not what it should be.

    Raises:
        ValueError: The archive is damaged, is no such archive, is too large, has no folder
            `inner`, or has a member that is neither file nor folder or would lie outside `folder`.
        FileExistsError: `folder` exists.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists; remove it to unpack {archive} again")
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        if archive.name.endswith((".tar.gz", ".tgz")):
            _unpack_tar_gz(archive, temporary, max_bytes)
        elif archive.suffix == ".zip":
            _unpack_zip(archive, temporary, max_bytes)
        else:
            raise ValueError(f"{archive} is not a .tar.gz, .tgz or .zip.")
        content = temporary / inner
        if not content.is_dir():
            raise ValueError(f"{archive} has no folder {inner}; it is not the expected archive.")
        if check:
            check(content)
        os.rename(content, folder)
    except _DAMAGED as error:
        raise ValueError(
            f"{archive} is cut short, damaged or not an archive at all ({error})."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unpack_tar_gz(archive: Path, folder: Path, max_bytes: int) -> None:
    total = 0
    with gzip.open(archive) as stream:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                if not (member.isfile() or member.isdir()):
                    raise _unsafe(archive, member.name, "is a link or a device")
                total += member.size
                _check_member(archive, member.name, total, max_bytes)
                tar.extract(member, folder, filter="data")
        while stream.read(_CHUNK):  # gzip compares its checksum at the end of the file, not before
            pass


def _unpack_zip(archive: Path, folder: Path, max_bytes: int) -> None:
    total = 0
    with zipfile.ZipFile(archive) as members:
        for member in members.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _unsafe(archive, member.filename, "is a link or a device")
            if member.flag_bits & 1:
                raise ValueError(f"{archive} is encrypted.")
            total += member.file_size  # zipfile reads no more of a member than this
            _check_member(archive, member.filename, total, max_bytes)
            members.extract(member, folder)


def _check_member(archive: Path, name: str, total: int, max_bytes: int) -> None:
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    if posix.is_absolute() or windows.drive or windows.root or ".." in windows.parts:
        raise _unsafe(archive, name, "would lie outside its folder")
    if total > max_bytes:
        raise ValueError(
            f"{archive} unpacks to more than {max_bytes:,} bytes, more than the data set has;"
            " nothing of it was kept."
        )


def _unsafe(archive: Path, name: str, why: str) -> ValueError:
    return ValueError(f"{archive} is refused: its member {name!r} {why}.")
