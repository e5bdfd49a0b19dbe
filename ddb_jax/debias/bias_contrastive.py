"""Bias-contrastive learning: pulls together examples of one class with different biases.

BiasCon is told the bias; SoftCon uses the features of a biased network instead. Hong & Yang,
"Unbiased classification through bias-contrastive and bias-balanced learning" (NeurIPS 2021), after
its released code, grayhong/bias-contrastive-learning.

The released code takes the two terms from two batches: cross-entropy from one of 128 images without
augmentation, the contrastive loss from one of 64 in which bias-conflicting images are drawn with
an oversampling ratio of 10. Here both use the same uniform batch, in two augmented views. A class
without a bias-conflicting image in the batch has no positives in BiasCon, so large batches matter
more than in the released code. The released code also contrasts the network's normalised features
where it has a small network; here it is always a projection of them.
"""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from ddb_jax.debias.contract import (
    Batch,
    JointMethod,
    NetworkSpec,
    State,
    TrainingSet,
    no_state,
)
from ddb_jax.debias.contrastive import log_probabilities, mean_over_positives, same, similarities
from ddb_jax.debias.losses import accuracy, cross_entropy

ROUNDING = 1e-6  # of a cosine in float32


class BiasContrastiveSettings(Protocol):
    """Settings of BiasCon and SoftCon; the values named are their released code's.

    Attributes:
        temperature: Temperature of the contrastive loss, 0.07.
        ce_weight: Factor of the cross-entropy beside the contrastive loss, which has none: 0.01 on
            Biased-MNIST, 1 on ImageNet.
    """

    temperature: float
    ce_weight: float


def make_biascon(settings: BiasContrastiveSettings, training_set: TrainingSet) -> JointMethod:
    """Loss = ce_weight * mean CE + mean contrastive loss, over both views of every image.

    An anchor's positives are the views of the images of its own class and of another bias; its loss
    is the mean of their negative log-probabilities, 0 without any.

    Raises:
        ValueError: There is no bias, one is unknown (-1), or a setting is out of range.
    """
    if training_set.bias is None or np.min(training_set.bias) < 0:
        raise ValueError("BiasCon needs the bias of every image.")
    return _make("BiasCon", settings, "given_bias", lambda bias: ~same(bias))


def make_softcon(settings: BiasContrastiveSettings, training_set: TrainingSet) -> JointMethod:
    """As `make_biascon`, with 1 - cosine similarity of bias features instead of the bias.

    An anchor's loss is the mean over all views of its class, weighted by that dissimilarity.

    Raises:
        ValueError: There are no bias features, one is not finite, or a setting is out of range.
    """
    features = training_set.bias_features
    if features is None or not np.all(np.isfinite(features)):
        raise ValueError("SoftCon needs finite features of a biased network for every image.")
    return _make("SoftCon", settings, "bias_features", dissimilarity)


def dissimilarity(features: jax.Array) -> jax.Array:
    """1 - cosine similarity of all pairs, float32 [B, B] in 0..2, of features [B, D].

    Exactly 0 between an example and itself, and where the difference is within rounding: an anchor
    whose every positive is weighted by rounding errors would follow them with full strength. A
    vector of zeros counts as perpendicular to all others.
    """
    features = features.astype(jnp.float32)
    length = jnp.linalg.norm(features, axis=1, keepdims=True)
    unlike = 1.0 - similarities(features / jnp.where(length > 0, length, 1.0))
    return jnp.where(jnp.eye(len(features), dtype=bool) | (unlike < ROUNDING), 0.0, unlike)


def _make(
    name: str,
    settings: BiasContrastiveSettings,
    column: str,
    unlike: Callable[[jax.Array], jax.Array],
) -> JointMethod:
    """The method; `unlike` is column [B, ...] -> [B, B], how far two images' biases differ."""
    if not settings.temperature > 0:
        raise ValueError(f"temperature of {name} is {settings.temperature}; it must be above 0.")
    if not settings.ce_weight >= 0:
        raise ValueError(f"ce_weight of {name} is {settings.ce_weight}; it must be at least 0.")

    def loss(
        network: Callable[..., Any], method_state: State, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, State, dict[str, jax.Array]]:
        del key
        # An image's views lie side by side, so that a device keeps those of its own images.
        views = jnp.stack([batch["x"], batch["second_x"]], axis=1)
        labels = jnp.repeat(batch["label"], 2)
        logits, projections = network("main", views.reshape(-1, *views.shape[2:]), method="project")
        weight = jnp.float32(same(batch["label"])) * jnp.float32(unlike(batch[column]))
        weight = jnp.repeat(jnp.repeat(weight, 2, axis=0), 2, axis=1)
        log_probs = log_probabilities(projections, settings.temperature)
        contrastive = jnp.mean(mean_over_positives(-log_probs, weight))
        ce = jnp.mean(cross_entropy(logits, labels))
        metrics = {
            "train_accuracy": accuracy(logits, labels),
            "contrastive_loss": contrastive,
            "with_positives": jnp.mean(jnp.any(weight > 0, axis=1)),
        }
        return settings.ce_weight * ce + contrastive, method_state, metrics

    return JointMethod(
        columns=(column,),
        sampling="uniform",
        init_state=no_state,
        loss=loss,
        networks={"main": NetworkSpec("projected")},
        views=2,
    )
