"""Bias balancing: training on logits shifted by how often each class goes with the image's bias.

The loss is the cross-entropy of f(x) + log p(y | b); prediction uses f alone. The shift carries
what the bias says about the class, so the network need not learn it. BiasBal of Hong & Yang,
"Unbiased classification through bias-contrastive and bias-balanced learning" (NeurIPS 2021); with
a bias that a biased model predicts, uLA of Tsirigotis et al., "Group robust classification without
any group information" (NeurIPS 2023).
"""

from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from ddb_jax.debias.contract import Batch, Method, TrainingSet, plain


class BiasBalanceSettings(Protocol):
    """Settings of bias balancing.

    Attributes:
        smoothing: Added to the count of every pair of class and bias, above 0.
        strength: Factor of the shift: 1 is the method, 0 plain training.
    """

    smoothing: float
    strength: float


def log_class_given_bias(
    labels: np.ndarray, bias: np.ndarray, num_classes: int, smoothing: float
) -> np.ndarray:
    """log p(class | bias) over a training set.

    Args:
        labels: int [N] in 0..num_classes-1.
        bias: int [N], at least 0.
        num_classes: K.
        smoothing: Added to every count.

    Returns:
        float32 [B, K], B being one more than the largest bias; every row's exponentials sum to 1.
    """
    counts = np.full((int(bias.max()) + 1, num_classes), smoothing, np.float64)
    np.add.at(counts, (bias, labels), 1.0)
    return np.log(counts / counts.sum(axis=1, keepdims=True)).astype(np.float32)


def make(settings: BiasBalanceSettings, training_set: TrainingSet) -> Method:
    """Bias balancing over `training_set.bias`, true or predicted.

    Raises:
        ValueError: There is no bias, one is unknown (-1), or a setting is out of range.
    """
    bias = training_set.bias
    if bias is None or np.min(bias) < 0:
        raise ValueError("bias balancing needs the bias, true or predicted, of every image.")
    if settings.smoothing <= 0 or settings.strength < 0:
        raise ValueError(
            f"bias balancing's smoothing ({settings.smoothing}) must be above 0 and its strength"
            f" ({settings.strength}) at least 0."
        )
    shift = settings.strength * log_class_given_bias(
        training_set.labels, bias, training_set.num_classes, settings.smoothing
    )

    def adjust_logits(logits: jax.Array, batch: Batch) -> jax.Array:
        return logits + jnp.asarray(shift)[batch["given_bias"]]

    return plain(columns=("given_bias",), adjust_logits=adjust_logits)
