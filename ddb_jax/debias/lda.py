"""Shrinkage linear discriminant analysis on fixed features: a biased judge that cannot memorise.

A class is its mean, and all classes share one covariance, shrunk as Ledoit and Wolf (2004) do. A
few hundred parameters a class cannot fit the rare images that contradict the bias, so the real
images themselves can be judged by it, without synthetic ones.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.model_selection import StratifiedKFold

SMALLEST_CLASS = 2  # images; one has no deviation from its class's mean


class Judge(NamedTuple):
    """A linear classifier: logits = features @ kernel + bias.

    Attributes:
        kernel: float64 [F, K].
        bias: float64 [K].
        shrinkage: Weight of the identity in the covariance, 0 to 1.
    """

    kernel: np.ndarray
    bias: np.ndarray
    shrinkage: float

    def logits(self, features: np.ndarray) -> np.ndarray:
        """float64 [N, K], whose softmax is the posterior of the Gaussian model."""
        return np.asarray(features, np.float64) @ self.kernel + self.bias


def fit_lda(features: np.ndarray, labels: np.ndarray, num_classes: int) -> Judge:
    """Class means and one shrunk covariance, with the classes' shares as prior.

    Every feature is divided by its deviation within the classes first, since the shrinkage goes
    towards a multiple of the identity. The covariance is that of the deviations from the class
    means, divided by N - K.

    Args:
        features: float [N, F].
        labels: int [N] in 0..num_classes-1.
        num_classes: K.

    Raises:
        ValueError: A class has fewer than two images, a feature is not finite, or the features of
            all images of every class are equal.
    """
    x = np.asarray(features, np.float64)
    sizes = np.bincount(labels, minlength=num_classes)
    if sizes.min() < SMALLEST_CLASS:
        raise ValueError(
            f"LDA needs at least {SMALLEST_CLASS} images of every class, and class"
            f" {sizes.argmin()} has {sizes.min()}"
        )
    if not np.isfinite(x).all():
        raise ValueError("a feature is not finite")
    means = np.stack([x[labels == k].mean(axis=0) for k in range(num_classes)])
    within = x - means[labels]
    scale = within.std(axis=0)
    # Rounding leaves a constant feature a deviation of its size times 1e-16.
    varies = scale > 1e-9 * np.abs(x).max(axis=0)
    if not varies.any():
        raise ValueError(
            "the features of all images of a class are equal, so that there is nothing to judge by"
        )
    scale = np.where(varies, scale, np.inf)
    covariance, shrinkage = shrunk_covariance((within / scale)[:, varies])
    covariance *= len(x) / max(len(x) - num_classes, 1)
    kernel = np.zeros_like(means.T)
    kernel[varies] = np.linalg.solve(covariance, (means / scale)[:, varies].T)
    kernel /= scale[:, None]
    bias = np.log(sizes / len(x)) - np.einsum("kf,fk->k", means, kernel) / 2
    return Judge(kernel, bias, float(shrinkage))


def shrunk_covariance(deviations: np.ndarray) -> tuple[np.ndarray, float]:
    """(1 - a) S + a m I of deviations [N, F] from a mean, and a: Ledoit & Wolf (2004), lemma 3.3.

    m is the mean variance, and a estimates the share of the error of S in its distance from m I.
    As scikit-learn's `ledoit_wolf`, but the error takes one pass instead of a product of matrices:
    the sum of |x x' - S|^2 over the images is that of |x|^4 less N |S|^2.
    """
    count, size = deviations.shape
    covariance = deviations.T @ deviations / count
    variance = np.trace(covariance) / size
    norm = np.sum(covariance**2)
    distance = norm - size * variance**2
    error = (np.mean(np.sum(deviations**2, axis=1) ** 2) - norm) / count
    shrinkage = min(1.0, max(0.0, error / distance)) if distance > 0 else 0.0
    covariance *= 1 - shrinkage
    covariance[np.diag_indices(size)] += shrinkage * variance
    return covariance, float(shrinkage)


def fit_without_errors(
    features: np.ndarray, labels: np.ndarray, num_classes: int, refits: int = 1
) -> Judge:
    """`fit_lda`, then again without the images that it misclassifies, so many times.

    The errors are the images that most likely contradict the bias. A class that would be left with
    fewer than two images keeps all of its own.
    """
    judge = fit_lda(features, labels, num_classes)
    for _ in range(refits):
        kept = judge.logits(features).argmax(axis=1) == labels
        sizes = np.bincount(labels[kept], minlength=num_classes)
        kept |= (sizes < SMALLEST_CLASS)[labels]
        judge = fit_lda(features[kept], labels[kept], num_classes)
    return judge


def cross_fitted_logits(
    features: np.ndarray,
    labels: np.ndarray,
    fit: Callable[[np.ndarray, np.ndarray], Judge],
    folds: int,
    seed: int,
) -> np.ndarray:
    """Logits float64 [N, K] of every image by a judge that was fitted without its part.

    Args:
        features: float [N, F].
        labels: int [N].
        fit: (features, labels) -> a judge.
        folds: Number of parts, at least 2, stratified by class.
        seed: Of the parts.

    Raises:
        ValueError: A class has fewer images than there are parts, or as `fit` does.
    """
    smallest = np.unique(labels, return_counts=True)[1].min()
    if smallest < folds:
        raise ValueError(
            f"cross-fitting in {folds} parts needs as many images of every class, and one has"
            f" {smallest}"
        )
    parts = StratifiedKFold(folds, shuffle=True, random_state=seed).split(features, labels)
    results = [(held_out, fit(features[rest], labels[rest])) for rest, held_out in parts]
    logits = np.empty((len(labels), results[0][1].bias.size))
    for held_out, judge in results:
        logits[held_out] = judge.logits(features[held_out])
    return logits


def temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The divisor of the logits that makes their cross-entropy least: 1 where they are calibrated.

    Guo et al. (2017). A Gaussian model counts correlated features as evidence many times over, and
    is too sure. The logits must be of images that the judge was not fitted on.

    Args:
        logits: float [N, K].
        labels: int [N].
    """
    own = np.take_along_axis(logits, labels[:, None], axis=1)[:, 0]

    def cross_entropy(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float(np.mean(np.logaddexp.reduce(scale * logits, axis=1) - scale * own))

    found = minimize_scalar(cross_entropy, bounds=(-3.0, 7.0), method="bounded")
    return float(np.exp(found.x))
