"""Stage: the frozen amplifier scores the generated images that are kept.

It sees them as they were drawn, at the generator's size. Writes `scores.csv` with the columns of
`scores_table`, split "generated"; index is the number among the kept images, path the place in the
drawn set. The threshold of the pseudo-groups is that of the real images.
"""

from typing import Any

import numpy as np

from ddb_jax.data.images.decode import resize_all
from ddb_jax.data.source import ArraySource
from ddb_jax.debias.pseudo_groups import assign_groups, error_set
from ddb_jax.runtime.files import read_json, read_rows
from ddb_jax.stages.common.classifier_training import load_classifier
from ddb_jax.stages.common.sampled_set import load_sampled
from ddb_jax.stages.common.scores_table import rank_in_class, write_scores
from ddb_jax.stages.context import Context


def run(context: Context) -> dict[str, Any]:
    """Score at the generator's size."""
    rows = read_rows(context.inputs["check_generated"] / "kept.csv")
    kept = np.array([int(row["drawn"]) for row in rows])
    drawn, _ = load_sampled(context.inputs["drawn"])
    size, labels = context.dataset.train.image_shape[0], drawn.labels[kept]
    unknown = np.full(len(kept), -1, np.int32)
    seen = ArraySource(resize_all(drawn.images[kept], size), labels, unknown)
    predict = load_classifier(
        context,
        context.config.amplifier,
        context.num_classes,
        context.inputs["train_amplifier"],
        seen,
    )
    predictions = predict(seen)
    # null where the rule has none: then every error conflicts.
    threshold = read_json(context.inputs["score"] / "detection.json")["threshold"]
    errors = error_set(labels, predictions.predicted)
    flagged = errors & (predictions.loss > (-np.inf if threshold is None else threshold))
    groups = assign_groups(labels, flagged, context.num_classes, context.dataset.class_names)
    write_scores(
        context.folder / "scores.csv",
        {
            "index": np.arange(len(kept)),
            "path": np.array(drawn.paths, object)[kept],
            "split": np.full(len(kept), "generated", object),
            "label": labels,
            "predicted": predictions.predicted,
            "probability": predictions.probability,
            "loss": predictions.loss,
            "pseudo_group": np.array(groups.names, object)[groups.ids],
            "rank_in_class": rank_in_class(labels, predictions.loss),
            "error_set": errors.astype(np.int32),
            "pseudo_conflicting": flagged.astype(np.int32),
            "bias": unknown,
            "conflicting": unknown,
        },
    )
    return {"images": len(kept), "conflicting": int(flagged.sum())}
