"""Stage: train the target classifier on the real images with one debiasing method.

Writes `checkpoints/`, `weights/` (of the step that the selection rule prefers), `metrics.jsonl`
and `selection.json`.
"""

import logging
from typing import Any

import numpy as np

from ddb_jax.data.source import Dataset, Source
from ddb_jax.debias.method import TrainingSet
from ddb_jax.debias.methods import METHODS
from ddb_jax.debias.pseudo_groups import Groups, assign_bias_groups, assign_groups
from ddb_jax.evaluation.selection import RULES as SELECTION_RULES
from ddb_jax.stages.classifier import train_classifier
from ddb_jax.stages.context import Context
from ddb_jax.stages.scores_table import read_scores, select_split
from ddb_jax.training.files import write_json

log = logging.getLogger("ddb_jax")

# Where a method's error set is written.
ERRORS = {"amplifier_errors": "score", "reference_errors": "train_reference"}


def run(context: Context) -> dict[str, Any]:
    """Train `options["method"]`, choosing the step by the rule of the config."""
    config, name = context.config, context.options["method"]
    entry, train, validation = METHODS[name], context.dataset.train, context.dataset.validation
    scores = None
    if "score" in context.inputs:
        scores = read_scores(context.inputs["score"] / "scores.csv")

    rule = entry.pseudo_group_rule
    groups = _groups(context, entry.requires, train, "train", scores, rule)
    if groups and groups.dropped:
        log.info("%s: left out as empty: %s", context.name, ", ".join(groups.dropped))
    train_scores = select_split(scores, "train") if scores else {}
    amplifier_loss = train_scores.get("loss")
    # The amplifier calls an image what its bias looks like.
    given_bias = train.bias if entry.uses_bias_labels else train_scores.get("predicted")
    flagged = None
    if entry.requires in ERRORS:
        first = read_scores(context.inputs[ERRORS[entry.requires]] / "scores.csv")
        flagged = select_split(first, "train")["error_set"].astype(bool)
    training_set = TrainingSet(
        labels=train.labels,
        num_classes=context.num_classes,
        group_sizes=groups.sizes if groups else None,
        amplifier_loss=amplifier_loss,
        bias=given_bias,
        flagged=flagged,
    )
    method = entry.make(config.get(entry.settings) if entry.settings else None, training_set)
    available = {
        "group": groups.ids if groups else None,
        "amplifier_loss": amplifier_loss,
        "given_bias": given_bias,
    }

    selection = selection_rule(config, name)
    score, requires = SELECTION_RULES[selection].score, SELECTION_RULES[selection].requires
    validation_groups = _groups(context, requires, validation, "validation", scores, rule)
    ids = validation_groups.ids if validation_groups else None

    state = train_classifier(
        context,
        config.classifier,
        train,
        num_outputs=context.num_classes,
        method=method,
        columns={column: available[column] for column in method.columns},
        groups=groups.ids if method.sampling == "group_balanced" else None,
        validation=None if selection == "last" else validation,
        score=lambda right: score(validation.labels, right, ids),
    )
    record = {
        "selection": selection,
        "selected_step": int(state.selected["step"] if state.selected else state.step),
        "group_sizes": dict(zip(groups.names, groups.sizes.tolist(), strict=True))
        if groups
        else {},
        "dropped_groups": list(groups.dropped) if groups else [],
    }
    write_json(context.folder / "selection.json", record)
    return record


def selection_rule(config: Any, method: str) -> str:
    """Name of the rule that chooses the step of this method's weights."""
    classifier, entry = config.classifier, METHODS[method]
    if entry.uses_bias_labels:
        return classifier.oracle_selection
    plain = entry.requires in ("nothing", "reference_errors")
    return classifier.plain_selection if plain else classifier.selection


def _groups(
    context: Context,
    requires: str,
    source: Source,
    split: str,
    scores: dict[str, np.ndarray] | None,
    rule: str | None,
) -> Groups | None:
    """The groups that a method or a selection rule requires; None when it requires none.

    `rule` is the pseudo-group rule that the method fixes; None is the configured one.
    """
    labels, dataset = source.labels, context.dataset
    if requires == "true_groups":
        return true_groups(source, dataset, context.config.evaluation.group_by)
    if requires == "pseudo_groups":
        column = "error_set" if rule == "error_set" else "pseudo_conflicting"
        flagged = select_split(scores, split)[column].astype(bool)
        return assign_groups(labels, flagged, context.num_classes, dataset.class_names)
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
