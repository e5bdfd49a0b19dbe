"""How many images are generated of each class, and the order in which they are drawn."""

import numpy as np

from ddb_jax.stages.common.scores_table import rank_in_class, read_scores, select_split
from ddb_jax.stages.context import Context


def images_per_class(context: Context) -> np.ndarray:
    """int64 [K]: `generated.ratio` times the training images that train_biased gets right.

    Those stand for the bias-aligned images; arXiv 2411.16079 generates "as many". At least 1 per
    class; a ratio of 0 counts as 1 here.
    """
    train = select_split(read_scores(context.inputs["train_biased"] / "scores.csv"), "train")
    right = train["label"][train["predicted"] == train["label"]]
    counts = np.bincount(right, minlength=context.num_classes)
    ratio = context.config.generated.ratio or 1.0
    return np.maximum(np.rint(ratio * counts), 1).astype(np.int64)


def labels_in_turn(counts: np.ndarray) -> np.ndarray:
    """int32 [sum(counts)]: each label y counts[y] times, the labels taking turns.

    Every prefix is then as balanced as the counts allow.
    """
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    return labels[np.argsort(rank_in_class(labels), kind="stable")]
