"""Stage: bias scores from a file instead of the amplifier's.

Writes what `scoring.write_tables` does.
"""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ddb_jax.data.scores_file import GivenScores, read_given_scores
from ddb_jax.data.source import Dataset
from ddb_jax.debias.pseudo_groups import conflicting_by_rule, error_set
from ddb_jax.debias.requirements import (
    AMPLIFIER_ERRORS,
    AMPLIFIER_SCORES,
    OF_AMPLIFIER,
    PSEUDO_GROUPS,
)
from ddb_jax.debias.table import METHODS, method_entry
from ddb_jax.runtime.errors import UserError
from ddb_jax.stages.common.scoring import Scored, write_tables
from ddb_jax.stages.context import Context

log = logging.getLogger("ddb_jax")

# Methods on the amplifier's scores that read another column than the loss.
READS = {"selecmix+ddb": "predicted", "bias_bal+ddb": "predicted", "afr+ddb": "probability"}


def read(config: Any, dataset: Dataset) -> tuple[dict[str, GivenScores], tuple[str, ...]]:
    """What the file `given_scores.csv` of the config says of train and validation, and notes.

    Raises:
        UserError: It cannot be read or joined, or lacks what a method of the config reads.
    """
    path, sources = Path(config.given_scores.csv), dataset.splits
    try:
        given, notes = read_given_scores(
            path,
            {split: source.paths for split, source in sources.items()},
            {split: source.labels for split, source in sources.items()},
            dataset.class_names,
        )
    except (OSError, ValueError) as error:
        raise UserError(str(error)) from error
    refuse_methods(path, given["train"], config.methods)
    return given, notes


def run(context: Context) -> dict[str, Any]:
    """Read the file `given_scores.csv` of the config and make the pseudo-groups.

    A verdict in the file is taken as it is. Without one, the configured rule flags images if the
    file has predictions; otherwise the share `pseudo_groups.top_share` of every class is flagged.
    A column "score", if present, replaces the loss in both.

    Raises:
        UserError: As `read`.
    """
    dataset, path = context.dataset, Path(context.config.given_scores.csv)
    sources = dataset.splits
    given, notes = read(context.config, dataset)
    for note in notes:
        log.warning("warning: %s", note)
    columns = [name for name in GivenScores._fields if getattr(given["train"], name) is not None]
    # Both splits rank by the same column, because a threshold from train is used on validation.
    kind = "loss" if given["train"].score is None else "score"
    labels = {split: sources[split].labels for split in given}
    suspicion = {split: getattr(given[split], kind) for split in given}
    rules = context.config.pseudo_groups
    rule, threshold, details = "given", -np.inf, {"given_columns": columns}
    if given["train"].flagged is not None:
        flagged = {split: part.flagged for split, part in given.items()}
    elif given["train"].predicted is not None:
        rule = rules.rule
        flagged, cut = _by_rule(rules, labels, suspicion, given)
        if kind == "loss":
            threshold = cut
        else:
            details["score_threshold"] = cut if np.isfinite(cut) else None
    else:
        rule = "top_share"
        thresholds = top_share_thresholds(
            labels["train"], suspicion["train"], rules.top_share, context.num_classes
        )
        flagged = {
            split: None if values is None else values >= thresholds[labels[split]]
            for split, values in suspicion.items()
        }
        details["class_thresholds"] = [float(t) if np.isfinite(t) else None for t in thresholds]
    if flagged["validation"] is None:
        log.warning(
            "warning: %s does not say which validation images conflict with the bias: all count as"
            " aligned, and the worst pseudo-group of validation is its worst class", path.name,
        )  # fmt: skip
    scored = {}
    for split, part in given.items():
        # An image without a verdict counts as aligned.
        verdict = np.full(len(labels[split]), False) if flagged[split] is None else flagged[split]
        scored[split] = Scored(
            verdict, part.predicted, part.probability, part.loss, suspicion[split]
        )
    count, size = int(scored["train"].flagged.sum()), len(labels["train"])
    log.info("%s: %d of %d training images are flagged (%s)", path.name, count, size, rule)
    if count in (0, size):
        log.warning(
            "warning: %s: %s training image is flagged as bias-conflicting, so the pseudo-groups"
            " are the classes", path.name, "every" if count else "no",
        )  # fmt: skip
    return write_tables(context, dataset, scored, rule=rule, threshold=threshold, details=details)


def top_share_thresholds(
    labels: np.ndarray, scores: np.ndarray, share: float, num_classes: int
) -> np.ndarray:
    """The score from which an image of each class belongs to the most suspicious share.

    Tied images are treated alike: all images at the threshold belong to it, so the share may be
    exceeded. A class's lowest score never belongs to it, so the share may not be reached.

    Args:
        labels: int [N] in 0..num_classes-1.
        scores: float [N], finite.
        share: Between 0 and 1; one image at least is aimed at.
        num_classes: K.

    Returns:
        float64 [K]; inf for a class without images or whose scores are all equal.
    """
    thresholds = np.full(num_classes, np.inf)
    for label in np.unique(labels):
        own = np.sort(np.asarray(scores[labels == label], np.float64))
        above = own[own > own[0]]
        if len(above):
            wanted = max(1, round(share * len(own)))
            thresholds[label] = max(own[-wanted], above[0])
    return thresholds


def needed_column(method: str) -> str | None:
    """The column of the scores that a method needs; None for verdicts, or no scores."""
    entry = method_entry(method)
    if entry.requires == AMPLIFIER_SCORES:
        return READS.get(method, "loss")
    errors = entry.requires == PSEUDO_GROUPS and entry.pseudo_group_rule == "error_set"
    return "predicted" if errors or entry.requires == AMPLIFIER_ERRORS else None


def refuse_methods(path: Path, train: GivenScores, methods: Iterable[str]) -> None:
    """Stop if a method needs a column that the file lacks.

    Raises:
        UserError: Names the columns, the methods and those that work.
    """
    missing: dict[str, list[str]] = {}
    for method in methods:
        column = needed_column(method)
        if column and getattr(train, column) is None:
            missing.setdefault(column, []).append(method)
    if not missing:
        return
    working = [
        name
        for name, entry in METHODS.items()
        if entry.requires in OF_AMPLIFIER
        and ((column := needed_column(name)) is None or getattr(train, column) is not None)
    ]
    lacking = ", and ".join(
        f"no column {column}, which {', '.join(names)} {'need' if len(names) > 1 else 'needs'}"
        for column, names in missing.items()
    )
    hint = ""
    if "loss" in missing and train.score is not None:
        hint = " (a score on the scale of a cross-entropy, 0 and more, may be called loss)"
    raise UserError(
        f"{path} has {lacking}{hint}: add it, or leave these out of config.methods; of the methods"
        f" on scores it is enough for {', '.join(working)}."
    )


def _by_rule(
    rules: Any,
    labels: Mapping[str, np.ndarray],
    suspicion: Mapping[str, np.ndarray | None],
    given: Mapping[str, GivenScores],
) -> tuple[dict[str, np.ndarray | None], float]:
    """Verdicts of the configured rule, as of an amplifier of our own, and its threshold."""
    flagged: dict[str, np.ndarray | None] = {"validation": None}
    flagged["train"], threshold = conflicting_by_rule(
        rules.rule, labels["train"], given["train"].predicted, suspicion["train"], rules.gamma
    )
    predicted, values = given["validation"].predicted, suspicion["validation"]
    if predicted is not None and values is not None:
        errors = error_set(labels["validation"], predicted)
        flagged["validation"] = errors & (values > threshold)
    return flagged, threshold
