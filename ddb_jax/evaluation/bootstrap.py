"""Bootstrap intervals of the accuracies of one classifier on one test split."""

import numpy as np

from ddb_jax.evaluation.metrics import evaluate_predictions


def bootstrap_intervals(
    labels: np.ndarray,
    predicted: np.ndarray,
    bias: np.ndarray,
    *,
    num_classes: int,
    group_by: str,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals (Efron & Tibshirani, 1993, chapter 13) of a stratified bootstrap.

    The images of every group are resampled with replacement, as many as there are; images of
    unknown bias are a stratum of each class. Every accuracy depends only on how many images of each
    group come out right, and n draws from n images of which a share is right give a Binomial(n,
    share) of them: drawing that count is the same as drawing images.

    The intervals show the spread over test splits, not over training runs. A group that is all
    right, or all wrong, has no spread under resampling. The minimum of several noisy accuracies
    lies below the lowest true accuracy, so the interval of a worst group or class is shifted down.

    Args:
        labels: int [N] in 0..num_classes-1.
        predicted: int [N].
        bias: int [N]; -1 is unknown.
        num_classes: Number of classes.
        group_by: "conflicting" or "bias", as in `evaluate_predictions`.
        resamples: Bootstrap samples, at least 1.
        seed: Seed of the draws.
        level: Share of the samples within the interval, between 0 and 1.

    Returns:
        (lower end, upper end) of average_accuracy, worst_class_accuracy, unbiased_accuracy,
        worst_group_accuracy, aligned_accuracy and conflicting_accuracy, as far as
        `evaluate_predictions` gives them as numbers.

    Raises:
        ValueError: A setting is out of range, or `evaluate_predictions` raises it.
    """
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(
            f"resamples is {resamples} and level {level}: they must be at least 1, and between 0"
            " and 1."
        )
    labels, predicted, bias = np.asarray(labels), np.asarray(predicted), np.asarray(bias)
    figures = evaluate_predictions(
        labels, predicted, bias, num_classes=num_classes, group_by=group_by
    )
    value = bias if group_by == "bias" else np.where(bias < 0, -1, bias != labels)
    # Columns: class, bias value or -1, and whether the bias is the label.
    strata, members = np.unique(
        np.stack([labels, value, bias == labels], axis=1), axis=0, return_inverse=True
    )
    members = members.reshape(-1)
    sizes = np.bincount(members)
    right = np.bincount(members, weights=predicted == labels)
    rng = np.random.default_rng(seed)
    draws = rng.binomial(sizes, right / sizes, size=(resamples, len(sizes)))

    def accuracy(chosen: np.ndarray) -> np.ndarray:
        return draws[:, chosen].sum(axis=1) / sizes[chosen].sum()

    classes = np.stack([accuracy(strata[:, 0] == label) for label in np.unique(labels)])
    samples = {
        "average_accuracy": accuracy(np.full(len(sizes), True)),
        "worst_class_accuracy": classes.min(axis=0),
    }
    known = strata[:, 1] >= 0
    if known.any():
        groups = (draws / sizes)[:, known]
        samples["unbiased_accuracy"] = groups.mean(axis=1)
        samples["worst_group_accuracy"] = groups.min(axis=1)
    for name, aligned in (("aligned_accuracy", 1), ("conflicting_accuracy", 0)):
        if figures[name] is not None:
            samples[name] = accuracy(known & (strata[:, 2] == aligned))
    tail = (1 - level) / 2
    ends = {name: np.quantile(values, (tail, 1 - tail)) for name, values in samples.items()}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}
