"""Ask a trained classifier: `python -m ddb_jax.predict --model=RUN PATHS --out=predictions.csv`.

--model=FOLDER  the work directory of a finished run, or its model/, or a copy of that
--method=NAME   another method of the run than the recommended one, and
--seed=N        another of its seeds; --model is its work directory then
--out=FILE      a line for every image: path, predicted class, probability of every class, and
                what is wrong with an image that cannot be used (predictions.csv)
PATHS           folders, in which all images are taken; CSV files with a column path; image files

Images are decoded as those that the classifier was trained on, whatever their size and format.
"""

import argparse
import csv
import io
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np

from ddb_jax.data.images.files import find_images
from ddb_jax.data.table_file import image_files, read_table
from ddb_jax.predict.model import BATCH_SIZE, Model, load
from ddb_jax.runtime.errors import Interrupted, UserError
from ddb_jax.runtime.files import write_atomically
from ddb_jax.runtime.progress import Progress
from ddb_jax.runtime.stop import StopFlag, stop_flag
from ddb_jax.runtime.terminal import escape_what_cannot_be_written
from ddb_jax.training.compilation import enable_cache

TABLES = (".csv", ".tsv")


def find_files(paths: Sequence[str]) -> list[Path]:
    """The images that the arguments name, in their order, each once.

    Raises:
        ValueError, OSError: A path is not there or cannot be read, or there is no image.
    """
    found: dict[Path, None] = {}
    for text in paths:
        path = Path(text).expanduser()
        if path.is_dir():
            found |= dict.fromkeys(path / name for name in find_images(path)[0])
        elif path.suffix.lower() in TABLES:
            rows = read_table(path, ("path",), ())
            found |= dict.fromkeys(path.parent / name for name in image_files(path, rows, "path"))
        elif path.is_file():
            found[path] = None
        else:
            raise ValueError(f"there is no file or folder {path}: check the path.")
    if not found:
        raise ValueError(f"there is no image in {', '.join(paths)}.")
    return list(found)


def answers(
    model: Model, files: Sequence[Path], stop: StopFlag
) -> Iterator[tuple[Path, np.ndarray | str]]:
    """Of every file the probabilities float32 [K], or what is wrong with it; in their order.

    No more than a batch of images is in memory.
    """

    def decode(path: Path) -> np.ndarray | str:
        try:
            return model.decode(path)
        except OSError as error:
            return f"cannot be read ({error.strerror or error})"
        except ValueError as error:
            return str(error)

    progress = Progress("predicting", len(files), unit="images")
    rest, done = iter(files), 0
    with ThreadPoolExecutor() as pool:
        while chunk := list(islice(rest, BATCH_SIZE)):
            decoded = list(pool.map(decode, chunk))
            usable = [image for image in decoded if isinstance(image, np.ndarray)]
            found = iter([row for part in model.probabilities(usable) for row in part])
            for path, image in zip(chunk, decoded, strict=True):
                yield path, image if isinstance(image, str) else next(found)
            done += len(chunk)
            progress.update(done)
            if stop and done < len(files):
                progress.close()
                raise Interrupted(
                    f"stopped after {done:,} of {len(files):,} images; nothing was written.",
                    128 + stop.signal,
                )
    progress.close()


def table(model: Model, rows: Sequence[tuple[Path, np.ndarray | str]]) -> str:
    """The answers as CSV: path, predicted, probability, one column for each class, error."""
    classes = model.record.class_names
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = ["path", "predicted", "probability", *(f"probability of {c}" for c in classes)]
    writer.writerow([*header, "error"])
    for path, found in rows:
        if isinstance(found, str):
            writer.writerow([path, "", "", *[""] * len(classes), found])
            continue
        best = int(found.argmax())
        values = [f"{value:.6g}" for value in (found[best], *found)]
        writer.writerow([path, classes[best], *values, ""])
    return text.getvalue()


def run(model: Model, files: Sequence[Path], out: Path) -> str:
    """Write the predictions; returns the sentence to say.

    Raises:
        ValueError, OSError: No image can be used, or the file cannot be written.
        Interrupted: It was asked to stop.
    """
    with stop_flag() as stop:
        rows = list(answers(model, files, stop))
    broken = [(path, found) for path, found in rows if isinstance(found, str)]
    if len(broken) == len(rows):
        path, reason = broken[0]
        raise ValueError(f"no image can be used, the first is {path}: {reason}.")
    write_atomically(out, table(model, rows))
    classes = model.record.class_names
    counts = Counter(classes[found.argmax()] for _, found in rows if not isinstance(found, str))
    said = f"{out}: " + ", ".join(f"{n:,} {name}" for name, n in counts.most_common()) + "."
    if broken:
        path, reason = broken[0]
        said += (
            f" {len(broken):,} of {len(rows):,} images cannot be used, the first is {path}:"
            f" {reason}; their lines have the reason."
        )
    return said


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m ddb_jax.predict",
        usage=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--method", default="")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--out", default="predictions.csv")
    parser.add_argument("paths", nargs="+")
    given = parser.parse_args(arguments)
    log = logging.getLogger("ddb_jax")
    log.handlers, log.propagate = [logging.StreamHandler(sys.stdout)], False
    log.setLevel(logging.INFO)
    try:
        files = find_files(given.paths)
        model = load(given.model, given.method, given.seed)
        print(run(model, files, Path(given.out)))
    except (UserError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Interrupted as interrupted:
        print(interrupted, file=sys.stderr)
        return interrupted.exit_code
    return 0


if __name__ == "__main__":
    escape_what_cannot_be_written(sys.stdout)
    enable_cache()
    sys.exit(main(sys.argv[1:]))
