"""What a frozen classifier says of every real image, written as scores and pseudo-groups."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ddb_jax.data.source import Dataset, Source
from ddb_jax.debias.pseudo_groups import assign_groups, conflicting_by_rule, error_set
from ddb_jax.evaluation.bias_detection import detection_metrics
from ddb_jax.stages.classifier import Predictions
from ddb_jax.stages.context import Context
from ddb_jax.stages.scores_table import COLUMNS, write_scores
from ddb_jax.training.files import write_json


def write_scoring(
    context: Context, dataset: Dataset, predict: Callable[[Source], Predictions]
) -> dict[str, Any]:
    """Score train and validation; thresholds come from train alone.

    Writes `scores.csv` (training and validation rows) and `detection.json`: the threshold, the
    group sizes and, where the bias is known, how well the scores find the bias-conflicting images.

    Returns:
        The detection figures of train, by the configured rule.
    """
    rules = context.config.pseudo_groups
    tables, detection = [], {}
    threshold = -np.inf
    for split, source in (
        ("train", dataset.train),
        ("validation", dataset.validation),
    ):
        predictions = predict(source)
        labels = source.labels
        errors = error_set(labels, predictions.predicted)
        if split == "train":
            flagged, threshold = conflicting_by_rule(
                rules.rule, labels, predictions.predicted, predictions.loss, rules.gamma
            )
        else:
            flagged = errors & (predictions.loss > threshold)
        groups = assign_groups(labels, flagged, context.num_classes, dataset.class_names)
        truth = conflicting(source)
        tables.append(
            {
                "index": np.arange(len(source)),
                "path": np.array(source.paths, object),
                "split": np.full(len(source), split, object),
                "label": labels,
                "predicted": predictions.predicted,
                "probability": predictions.probability,
                "loss": predictions.loss,
                "pseudo_group": np.array(groups.names, object)[groups.ids],
                "rank_in_class": rank_in_class(labels, predictions.loss),
                "error_set": errors.astype(np.int32),
                "pseudo_conflicting": flagged.astype(np.int32),
                "bias": source.bias,
                "conflicting": truth,
            }
        )
        known = truth >= 0
        # Figures of detection are of the images whose bias is known; without any, of none.
        seen = known if known.any() else np.full(len(source), True)
        truth_known = truth[known] if known.any() else None
        detection[split] = {
            "accuracy": float(np.mean(~errors)),
            "group_sizes": dict(zip(groups.names, groups.sizes.tolist(), strict=True)),
            "dropped_groups": list(groups.dropped),
            "images_of_known_bias": int(known.sum()),
            "rule": detection_metrics(predictions.loss[seen], flagged[seen], truth_known),
            "error_set": detection_metrics(predictions.loss[seen], errors[seen], truth_known),
        }
        if known.any():
            detection[split]["accuracy_aligned"] = _mean(~errors[truth == 0])
            detection[split]["accuracy_conflicting"] = _mean(~errors[truth == 1])
    write_scores(
        context.folder / "scores.csv",
        {name: np.concatenate([table[name] for table in tables]) for name in COLUMNS},
    )
    write_json(
        context.folder / "detection.json",
        {"rule": rules.rule, "threshold": _finite(threshold), **detection},
    )
    return detection["train"]["rule"]


def conflicting(source: Source) -> np.ndarray:
    """int32 [N]: 1 where the bias attribute disagrees with the label, 0 where not, -1 unknown."""
    return np.where(source.bias < 0, -1, source.bias != source.labels).astype(np.int32)


def rank_in_class(labels: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """int32 [N]: 1 for the highest loss of its class, 2 for the next; ties by position."""
    ranks = np.zeros(len(labels), np.int32)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = np.argsort(-losses[members], kind="stable")
        ranks[members[order]] = np.arange(1, len(members) + 1)
    return ranks


def _mean(values: np.ndarray) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
