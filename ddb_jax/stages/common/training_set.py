"""What a debiasing method is told of the training split, gathered from the tasks before it.

Also the names of the files that tasks leave for one another.
"""

import logging
from pathlib import Path

import numpy as np

from ddb_jax.data.joined import Joined
from ddb_jax.data.source import Dataset, Source
from ddb_jax.debias.contract import TrainingSet

# selection_rule is here for run/plan.py and run/cost.py.
from ddb_jax.debias.pseudo_groups import Groups, assign_bias_groups, assign_groups
from ddb_jax.debias.requirements import (
    BIAS_FEATURES,
    COMMITTEE_VOTES,
    ENVIRONMENTS,
    PSEUDO_GROUPS,
    SCORES_OF,
    TRUE_GROUPS,
)
from ddb_jax.debias.table import MethodEntry
from ddb_jax.runtime.files import load_array
from ddb_jax.stages.common.sampled_set import load_finite
from ddb_jax.stages.common.scores_table import read_scores, select_split
from ddb_jax.stages.context import Context

log = logging.getLogger("ddb_jax")

# What follows if no, or every, training image is flagged, by whether a committee flagged them.
MEANING = {
    (False, "no"): "this is plain training",
    (False, "every"): "this is plain training",
    (True, "no"): "the biased network learns from all of them",
    (True, "every"): "the biased network learns from none: lower config.committee.confidence or"
    " .agreement, or raise config.reference.num_steps",
}

# Tasks that some trainings read from.
GENERATED, GENERATED_SCORES = "check_generated", "score_generated"
# Files that one task leaves for another.
FEATURES = "features.npy"  # float32 [N, D] of the training images
LOGITS = "logits.npy"  # float32 [N, K] of the training images
HELD_OUT = "held_out.npy"  # int64, the training images that a network was not trained on


def read_split(folder: Path, split: str) -> dict[str, np.ndarray]:
    """The rows of one split of a task's scores."""
    return select_split(read_scores(folder / "scores.csv"), split)


def training_source(context: Context) -> Source:
    """The real training images, followed by the generated ones if the stage has any."""
    train = context.dataset.train
    if GENERATED not in context.inputs:
        return train
    return Joined([train, load_finite(context.inputs[GENERATED])])


def make_training_set(
    context: Context, entry: MethodEntry, source: Source
) -> tuple[TrainingSet, dict[str, np.ndarray | None], Groups | None]:
    """What the method may know, the columns that its batches may carry, and its groups.

    `source` is that of `training_source`.
    """
    groups = groups_for(context, entry.requires, source, "train", entry.pseudo_group_rule)
    if groups and groups.dropped:
        log.info("%s: left out as empty: %s", context.name, ", ".join(groups.dropped))
    rows = {}
    if entry.requires in SCORES_OF:
        rows = _rows(context, entry.requires, "train")
        # Columns that given scores lack are -1 throughout.
        rows = {name: None if _lacking(values) else values for name, values in rows.items()}
    # A biased model predicts the class that an image's bias goes with.
    given_bias = source.bias if entry.uses_bias_labels else rows.get("predicted")
    flagged = None
    if entry.flagged:
        flagged = rows[entry.flagged].astype(bool)
        if flagged.all() or not flagged.any():
            what = "every" if flagged.all() else "no"
            log.warning(
                "warning: %s: %s training image is flagged as bias-conflicting, so that %s",
                context.name, what, MEANING[entry.requires == COMMITTEE_VOTES, what],
            )  # fmt: skip
    features = None
    if entry.requires == BIAS_FEATURES:
        features = load_array(context.inputs["train_bias_features"] / FEATURES)
    training_set = TrainingSet(
        labels=source.labels,
        num_classes=context.num_classes,
        group_sizes=groups.sizes if groups else None,
        amplifier_loss=rows.get("loss"),
        bias=given_bias,
        flagged=flagged,
        bias_features=features,
    )
    columns = {
        "group": groups.ids if groups else None,
        "amplifier_loss": rows.get("loss"),
        "given_bias": given_bias,
        "flagged": flagged,
        "bias_features": features,
    }
    return training_set, columns, groups


def _rows(context: Context, requires: str, split: str) -> dict[str, np.ndarray]:
    """The scores of one split; those of the training split go on with the generated images'."""
    rows = read_split(context.inputs[SCORES_OF[requires]], split)
    if split != "train" or GENERATED_SCORES not in context.inputs:
        return rows
    generated = read_split(context.inputs[GENERATED_SCORES], "generated")
    return {name: np.concatenate([values, generated[name]]) for name, values in rows.items()}


def _lacking(values: np.ndarray) -> bool:
    return values.dtype != object and bool(np.all(values == -1))


def groups_for(
    context: Context, requires: str, source: Source, split: str, rule: str | None = None
) -> Groups | None:
    """The groups that a method or a selection rule requires; None if no groups are needed.

    `rule` is the pseudo-group rule that the method fixes; None means the configured one.
    """
    dataset = context.dataset
    if requires == TRUE_GROUPS:
        return true_groups(source, dataset, context.config.evaluation.group_by)
    if requires in (PSEUDO_GROUPS, ENVIRONMENTS):
        column = "error_set" if rule == "error_set" else "pseudo_conflicting"
        flagged = _rows(context, requires, split)[column].astype(bool)
        return assign_groups(source.labels, flagged, context.num_classes, dataset.class_names)
    return None


def true_groups(source: Source, dataset: Dataset, group_by: str) -> Groups:
    """Class x aligned/conflicting, or class x bias attribute, from the true bias labels."""
    names = dataset.class_names
    if group_by == "bias":
        return assign_bias_groups(
            source.labels, source.bias, len(names), len(dataset.bias_names), names,
            dataset.bias_names,
        )  # fmt: skip
    return assign_groups(source.labels, source.bias != source.labels, len(names), names)
