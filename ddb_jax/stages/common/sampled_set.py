"""Writes a set of generated images as ArrayRecord shards; a restart loses one shard at most.

A set is a folder of shards with `manifest.json`, which names them, and for each shard a file that
says which of its images are finite: images from a network that overflowed are never trained on.
"""

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ddb_jax.data.images.records import load_records, write_shard
from ddb_jax.data.source import ArraySource
from ddb_jax.runtime.errors import UserError, first_line, write_failure
from ddb_jax.runtime.files import (
    DamagedFile,
    agreed,
    load_array,
    read_json,
    save_array,
    write_json,
    write_through,
)
from ddb_jax.runtime.processes import barrier
from ddb_jax.runtime.progress import Progress
from ddb_jax.stages.context import Context

log = logging.getLogger("ddb_jax")

# Image numbers int32 [B] -> images uint8 [B, H, W, 3] and whether each is finite, bool [B].
Draw = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

MANIFEST = "manifest.json"


def write_sampled_set(
    context: Context,
    draw: Draw,
    labels: np.ndarray,
    *,
    image_shape: tuple[int, int, int],
    batch_size: int,
    shard_size: int,
    manifest: dict[str, Any],
) -> tuple[ArraySource, np.ndarray]:
    """Draw image i of every label labels[i] and write the set to the stage's folder.

    Complete shards are kept. Image i must depend only on i and the stage's seed.

    Args:
        context: What the stage is given.
        draw: Draws the images with the given numbers; the last batch of a shard may contain numbers
            beyond the end, whose images are discarded.
        labels: int32 [N].
        image_shape: Shape of the images.
        batch_size: Images drawn at a time; of all devices together.
        shard_size: Images per file.
        manifest: Further entries of manifest.json.

    Returns:
        All images, and whether each is finite, bool [N].

    Raises:
        UserError: The disk is full.
        Interrupted: The run was asked to stop.
    """
    total = len(labels)
    num_shards = -(-total // shard_size)
    paths = [
        context.folder / f"images-{i:05d}-of-{num_shards:05d}.arrayrecord"
        for i in range(num_shards)
    ]
    # No larger than a shard, except to be a multiple of the devices.
    devices = context.mesh.size
    batch_size = min(batch_size, -(-shard_size // devices) * devices)
    whole = [agreed(functools.partial(_is_whole, path)) for path in paths]
    progress = Progress(context.name, total, unit="images")
    for shard, path in enumerate(paths):
        first, end = shard * shard_size, min((shard + 1) * shard_size, total)
        if whole[shard]:
            continue
        images, finite = [], []
        for begin in range(first, end, batch_size):
            context.leave_if_stopped(f"{shard} of {num_shards} shards are written")
            drawn, is_finite = draw(np.arange(begin, begin + batch_size, dtype=np.int32))
            images.append(drawn[: end - begin])
            finite.append(is_finite[: end - begin])
            progress.update(min(begin + batch_size, end))
        numbers = np.arange(first, end)
        _write_shard(path, np.concatenate(images), np.concatenate(finite), labels, numbers)
    progress.close()
    barrier("all images are written")
    finite = np.concatenate([load_array(_finite_path(path)) for path in paths])
    if not finite.all():
        log.warning(
            "warning: %s: %s of %s images are not finite and are left out",
            context.name, f"{np.sum(~finite):,}", f"{total:,}",
        )  # fmt: skip
    class_names = context.dataset.class_names
    write_json(
        context.folder / MANIFEST,
        {
            **manifest,
            "seed": context.seed,
            "image_shape": list(image_shape),
            "shards": [path.name for path in paths],
            "not_finite": int(np.sum(~finite)),
            "counts": {name: int(np.sum(labels == i)) for i, name in enumerate(class_names)},
        },
    )
    return load_records(paths, image_shape), finite


def _write_shard(
    path: Path, images: np.ndarray, finite: np.ndarray, labels: np.ndarray, numbers: np.ndarray
) -> None:
    """Write the images of these numbers, and before them which are finite."""
    write = functools.partial(write_shard, images=images, labels=labels[numbers], indices=numbers)
    try:
        save_array(_finite_path(path), finite)
        write_through(path, write)
    except (OSError, RuntimeError) as error:  # array_record raises the latter on a full disk
        reason, fix = write_failure(error) or (first_line(error), "make room")
        raise UserError(
            f"the images could not be written to {path} ({reason});"
            f" {fix} and run again: earlier files are complete."
        ) from error


def load_sampled(folder: Path) -> tuple[ArraySource, np.ndarray]:
    """All images of a set, in memory, and whether each is finite, bool [N].

    Raises:
        UserError: A shard is missing or damaged.
    """
    manifest = read_json(folder / MANIFEST)
    paths = [folder / name for name in manifest["shards"]]
    try:
        source = load_records(paths, tuple(manifest["image_shape"]))
        finite = np.concatenate([load_array(_finite_path(path)) for path in paths])
    except (OSError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise UserError(f"{reason}; remove {folder} to draw the images again.") from error
    return source, finite


def load_finite(folder: Path) -> ArraySource:
    """The finite images of a set; their label is the class they were drawn for."""
    source, finite = load_sampled(folder)
    if finite.all():
        return source
    return ArraySource(
        source.images[finite], source.labels[finite], source.bias[finite],
        tuple(np.array(source.paths)[finite]),
    )  # fmt: skip


def _is_whole(shard: Path) -> bool:
    """Whether an earlier run has written a shard, and the file beside it can be read."""
    try:
        return shard.exists() and load_array(_finite_path(shard)).dtype == bool
    except (OSError, DamagedFile) as error:
        log.warning("warning: the images of %s are drawn again: %s", shard, error)
        return False


def _finite_path(shard: Path) -> Path:
    return shard.with_suffix(".finite.npy")
