"""Stage: splits the training images into two environments, inferred from a briefly trained model.

Writes `scores.csv`, the first model's with pseudo_conflicting and pseudo_group after the inferred
environments of the training images, and `detection.json`.
"""

from typing import Any

import numpy as np

from ddb_jax.debias import eiil
from ddb_jax.debias.pseudo_groups import assign_groups
from ddb_jax.evaluation.bias_detection import metrics_where_known
from ddb_jax.runtime.files import load_array, write_json
from ddb_jax.stages.common.scores_table import read_scores, write_scores
from ddb_jax.stages.common.training_set import LOGITS
from ddb_jax.stages.context import Context
from ddb_jax.training.rng import data_seed


def run(context: Context) -> dict[str, Any]:
    """Split the training images; the environment of the higher loss is called conflicting."""
    train, first = context.dataset.train, context.inputs["train_reference"]
    logits = load_array(first / LOGITS)
    seed = data_seed(context.seed, "infer_environments")
    share = eiil.infer_environments(context.config.eiil, logits, train.labels, seed)
    flagged = share > 0.5
    table = read_scores(first / "scores.csv")
    rows = table["split"] == "train"
    groups = assign_groups(train.labels, flagged, context.num_classes, context.dataset.class_names)
    table["pseudo_conflicting"][rows] = flagged
    table["pseudo_group"][rows] = np.array(groups.names, object)[groups.ids]
    write_scores(context.folder / "scores.csv", table)
    found = metrics_where_known(share, flagged, table["conflicting"][rows])
    write_json(
        context.folder / "detection.json",
        {
            "train": {
                "rule": found,
                "group_sizes": dict(zip(groups.names, groups.sizes.tolist(), strict=True)),
                "dropped_groups": list(groups.dropped),
            }
        },
    )
    return found
