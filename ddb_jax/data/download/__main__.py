"""Fetch a published data set or ImageNet weights: `python -m ddb_jax.data.download NAME`.

--root FOLDER     it comes into FOLDER/NAME, its archive into FOLDER/downloads (data)
--mirror ADDRESS  folder of a server that has the same files, instead of the original one
--list            print the names

An interrupted download resumes. Files are compared with published checksums; without one, the
SHA-256 of the first download is stored next to the file and later downloads are compared with it.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import jax

from ddb_jax.data.download.archive import unpack
from ddb_jax.data.download.fetch import TIMEOUT, WAITS, fetch, keep_digest
from ddb_jax.data.download.origins import BY_HAND, ORIGINS, Origin

log = logging.getLogger("ddb_jax")


def obtain(
    name: str,
    origin: Origin,
    root: Path,
    *,
    mirror: str = "",
    waits: Sequence[float] = WAITS,
    timeout: float = TIMEOUT,
) -> Path:
    """Download and unpack a data set, unless it is there; returns its folder.

    Args:
        name: Name of the folder, where the origin has no other.
        origin: Where it comes from.
        root: Made if missing.
        mirror: Address of a folder with files of the same names; "" takes the original addresses.
        waits: Seconds before each further attempt of a download that brought nothing.
        timeout: Seconds that a server may be silent.

    Raises:
        ValueError: A file could not be fetched, or it, or what is in it, is not what was expected.
        OSError: A file could not be written.
    """
    folder = root / (origin.folder or name)
    unpacked = origin.inner is not None
    if unpacked and folder.exists():
        if lack := _lack(folder, origin):
            raise ValueError(
                f"{folder} has {lack}; move it out of the way and run the same command again."
            )
        log.info("%s is there already, in %s", name, folder)
        return folder

    def check(made: Path) -> None:
        if lack := _lack(made, origin):
            raise ValueError(f"what was downloaded has {lack}.")

    into = root / "downloads" if unpacked else folder
    for file in origin.files:
        address = f"{mirror.rstrip('/')}/{file.name}" if mirror else file.address
        fetch(file, address, into / file.name, waits=waits, timeout=timeout)
        if not unpacked:
            continue
        archive = into / file.name
        log.info("unpacking %s", archive)
        try:
            unpack(archive, folder, inner=origin.inner, check=check)
        except ValueError as error:
            raise ValueError(
                f"{str(error).rstrip('.')}; remove {archive} to download it again."
            ) from error
        if file.checksum is None:
            keep_digest(archive)
    return folder


def _lack(folder: Path, origin: Origin) -> str:
    """What is missing in the data set's folder; "" if nothing."""
    for pattern, expected in origin.at_least.items():
        found = sum(1 for _ in folder.glob(pattern))
        if found < expected:
            return f"{found:,} files {pattern} where the data set has {expected:,}"
    return ""


def main(arguments: Sequence[str]) -> int:
    """Download one data set; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m ddb_jax.data.download",
        usage=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("name", nargs="?", default="")
    parser.add_argument("--root", type=Path, default=Path("data"))
    parser.add_argument("--mirror", default="")
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args(arguments)
    jax.config.update("jax_platforms", "cpu")  # the progress line asks for the process index
    log.handlers, log.propagate = [logging.StreamHandler(sys.stdout)], False
    log.setLevel(logging.INFO)
    if given.list:
        for name, origin in ORIGINS.items():
            print(f"{name:18} {origin.about}")
        for name, text in BY_HAND.items():
            print(f"{name:18} by hand: {text.splitlines()[0]}")
        return 0
    if given.name in BY_HAND:
        print(f"{given.name} has to be fetched by hand.\n{BY_HAND[given.name]}")
        return 1
    try:
        if given.name not in ORIGINS:
            names = ", ".join([*ORIGINS, *BY_HAND])
            raise ValueError(f"there is no data set {given.name!r} to fetch, there is {names}.")
        if given.mirror and not given.mirror.startswith(("http://", "https://")):
            raise ValueError(f"--mirror is {given.mirror}, it must begin with http:// or https://.")
        origin = ORIGINS[given.name]
        log.info("%s: %s", given.name, origin.about)
        folder = obtain(given.name, origin, given.root, mirror=given.mirror)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        print(f"error: {reason}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; run the same command to resume the download.", file=sys.stderr)
        return 130
    place = folder / origin.files[0].name if origin.folder else folder
    print(f"ready: --config.{origin.config_field}={place}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
