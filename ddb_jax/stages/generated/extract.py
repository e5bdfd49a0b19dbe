"""Stage: the training images that DiffuBias' biased classifier fails on most.

Writes `extracted.csv`, the images in the order of extraction, and `sheet.png`, the first of every
class. index is the position in the training split.
"""

import logging
from typing import Any

import numpy as np

from ddb_jax.debias.extraction import highest_losses
from ddb_jax.runtime.errors import UserError
from ddb_jax.stages.common.contact_sheet import save_grid
from ddb_jax.stages.common.picture_names import picture_names
from ddb_jax.stages.common.training_set import read_split
from ddb_jax.stages.context import Context
from ddb_jax.stages.generated.captions_table import write_rows

log = logging.getLogger("ddb_jax")

COLUMNS = ("index", "path", "label", "loss")
SHOWN = 16  # images of a class on the sheet


def run(context: Context) -> dict[str, Any]:
    """Take the `extraction.k` images of highest cross-entropy, of every class or of all."""
    settings, train = context.config.extraction, context.dataset.train
    names = context.dataset.class_names
    losses = read_split(context.inputs["train_biased"], "train")["loss"]
    try:
        found = highest_losses(losses, train.labels, settings.k, settings.per_class, names)
    except ValueError as error:
        raise UserError(
            f"the biased classifier's losses do not rank the images: {error}"
        ) from error
    for note in found.notes:
        log.warning("warning: %s: %s", context.name, note)
    labels = train.labels[found.indices]
    write_rows(
        context.folder / "extracted.csv",
        COLUMNS,
        ((i, train.paths[i], train.labels[i], f"{losses[i]:.9g}") for i in found.indices.tolist()),
    )
    first = [found.indices[labels == label][:SHOWN] for label in range(len(names))]
    rows = [train.gather(indices)["image"] for indices in first]
    save_grid(context.folder / "sheet.png", rows, picture_names(names))
    counts = np.bincount(labels, minlength=len(names)).tolist()
    return {"images": len(labels), "per_class": dict(zip(names, counts, strict=True))}
