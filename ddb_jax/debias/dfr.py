"""Deep feature reweighting (Kirichenko et al., ICLR 2023): a new last layer on balanced groups."""

import functools
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from ddb_jax.debias.contract import FrozenFeatures, LastLayer, TrainingSet
from ddb_jax.debias.logistic_regression import Head, fit_logistic_regression

# Far below what changes a prediction; several times fewer steps than the solver's default.
TOLERANCE = 1e-5


class DFRSettings(Protocol):
    """Settings of deep feature reweighting; the values named are the released code's.

    Attributes:
        c_grid: Inverse penalties C to choose from, (1, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01).
        refits: Fits whose coefficients are averaged, 20 (10 for the variant on the training set).
        penalty: "l1"; or "l2".
    """

    c_grid: Sequence[float]
    refits: int
    penalty: str


def make(settings: DFRSettings, training_set: TrainingSet) -> LastLayer:
    """A last layer fitted on the validation split, whose groups are true or pseudo ones."""
    num_classes = training_set.num_classes

    def fit_features(
        given: FrozenFeatures, seed: int
    ) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        head, record = fit(settings, given.features, given.labels, given.groups, num_classes, seed)
        return head.kernel, head.bias, record

    return LastLayer(held_out_share=0.0, fit=fit_features)


def fit(
    settings: DFRSettings,
    features: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    num_classes: int,
    seed: int,
) -> tuple[Head, dict[str, Any]]:
    """The mean of logistic regressions on group-balanced subsamples, for features as they are.

    The features are standardised by their own mean and deviation, and the head is carried back to
    raw features. C is chosen first: every group is halved at random, each C is fitted on one
    group-balanced subsample of the first halves, and the C of the highest worst-group accuracy on
    the second halves is kept; among equals that of the highest mean over groups, then the first
    of the grid. A group of a single example takes no part in this choice. Then `refits` fits with
    that C, each on another group-balanced subsample of all examples, are averaged.

    The released code halves the whole set rather than each group, standardises by the training
    split or the subsample, and fits two classes by liblinear, whose bias is penalised as well;
    here the bias is free and the fit multinomial.

    Args:
        features: float [N, F], penultimate features of a frozen network.
        labels: int [N] in 0..K-1.
        groups: int [N]; only which examples share one matters.
        num_classes: K.
        seed: Seed of the halves and subsamples.

    Returns:
        The head, and a record that json can hold: "c"; "worst_group_accuracy" and
        "mean_group_accuracy", by C, of the choice; "examples_per_group", the subsample's;
        "groups_not_tuned_on", ids of the groups of one example. Where all groups are such, nothing
        can be chosen, the first C is taken, and both tables are empty.

    Raises:
        ValueError: A setting is out of range, no examples, lengths that differ, or features that
            are not finite.
    """
    c_grid = [float(c) for c in settings.c_grid]
    _check_settings(settings, c_grid)
    features, labels, groups = np.asarray(features), np.asarray(labels), np.asarray(groups)
    _check_lengths(features, labels, groups)
    mean, deviation = _moments(features)
    standardised = ((features - mean) / deviation).astype(np.float32)

    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    fit_heads = functools.partial(
        _fit_heads,
        jnp.asarray(standardised),
        jnp.asarray(labels, jnp.int32),
        num_classes=num_classes,
        penalty=settings.penalty,
    )

    c, worst, average = c_grid[0], [], []
    halves = [np.array_split(rng.permutation(rows), 2) for rows in members if len(rows) > 1]
    if halves:
        rows = _balanced(rng, [half for half, _ in halves])
        heads = fit_heads(np.tile(rows, (len(c_grid), 1)), np.asarray(c_grid, np.float32))
        accuracies = np.stack([_accuracies(heads, standardised, labels, h) for _, h in halves])
        worst, average = accuracies.min(axis=0), accuracies.mean(axis=0)
        c = c_grid[max(range(len(c_grid)), key=lambda i: (worst[i], average[i]))]

    rows = np.stack([_balanced(rng, members) for _ in range(settings.refits)])
    heads = fit_heads(rows, np.full(len(rows), c, np.float32))
    kernel = np.mean(np.asarray(heads.kernel), axis=0, dtype=np.float64) / deviation[:, None]
    bias = np.mean(np.asarray(heads.bias), axis=0, dtype=np.float64) - mean @ kernel
    record = {
        "c": c,
        "worst_group_accuracy": {f"{c:g}": float(a) for c, a in zip(c_grid, worst, strict=False)},
        "mean_group_accuracy": {f"{c:g}": float(a) for c, a in zip(c_grid, average, strict=False)},
        "examples_per_group": min(len(rows) for rows in members),
        "groups_not_tuned_on": [int(groups[rows[0]]) for rows in members if len(rows) == 1],
    }
    return Head(jnp.asarray(kernel, jnp.float32), jnp.asarray(bias, jnp.float32)), record


def _check_settings(settings: DFRSettings, c_grid: Sequence[float]) -> None:
    if not c_grid or min(c_grid) <= 0:
        raise ValueError(f"c_grid of DFR is {settings.c_grid}; it needs values, all positive.")
    if settings.refits < 1:
        raise ValueError(f"refits of DFR is {settings.refits}; it must be at least 1.")


def _check_lengths(features: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> None:
    if not len(features) == len(labels) == len(groups) > 0:
        raise ValueError(
            "DFR needs one label and one group for each of its examples, and got"
            f" {len(features)} examples, {len(labels)} labels and {len(groups)} groups."
        )


def _moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of every feature, float64 [F]; the deviation of a constant is 1."""
    mean = np.mean(features, axis=0, dtype=np.float64)
    deviation = np.std(features, axis=0, dtype=np.float64)
    if not np.isfinite(deviation).all():
        raise ValueError("DFR's features are not all finite.")
    # A feature that varies only by rounding is a constant, and is not scaled up.
    return mean, np.where(deviation > 1e-6 * np.abs(mean), deviation, 1.0)


def _balanced(rng: np.random.Generator, members: Sequence[np.ndarray]) -> np.ndarray:
    """As many rows of every group as the smallest has, drawn without replacement."""
    smallest = min(len(rows) for rows in members)
    return np.concatenate([rng.permutation(rows)[:smallest] for rows in members])


def _accuracies(
    heads: Head, features: np.ndarray, labels: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """float [R], the accuracy of each of R stacked heads on some rows."""
    logits = features[rows] @ np.asarray(heads.kernel) + np.asarray(heads.bias)[:, None]
    return np.mean(np.argmax(logits, axis=-1) == labels[rows], axis=-1)


@functools.partial(jax.jit, static_argnames=("num_classes", "penalty"))
def _fit_heads(
    features: jax.Array,
    labels: jax.Array,
    rows: jax.Array,
    c: jax.Array,
    *,
    num_classes: int,
    penalty: str,
) -> Head:
    """R heads, stacked: the rows int [R, n] of the examples, each fit with its c [R]."""

    def one(rows_and_c: tuple[jax.Array, jax.Array]) -> Head:
        rows, c = rows_and_c
        return fit_logistic_regression(
            features[rows], labels[rows], num_classes, c=c, penalty=penalty, tolerance=TOLERANCE
        )

    # One after the other: each stops when it converges, and one subsample at a time is in memory.
    return jax.lax.map(one, (rows, c))
