"""Images with captions: for retrieval, and for training a text-to-image model.

They come from a CSV file, or are the coloured digits that `data.reference_share` sets aside.
"""

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from ddb_jax.data.images.decode import Rules, decode_image
from ddb_jax.data.sets.captioned_digits import captioned_digits
from ddb_jax.data.table_file import find_file
from ddb_jax.models.file_content import stand_in
from ddb_jax.runtime.errors import UserError, first_few
from ddb_jax.text_to_image.captions import read_image_captions

log = logging.getLogger("ddb_jax")


class Captioned(NamedTuple):
    """Images with one caption each.

    Attributes:
        images: uint8 [R, S, S, 3]; an image with several captions is there once for each.
        captions: R texts.
        paths: R files or ids.
    """

    images: np.ndarray
    captions: tuple[str, ...]
    paths: tuple[str, ...]


def load_captioned(config: ConfigDict, image_size: int) -> Captioned:
    """The captioned images of the config's `captioned` section, all in memory.

    Args:
        config: The run's config; its `data` section says how images are resized and which digits
            are set aside.
        image_size: S.

    Raises:
        UserError: None are given, or the table or an image of it cannot be read.
    """
    if config.captioned.csv:
        return _from_table(config, image_size)
    data = config.data
    if data.name != "digits" or not data.reference_share:
        hint = ", or config.data.reference_share above 0" if data.name == "digits" else ""
        raise UserError(
            "there are no captioned images: give config.captioned.csv, a CSV file with the columns"
            f" path,caption{hint}."
        )
    try:
        digits = captioned_digits(
            image_size,
            data.reference_share,
            data.colour_jitter,
            config.captioned.vague_share,
            data.seed,
        )
    except ValueError as error:
        raise UserError(f"the captioned digits cannot be made: {error}") from error
    return Captioned(digits.images, digits.captions, digits.paths)


def check_table(table: Path) -> None:
    """Look whether a CSV file of captioned images can be read, and whether its images are there.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Columns, captions or images are missing; the images are not decoded yet.
    """
    captions, _ = read_image_captions(table)
    faults = [fault for path in captions if (fault := _absent(table.parent / path, path))]
    if faults:
        raise ValueError(
            f"{len(faults):,} of the {len(captions):,} images of {table} cannot be used:"
            f" {first_few(faults, separator='; ')} (paths are relative to the folder of the table);"
            " fix the files or remove their lines"
        )


def _absent(file: Path, name: str) -> str:
    """Why there is no image in a file; "" where there may be one."""
    try:
        other = stand_in(file)
    except OSError as error:
        return f"{name} cannot be read ({error.strerror})"
    return f"{name} {other}" if other else ""


def _from_table(config: ConfigDict, image_size: int) -> Captioned:
    """The images that a CSV file names by paths relative to it."""
    table = Path(config.captioned.csv).expanduser()
    try:
        captions, notes = read_image_captions(table)
    except (FileNotFoundError, ValueError) as error:
        raise UserError(f"config.captioned.csv: {error}") from error
    for note in notes:
        log.warning("warning: %s", note)
    resize = "squash" if config.data.resize == "none" else config.data.resize
    rules = Rules(image_size, resize, config.data.background)

    listed: dict[str, dict[str, str]] = {}

    def decode(path: str) -> np.ndarray | str:
        """The image, or what is wrong with it."""
        file = table.parent / (find_file(table.parent, path, listed) or path)
        try:
            return decode_image(file.read_bytes(), rules).pixels
        except OSError as error:
            return f"{path} cannot be read ({error.strerror})"
        except ValueError as error:
            return f"{path} {error}"

    with ThreadPoolExecutor(config.data.num_threads or os.cpu_count()) as pool:
        decoded = list(pool.map(decode, captions))
    faults = [result for result in decoded if isinstance(result, str)]
    if faults:
        raise UserError(
            f"{len(faults):,} of the {len(decoded):,} images of {table} cannot be used:"
            f" {first_few(faults, separator='; ')}; fix the files or delete their lines."
        )
    counts = [len(texts) for texts in captions.values()]
    return Captioned(
        np.repeat(np.stack(decoded), counts, axis=0),
        tuple(text for texts in captions.values() for text in texts),
        tuple(np.repeat(list(captions), counts).tolist()),
    )
