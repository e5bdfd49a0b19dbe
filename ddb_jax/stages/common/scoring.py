"""Scores and pseudo-groups of every real image, from a biased model or a file."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ddb_jax.data.source import Dataset, Source, conflicting
from ddb_jax.debias.pseudo_groups import assign_groups, conflicting_by_rule, error_set
from ddb_jax.evaluation.bias_detection import metrics_where_known
from ddb_jax.runtime.files import write_json
from ddb_jax.stages.common.classifier_training import Predictions
from ddb_jax.stages.common.scores_table import COLUMNS, rank_in_class, write_scores
from ddb_jax.stages.context import Context

# (split, labels int [N], predictions) -> bool [N], flagged as bias-conflicting.
Flag = Callable[[str, np.ndarray, Predictions], np.ndarray]


class Scored(NamedTuple):
    """What is known about every image of one split; unknown fields are None.

    Attributes:
        flagged: bool [N], flagged as bias-conflicting.
        predicted: int [N], class that a biased model gives.
        probability: float [N], that it gives the image's own label.
        loss: float [N], its cross-entropy against the label, at least 0.
        suspicion: float [N], finite: the higher, the more suspicious. Images are ranked by it; None
            takes the loss.
    """

    flagged: np.ndarray
    predicted: np.ndarray | None = None
    probability: np.ndarray | None = None
    loss: np.ndarray | None = None
    suspicion: np.ndarray | None = None


def write_scoring(
    context: Context,
    dataset: Dataset,
    predict: Callable[[Source], Predictions],
    *,
    flag: Flag | None = None,
    flag_name: str = "vote",
) -> dict[str, Any]:
    """Score train and validation; thresholds come from train alone.

    Writes what `write_tables` does.

    Args:
        context: What the stage is given.
        dataset: Its train and validation splits are scored.
        predict: The biased model.
        flag: Flags images instead of the configured rule.
        flag_name: Name of that rule in `detection.json`.

    Returns:
        The detection figures of train, by the rule.
    """
    rules = context.config.pseudo_groups
    scored, threshold = {}, -np.inf
    for split, source in _splits(dataset):
        predictions = predict(source)
        labels, predicted, loss = source.labels, predictions.predicted, predictions.loss
        if flag is not None:
            flagged = flag(split, labels, predictions)
        elif split == "train":
            flagged, threshold = conflicting_by_rule(
                rules.rule, labels, predicted, loss, rules.gamma
            )
        else:
            flagged = error_set(labels, predicted) & (loss > threshold)
        scored[split] = Scored(flagged, predicted, predictions.probability, loss)
    rule = rules.rule if flag is None else flag_name
    return write_tables(context, dataset, scored, rule=rule, threshold=threshold)


def write_tables(
    context: Context,
    dataset: Dataset,
    scored: Mapping[str, Scored],
    *,
    rule: str,
    threshold: float = -np.inf,
    details: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write `scores.csv` (training and validation rows) and `detection.json`.

    Unknown columns are -1 in every row: predicted and error_set; probability; loss;
    rank_in_class. `detection.json` holds the threshold, the group sizes and, where the bias is
    known, how well the scores find the bias-conflicting images. Unknown figures are null: accuracy
    and error_set without predictions, AUROC and average precision without a ranking.

    Args:
        context: What the stage is given.
        dataset: Its train and validation splits are scored.
        scored: "train" and "validation".
        rule: Name of the rule that flagged.
        threshold: Threshold of the loss by that rule; -inf for none.
        details: Further entries on the rule for `detection.json`.

    Returns:
        The detection figures of train, by the rule.
    """
    tables, detection = [], {}
    for split, source in _splits(dataset):
        labels, count, images = source.labels, len(source), scored[split]
        unknown = np.full(count, -1, np.int32)
        suspicion = images.loss if images.suspicion is None else images.suspicion
        flagged = np.asarray(images.flagged, bool)
        errors = None if images.predicted is None else error_set(labels, images.predicted)
        groups = assign_groups(labels, flagged, context.num_classes, dataset.class_names)
        truth = conflicting(source)
        tables.append(
            {
                "index": np.arange(count),
                "path": np.array(source.paths, object),
                "split": np.full(count, split, object),
                "label": labels,
                "predicted": unknown if images.predicted is None else images.predicted,
                "probability": unknown if images.probability is None else images.probability,
                "loss": unknown if images.loss is None else images.loss,
                "pseudo_group": np.array(groups.names, object)[groups.ids],
                "rank_in_class": unknown if suspicion is None else rank_in_class(labels, suspicion),
                "error_set": unknown if errors is None else errors.astype(np.int32),
                "pseudo_conflicting": flagged.astype(np.int32),
                "bias": source.bias,
                "conflicting": truth,
            }
        )
        known = truth >= 0
        detection[split] = {
            "accuracy": None if errors is None else float(np.mean(~errors)),
            "group_sizes": dict(zip(groups.names, groups.sizes.tolist(), strict=True)),
            "dropped_groups": list(groups.dropped),
            "images_of_known_bias": int(known.sum()),
            "rule": metrics_where_known(suspicion, flagged, truth),
            "error_set": None if errors is None else metrics_where_known(suspicion, errors, truth),
        }
        if errors is not None and known.any():
            detection[split]["accuracy_aligned"] = _mean(~errors[truth == 0])
            detection[split]["accuracy_conflicting"] = _mean(~errors[truth == 1])
    write_scores(
        context.folder / "scores.csv",
        {name: np.concatenate([table[name] for table in tables]) for name in COLUMNS},
    )
    write_json(
        context.folder / "detection.json",
        {"rule": rule, "threshold": _finite(threshold), **(details or {}), **detection},
    )
    return detection["train"]["rule"]


def _splits(dataset: Dataset) -> tuple[tuple[str, Source], ...]:
    return ("train", dataset.train), ("validation", dataset.validation)


def _mean(values: np.ndarray) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
