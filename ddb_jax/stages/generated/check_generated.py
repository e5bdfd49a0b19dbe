"""Stage: the gate between generated images and training, which drops harmful images.

An image is dropped for the first of these reasons that applies: it is not finite; it copies a
training image; the amplifier accepts it as its class, if only rejected images are wanted; or both
the biased and the debiased classifier reject its label.

Writes the images that are left, at the classifier's size, as `write_sampled_set` does; `kept.csv`,
their numbers here and in the drawn set; `gate.json`, how many images went which way and what share
of the validation images the test for copies flags; and the sheets `kept.png` and `dropped.png`.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from ddb_jax.data.images.decode import resize_all
from ddb_jax.data.source import ArraySource
from ddb_jax.evaluation.copies import copies
from ddb_jax.runtime.errors import UserError
from ddb_jax.runtime.files import read_json, write_json
from ddb_jax.stages.common.classifier_training import load_classifier
from ddb_jax.stages.common.contact_sheet import save_grid
from ddb_jax.stages.common.picture_names import picture_names
from ddb_jax.stages.common.pixels import small_pixels, small_pixels_of
from ddb_jax.stages.common.sampled_set import load_sampled, write_sampled_set
from ddb_jax.stages.context import Context
from ddb_jax.stages.generated.captions_table import write_rows

log = logging.getLogger("ddb_jax")

REASONS = ("not_finite", "copies", "expected", "denied")  # in the order in which they count
KEPT = len(REASONS)
SHOWN = 16  # images of a row of a sheet
SHARD_SIZE = 1_000
MAX_HELD_OUT_COPIES = 0.05  # above this share there is a warning


def run(context: Context) -> dict[str, Any]:
    """Judge every image of the drawn set."""
    gate, num_classes = context.config.gate, context.num_classes
    drawn, finite = load_sampled(context.inputs["drawn"])
    images = _resized(drawn, context.dataset.train.image_shape[0])
    labels = images.labels
    reasons = {"not_finite": ~finite}
    held_out = None
    if gate.copies:
        reasons["copies"], held_out = _copies(context, images)
    if "train_amplifier" in context.inputs:
        seen = _resized(drawn, context.config.diffusion.image_size)
        amplifier = context.inputs["train_amplifier"]
        predict = load_classifier(context, context.config.amplifier, num_classes, amplifier, seen)
        reasons["expected"] = predict(seen).predicted == labels
    if gate.labels:
        reasons["denied"] = _denies(context, context.inputs["train_biased"], images)
        debiased = context.inputs["debiased"]
        kind = read_json(debiased / "selection.json")["network"]
        reasons["denied"] &= _denies(context, debiased, images, kind)

    verdict = np.full(len(labels), KEPT)
    for number, reason in reversed(list(enumerate(REASONS))):
        if reason in reasons:
            verdict[reasons[reason]] = number
    counts = _counts(verdict, labels, context.dataset.class_names)
    write_json(context.folder / "gate.json", {**counts, "held_out_copies": held_out})
    _save_sheets(context, images, verdict)
    _report(context, counts)
    _write_kept(context, images, np.flatnonzero(verdict == KEPT))
    return counts["all"]


def _resized(drawn: ArraySource, side: int) -> ArraySource:
    return ArraySource(resize_all(drawn.images, side), drawn.labels, drawn.bias, drawn.paths)


def _copies(context: Context, images: ArraySource) -> tuple[np.ndarray, float]:
    """Whether an image copies a training image, bool [N], and how many validation images seem to.

    Those are real and distinct, so their share shows how often the test is wrong.
    """
    gate, dataset = context.config.gate, context.dataset
    training = small_pixels_of(dataset.train)

    def test(pixels: np.ndarray) -> np.ndarray:
        return copies(pixels, training, gate.copy_ratio, gate.copy_neighbours).is_copy

    held_out = float(np.mean(test(small_pixels_of(dataset.validation))))
    if held_out > MAX_HELD_OUT_COPIES:
        log.warning(
            "warning: %s: the test for copies also flags %.0f%% of the validation images as copies:"
            " lower config.gate.copy_neighbours or .copy_ratio, unless the splits"
            " share images",
            context.name, 100 * held_out,
        )  # fmt: skip
    return test(small_pixels(images.images)), held_out


def _denies(
    context: Context, folder: Path, images: ArraySource, kind: str = "classifier"
) -> np.ndarray:
    """Whether a classifier gives an image another class than it was drawn for, bool [N]."""
    settings = context.config.classifier
    predict = load_classifier(context, settings, context.num_classes, folder, images, kind)
    return predict(images).predicted != images.labels


def _counts(
    verdict: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...]
) -> dict[str, dict[str, Any]]:
    """How many images were drawn, dropped for each reason and kept: in all, and of every class."""

    def count(members: np.ndarray) -> dict[str, int]:
        found = np.bincount(verdict[members], minlength=KEPT + 1).tolist()
        return {"drawn": sum(found), **dict(zip((*REASONS, "kept"), found, strict=True))}

    return {
        "all": count(np.full(len(labels), True)),
        "classes": {name: count(labels == i) for i, name in enumerate(class_names)},
    }


def _save_sheets(context: Context, images: ArraySource, verdict: np.ndarray) -> None:
    names = picture_names(context.dataset.class_names)

    def some(number: int, label: int) -> np.ndarray:
        return images.images[(verdict == number) & (images.labels == label)][:SHOWN]

    kept = [some(KEPT, label) for label in range(len(names))]
    save_grid(context.folder / "kept.png", kept, names)
    dropped = {
        f"{name}: {reason.replace('_', ' ')}": some(number, label)
        for label, name in enumerate(names)
        for number, reason in enumerate(REASONS)
    }
    dropped = {title: row for title, row in dropped.items() if len(row)}
    titles = tuple(dropped) or ("none",)
    save_grid(
        context.folder / "dropped.png", tuple(dropped.values()) or (images.images[:0],), titles
    )


def _report(context: Context, counts: dict[str, dict[str, Any]]) -> None:
    """Log how many are left; stop if there are none."""
    total = counts["all"]
    ways = ", ".join(f"{reason.replace('_', ' ')} {total[reason]:,}" for reason in REASONS)
    if not total["kept"]:
        raise UserError(
            f"none of the {total['drawn']:,} generated images can be trained on ({ways}): see"
            f" {context.folder / 'dropped.png'}, then fix their source or loosen config.gate."
        )
    log.info(
        "%s: %s of %s generated images are kept; %s",
        context.name, f"{total['kept']:,}", f"{total['drawn']:,}", ways,
    )  # fmt: skip
    if total["not_finite"]:
        log.warning(
            "warning: %s: %s images are not finite and are left out",
            context.name, f"{total['not_finite']:,}",
        )  # fmt: skip
    bare = [n for n, found in counts["classes"].items() if found["drawn"] and not found["kept"]]
    if bare:
        log.warning(
            "warning: %s: no generated image of class %s is left, which is trained on real images"
            " alone",
            context.name, ", ".join(bare),
        )  # fmt: skip


def _write_kept(context: Context, images: ArraySource, kept: np.ndarray) -> None:
    """The kept images as a drawn set, and where in the drawn set each is."""

    def take(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        places = kept[np.minimum(numbers, len(kept) - 1)]
        return images.images[places], np.full(len(places), True)

    write_sampled_set(
        context,
        take,
        images.labels[kept],
        image_shape=images.image_shape,
        batch_size=SHARD_SIZE,
        shard_size=SHARD_SIZE,
        manifest={},
    )
    write_rows(context.folder / "kept.csv", ("number", "drawn"), enumerate(kept.tolist()))
