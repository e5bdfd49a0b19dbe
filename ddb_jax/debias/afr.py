"""Automatic feature reweighting (Qiu et al., ICML 2023): a last layer for what a model gets wrong.

Training of the last layer continues on held-out examples, weighted by how little probability the
network gave to their labels.
"""

import functools
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from ddb_jax.debias.contract import FrozenFeatures, LastLayer, TrainingSet
from ddb_jax.debias.logistic_regression import Head, head_logits
from ddb_jax.debias.losses import cross_entropy


class AFRSettings(Protocol):
    """Settings of automatic feature reweighting; the values named are those for Waterbirds.

    Attributes:
        held_out_share: Share of the training images that the layer is fitted on, 0.2.
        gamma: Sharpness of the weights, 10.
        balance_classes: Divide each weight by its class's count, True.
        regularization: lambda, of the squared distance from the given head, 0.
        learning_rate: Learning rate of gradient descent without momentum, 0.01.
        num_steps: Steps, each on all examples, 500.
        max_gradient_norm: The gradient is scaled down to this norm, 1; 0 leaves it.
    """

    held_out_share: float
    gamma: float
    balance_classes: bool
    regularization: float
    learning_rate: float
    num_steps: int
    max_gradient_norm: float


def make(settings: AFRSettings, training_set: TrainingSet) -> LastLayer:
    """A last layer fitted on training images that were held out.

    They are weighted by the network's own probabilities, or by those of DDB's amplifier.
    """
    num_classes = training_set.num_classes

    def fit_features(
        given: FrozenFeatures, seed: int
    ) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        del seed
        weights = example_weights(
            given.label_probability,
            given.labels,
            num_classes,
            gamma=settings.gamma,
            balance_classes=settings.balance_classes,
        )
        head = fit(
            settings,
            given.features,
            given.labels,
            given.label_probability,
            Head(given.kernel, given.bias),
            num_classes,
        )
        return head.kernel, head.bias, {"largest_weight": float(np.max(weights) * len(weights))}

    return LastLayer(held_out_share=settings.held_out_share, fit=fit_features)


def example_weights(
    label_probability: jax.Array,
    labels: jax.Array,
    num_classes: int,
    *,
    gamma: float,
    balance_classes: bool,
) -> jax.Array:
    """Weights in proportion to exp(-gamma p_y), divided by the class's count where asked.

    Args:
        label_probability: p_y, float [N] in 0..1, the first model's probability of the label.
        labels: int [N] in 0..K-1.
        num_classes: K.
        gamma: 0 weights all equally; the higher, the more examples with a low p_y count.
        balance_classes: Divide by the number of examples in the class.

    Returns:
        float32 [N], of sum 1.
    """
    log_weight = -gamma * jnp.asarray(label_probability, jnp.float32)
    if balance_classes:
        log_weight -= jnp.log(jnp.bincount(labels, length=num_classes))[labels]
    return jax.nn.softmax(log_weight)


def fit(
    settings: AFRSettings,
    features: np.ndarray,
    labels: np.ndarray,
    label_probability: np.ndarray,
    head: Head,
    num_classes: int,
) -> Head:
    """The given head after gradient descent on sum_i weight_i CE_i + lambda |head - given head|^2.

    Both kernel and bias are trained and held near those given. The number of steps is fixed; the
    published runs keep the step with the best worst-group accuracy on validation images.

    Args:
        features: float [N, F], penultimate features of the network, frozen.
        labels: int [N] in 0..K-1.
        label_probability: float [N], as in `example_weights`.
        head: The network's own last layer, where the descent starts.
        num_classes: K.

    Raises:
        ValueError: A setting is out of range, no examples, lengths or widths that do not fit, or a
            probability outside 0..1.
    """
    for name in ("gamma", "regularization", "max_gradient_norm", "num_steps"):
        if not getattr(settings, name) >= 0:
            raise ValueError(
                f"{name} of AFR is {getattr(settings, name)}; it must not be negative."
            )
    if not settings.learning_rate > 0:
        raise ValueError(f"learning_rate of AFR is {settings.learning_rate}; it must be positive.")
    if not len(features) == len(labels) == len(label_probability) > 0:
        raise ValueError(
            "AFR needs one label and one probability for each of its examples, and got"
            f" {len(features)} examples, {len(labels)} labels and"
            f" {len(label_probability)} probabilities."
        )
    if head.kernel.shape != (np.shape(features)[1], num_classes):
        raise ValueError(
            f"AFR's head is of shape {head.kernel.shape}, but there are {np.shape(features)[1]}"
            f" features and {num_classes} classes."
        )
    probability = np.asarray(label_probability)
    if not np.all((probability >= 0) & (probability <= 1)):
        raise ValueError("AFR's label_probability does not lie in 0..1 everywhere.")
    labels = jnp.asarray(labels, jnp.int32)
    weight = example_weights(
        probability,
        labels,
        num_classes,
        gamma=settings.gamma,
        balance_classes=settings.balance_classes,
    )
    return _descend(
        Head(*(jnp.asarray(x, jnp.float32) for x in head)),
        jnp.asarray(features, jnp.float32),
        labels,
        weight,
        settings.regularization,
        settings.learning_rate,
        settings.max_gradient_norm,
        settings.num_steps,
    )


@functools.partial(jax.jit, static_argnames="num_steps")
def _descend(
    given: Head,
    features: jax.Array,
    labels: jax.Array,
    weight: jax.Array,
    regularization: jax.Array,
    learning_rate: jax.Array,
    max_gradient_norm: jax.Array,
    num_steps: int,
) -> Head:
    def loss(head: Head) -> jax.Array:
        distance = sum(jnp.sum((a - b) ** 2) for a, b in zip(head, given, strict=True))
        losses = cross_entropy(head_logits(head, features), labels)
        return jnp.sum(weight * losses) + regularization * distance

    def step(_: int, head: Head) -> Head:
        gradient = jax.grad(loss)(head)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in gradient))
        clipped = (max_gradient_norm > 0) & (norm > max_gradient_norm)
        rate = learning_rate * jnp.where(clipped, max_gradient_norm / norm, 1.0)
        return Head(*(a - rate * g for a, g in zip(head, gradient, strict=True)))

    return jax.lax.fori_loop(0, num_steps, step, given)
