"""Stage: captions of the extracted images, from a file, a captioner or a reference set.

Writes `captions.csv`: image by image in the order of extraction, or, where a file gives captions of
classes and not of images, all of them in its order.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ddb_jax.data.source import ArraySource
from ddb_jax.runtime.errors import UserError
from ddb_jax.runtime.files import DamagedFile, read_json, read_rows, write_json
from ddb_jax.runtime.processes import barrier
from ddb_jax.runtime.progress import Progress
from ddb_jax.stages.common.classifier_training import make_outputs, pretrained_variables
from ddb_jax.stages.common.networks import build_classifier, input_size
from ddb_jax.stages.common.pixels import small_pixels
from ddb_jax.stages.context import Context
from ddb_jax.stages.generated.captions_table import CaptionTable, check_classes, write_captions
from ddb_jax.text_to_image.captioned_set import load_captioned
from ddb_jax.text_to_image.captioners import (
    Captioner,
    hugging_face_captioner,
    retrieval_captioner,
)
from ddb_jax.text_to_image.captions import read_captions
from ddb_jax.training.rng import data_seed

log = logging.getLogger("ddb_jax")

SO_FAR = "captions_so_far.json"

# Images uint8 [N, S, S, 3] -> features float32 [N, F].
Features = Callable[[np.ndarray], np.ndarray]


def run(context: Context) -> dict[str, Any]:
    """Caption by `captions.source`."""
    source = context.config.captions.source
    rows = read_rows(context.inputs["extract"] / "extracted.csv")
    extracted = np.array([int(row["index"]) for row in rows], np.int64)
    try:
        if source == "csv":
            table = _from_file(context, extracted)
        else:
            table = _from_captioner(context, extracted, CAPTIONERS[source])
    except (ValueError, FileNotFoundError) as error:
        raise UserError(f"the extracted images cannot be captioned: {error}") from error
    if source == "csv":
        why, remedy = "is of an extracted image", "add some to the file"
        if np.any(table.indices < 0):
            why = f"is in {context.config.captions.csv}"
    else:
        why = "was written, as none of its images was extracted"
        remedy = "set config.extraction.per_class=True"
    check_classes(context, table.labels, why, remedy)
    write_captions(context.folder, table)
    return {"images": len(extracted), "captions": len(table.captions)}


def _from_file(context: Context, extracted: np.ndarray) -> CaptionTable:
    """All captions of a file that names classes; of one that names images, the extracted ones'."""
    train, path = context.dataset.train, Path(context.config.captions.csv)
    read = read_captions(path, context.dataset.class_names, train.paths, train.labels)
    for note in read.notes:
        log.warning("warning: %s: %s", context.name, note)
    if np.all(read.images < 0):
        return CaptionTable(read.labels, read.images, read.texts)
    rows = [row for index in extracted for row in np.flatnonzero(read.images == index)]
    lacking = int(np.sum(~np.isin(extracted, read.images)))
    if lacking:
        log.warning(
            "warning: %s: %s of %s extracted images have no caption in %s",
            context.name, f"{lacking:,}", f"{len(extracted):,}", path,
        )  # fmt: skip
    return CaptionTable(
        read.labels[rows], read.images[rows], tuple(read.texts[row] for row in rows)
    )


class _Kind(NamedTuple):
    """A kind of captioner and its batch size, which is what a killed run can lose."""

    make: Callable[[Context], Captioner]
    chunk_size: int


def _from_captioner(context: Context, extracted: np.ndarray, kind: _Kind) -> CaptionTable:
    """Captions of every extracted image; a restart resumes where it stopped."""
    train, so_far = context.dataset.train, context.folder / SO_FAR
    texts = _texts_so_far(so_far, len(extracted))
    barrier("all have read the captions so far")
    caption = kind.make(context)
    progress = Progress(context.name, len(extracted), len(texts), unit="images")
    while len(texts) < len(extracted):
        context.leave_if_stopped(f"{len(texts):,} of {len(extracted):,} images are captioned")
        images = train.gather(extracted[len(texts) : len(texts) + kind.chunk_size])["image"]
        texts += caption(images, context.config.captions.per_image)
        write_json(so_far, texts)
        progress.update(len(texts))
    progress.close()
    rows = [
        (index, text)
        for index, found in zip(extracted.tolist(), texts, strict=True)
        for text in found
        if text
    ]
    indices = np.array([index for index, _ in rows], np.int32)
    return CaptionTable(train.labels[indices], indices, tuple(text for _, text in rows))


def _texts_so_far(path: Path, most: int) -> list[list[str]]:
    """The captions that an earlier run has written; none where the file is missing or damaged."""
    if not path.exists():
        return []
    try:
        texts = read_json(path, list)
    except DamagedFile as error:
        log.warning("warning: %s is damaged (%s): all images are captioned", path, error.reason)
        return []
    return texts[:most]


def _hugging_face(context: Context) -> Captioner:
    """Hugging Face captions of the data set's images, at the classifier's size."""
    settings = context.config.captions
    return hugging_face_captioner(
        settings.model,
        prompt=settings.prompt,
        decoding=settings.decoding,
        seed=data_seed(context.seed, "caption"),
    )


def _retrieval(context: Context) -> Captioner:
    size = context.dataset.train.image_shape[0]
    reference = load_captioned(context.config, size)
    features = FEATURES[context.config.captions.features](context, reference.images)
    return retrieval_captioner(features, features(reference.images), reference.captions)


def _pixel_features(context: Context, reference: np.ndarray) -> Features:
    """Pixels minus the mean reference image; without this all images are similar."""
    del context
    mean = small_pixels(reference).mean(axis=0, dtype=np.float64).astype(np.float32)
    return lambda images: small_pixels(images) - mean


def _pretrained_features(context: Context, reference: np.ndarray) -> Features:
    """What the last layer of the config's classifier sees, with its pretrained weights."""
    del reference
    settings = context.config.classifier
    if not settings.weights:
        raise UserError(
            "config.captions.features 'pretrained' needs config.classifier.weights, which is empty:"
            " name a file there, or set config.captions.features='pixels'."
        )
    size = input_size(settings, context.dataset.train)
    model = build_classifier(settings, context.num_classes)
    (variables,) = pretrained_variables(context, settings, context.num_classes, size)
    outputs = make_outputs(model, settings, size, context.mesh)

    def features(images: np.ndarray) -> np.ndarray:
        unknown = np.full(len(images), -1, np.int32)
        return outputs(variables, ArraySource(images, unknown, unknown))[1]

    return features


CAPTIONERS = {"hugging_face": _Kind(_hugging_face, 16), "retrieval": _Kind(_retrieval, 256)}
FEATURES = {"pixels": _pixel_features, "pretrained": _pretrained_features}
