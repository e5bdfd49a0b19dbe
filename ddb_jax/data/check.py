"""What a set of images is, before anything is trained: `python -m ddb_jax.data.check PATH`.

PATH is a folder of images, a CSV file of paths and labels, or what Hugging Face's `datasets` saved.
Prints the layout as it was understood: classes, splits, counts, sizes, what was left out and why,
and what is suspicious. A run prints the same before it starts.

--set=NAME      PATH holds this published set: bar, bffhq, dogs_and_cats, imagenet9, urbancars,
                waterbirds
--csv=FILE      writes a line for every image: size, values, hash, findings
--image_size=S  side in pixels at which the images are looked at (64); decoded images are kept, and
                a run at this size uses them
--FIELD=VALUE   a field of config.data, as in a run, for example --resize=center_crop,
                --validation_share=0.2 or --folders_are_classes=True; configs/base.py has them all

Exit status 0: a run would take the set. 1: it would refuse it; the last lines say why.
"""

import argparse
import contextlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ddb_jax.configs import (
    bar,
    bffhq,
    csv,
    dogs_and_cats,
    folder,
    huggingface,
    imagenet9,
    urbancars,
    waterbirds,
)
from ddb_jax.data.counts import overview
from ddb_jax.data.data_check_file import data_check_csv
from ddb_jax.data.datasets import open_dataset
from ddb_jax.data.images.decode import RESIZES
from ddb_jax.data.images.facts import number_of
from ddb_jax.data.sets.huggingface_layout import is_huggingface
from ddb_jax.data.source import Dataset
from ddb_jax.runtime.errors import Interrupted, UserError
from ddb_jax.runtime.files import write_atomically
from ddb_jax.runtime.stop import StopFlag, stop_flag
from ddb_jax.runtime.terminal import escape_what_cannot_be_written

DEFAULT_SIZE = 64


PUBLISHED = {
    "bar": bar,
    "bffhq": bffhq,
    "dogs_and_cats": dogs_and_cats,
    "imagenet9": imagenet9,
    "urbancars": urbancars,
    "waterbirds": waterbirds,
}


def settings_for(path: str, name: str = "") -> ConfigDict:
    """The data section of the config that fits what is at a path, or of a set of PUBLISHED."""
    root = Path(path).expanduser()
    if name:
        config = PUBLISHED[name]
    elif root.is_dir():
        config = huggingface if is_huggingface(root) else folder
    else:
        config = csv
    settings = config.get_config().data
    settings.root = path
    return settings


def refusals(dataset: Dataset, max_broken: int) -> list[str]:
    """Why a run would not take the set; empty where it would."""
    reasons = [finding.sentence for finding in dataset.findings if finding.refused]
    if len(dataset.broken) > max_broken:
        path, reason = next(iter(dataset.broken.items()))
        reasons.insert(
            0,
            f"{number_of(dataset.broken)} cannot be used, the first is {path}: {reason}. Fix or"
            " delete them, or allow as many with --max_broken, config.data.max_broken in a run.",
        )
    return reasons


def _parse(arguments: Sequence[str]) -> tuple[ConfigDict, int, str]:
    """The data section, the size, and where the table goes; exits on wrong arguments."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("path", nargs="?", default="")
    first.add_argument("--set", default="", choices=PUBLISHED)
    known, _ = first.parse_known_args(arguments)
    settings = settings_for(known.path, known.set)
    parser = argparse.ArgumentParser(
        prog="python -m ddb_jax.data.check",
        usage=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("path")
    parser.add_argument("--set", default="", choices=PUBLISHED)
    parser.add_argument("--image_size", type=int, default=DEFAULT_SIZE)
    parser.add_argument("--csv", default="")
    for name, value in settings.items():
        if name not in ("root", "name"):
            parser.add_argument(f"--{name}", type=_kind(value), default=value)
    given = vars(parser.parse_args(arguments))
    for name in settings:
        if name not in ("root", "name"):
            settings[name] = given[name]
    if given["image_size"] < 1:
        parser.error(f"--image_size={given['image_size']} must be at least 1")
    if settings.resize not in RESIZES:
        parser.error(f"--resize={settings.resize} must be one of {', '.join(RESIZES)}")
    return settings, given["image_size"], given["csv"]


def _kind(value: Any) -> Any:
    """How a field's text becomes its value."""
    return _truth if isinstance(value, bool) else type(value)


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text} must be True or False")
    return text.lower() == "true"


def _open(settings: ConfigDict, image_size: int, stop: StopFlag) -> Dataset:
    """The set, however many of its images are broken, unless nothing is left without them."""
    lenient = settings.copy_and_resolve_references()
    lenient.max_broken = sys.maxsize
    try:
        return open_dataset(lenient, image_size, stop)
    except ValueError:
        return open_dataset(settings, image_size, stop)  # says why in the words of a run


def main(arguments: Sequence[str]) -> int:
    """Print what the set is; returns the exit status."""
    log = logging.getLogger("ddb_jax")
    log.handlers, log.propagate = [logging.StreamHandler(sys.stdout)], False
    log.setLevel(logging.INFO)
    settings, image_size, table = _parse(arguments)
    try:
        with stop_flag() as stop:
            dataset = _open(settings, image_size, stop)
        warnings, facts = overview(dataset)
        print("\n".join([*(f"warning: {warning}" for warning in warnings), *facts]))
        if table:
            write_atomically(Path(table), data_check_csv(dataset))
            print(f"one line for every image: {table}")
        reasons = refusals(dataset, settings.max_broken)
        if reasons:
            print("error: a run would refuse this set: " + " ".join(reasons), file=sys.stderr)
            return 1
        print("A run would take this set." + (" Look at the warnings first." if warnings else ""))
        return 0
    except (UserError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Interrupted as interrupted:
        print(interrupted, file=sys.stderr)
        return interrupted.exit_code


if __name__ == "__main__":
    escape_what_cannot_be_written(sys.stdout)
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main(sys.argv[1:]))
