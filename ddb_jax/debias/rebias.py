"""ReBias (Bahng et al., ICML 2020): features made independent of those of a biased network.

The classifier f makes its features independent of the features of g, a network with a small
receptive field; g keeps its features as dependent on f's as possible. Dependence is measured by the
Hilbert-Schmidt independence criterion (HSIC) of the batch.
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
from ddb_jax.debias.losses import accuracy, cross_entropy

MIN_BATCH = 4  # the estimator divides by B - 3
EPSILON = 1e-12


class ReBiasSettings(Protocol):
    """Settings of ReBias; the values named are its released code's, clovaai/rebias.

    Attributes:
        lambda_main: Weight of the dependence that the classifier minimises, 1.
        lambda_biased: Weight of the dependence that the biased network maximises, 1.
        bandwidth: sigma of both kernels, exp(-|a - b|^2 / (2 sigma^2)), 1 on Biased-MNIST; 0 stands
            for each network's median distance in the batch. On ImageNet it was the median over a
            quarter of the training set, updated every epoch.
        biased_lr_scale: The biased network's share of the learning rate, 1.
    """

    lambda_main: float
    lambda_biased: float
    bandwidth: float
    biased_lr_scale: float


def make(settings: ReBiasSettings, training_set: TrainingSet) -> JointMethod:
    """Loss = CE(f) + lambda_main HSIC(f, sg(g)) + CE(g) - lambda_biased HSIC(sg(f), g).

    f and g stand for the features before the head, as they are, and sg for stop_gradient. Both
    networks step at once from one pass of each; the released code steps g first and f against the
    new g. The loss may be negative.

    Raises:
        ValueError: A lambda or the bandwidth is negative or biased_lr_scale not above 0; the loss
            raises it, when it is traced, for a batch of fewer than 4.
    """
    del training_set
    for field in ("lambda_main", "lambda_biased", "bandwidth"):
        value = getattr(settings, field)
        if not value >= 0:
            raise ValueError(f"{field} of ReBias is {value}; it must not be negative.")
    if not settings.biased_lr_scale > 0:
        raise ValueError(
            f"biased_lr_scale of ReBias is {settings.biased_lr_scale}; it must be above 0."
        )

    def loss(
        network: Callable[..., Any], method_state: State, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, State, dict[str, jax.Array]]:
        del key
        logits, features = network("main", batch["x"])
        biased_logits, biased_features = network("biased", batch["x"])
        kernel = rbf_kernel(features, settings.bandwidth)
        biased_kernel = rbf_kernel(biased_features, settings.bandwidth)
        minimised = hsic_unbiased(kernel, jax.lax.stop_gradient(biased_kernel))
        maximised = hsic_unbiased(jax.lax.stop_gradient(kernel), biased_kernel)
        own = jnp.mean(cross_entropy(logits, batch["label"]))
        biased = jnp.mean(cross_entropy(biased_logits, batch["label"]))
        metrics = {
            "train_accuracy": accuracy(logits, batch["label"]),
            "biased_accuracy": accuracy(biased_logits, batch["label"]),
            "hsic": minimised,
        }
        of_main = own + settings.lambda_main * minimised
        of_biased = biased - settings.lambda_biased * maximised
        return of_main + of_biased, method_state, metrics

    return JointMethod(
        columns=(),
        sampling="uniform",
        init_state=no_state,
        loss=loss,
        networks={
            "main": NetworkSpec(),
            "biased": NetworkSpec("small_receptive_field", lr_scale=settings.biased_lr_scale),
        },
    )


def rbf_kernel(features: jax.Array, bandwidth: float) -> jax.Array:
    """exp(-|a - b|^2 / (2 bandwidth^2)) of all pairs.

    Args:
        features: [B, F], any float dtype; computed in float32.
        bandwidth: Above 0; or 0 for the median of all B^2 distances, held fixed in the gradient.

    Returns:
        float32 [B, B] in 0..1.
    """
    # Centred, and at full precision on every device: |a|^2 + |b|^2 - 2 ab cancels.
    x = features.astype(jnp.float32)
    x = x - jnp.mean(x, axis=0)
    products = jnp.matmul(x, x.T, precision=jax.lax.Precision.HIGHEST)
    norms = jnp.sum(x * x, axis=1)
    squared = jnp.maximum(norms[:, None] + norms[None, :] - 2.0 * products, 0.0)
    if bandwidth > 0:
        return jnp.exp(-squared / (2.0 * bandwidth**2))
    median = jax.lax.stop_gradient(jnp.median(squared))
    return jnp.exp(-squared / (2.0 * jnp.maximum(median, EPSILON)))


def hsic_unbiased(kernel_k: jax.Array, kernel_l: jax.Array) -> jax.Array:
    """Unbiased estimate of the Hilbert-Schmidt independence criterion (Song et al., JMLR 2012).

    With K and L the two kernels, their diagonals set to 0, and 1 the vector of ones,
        [tr(K L) + (1'K 1)(1'L 1) / ((B-1)(B-2)) - 2/(B-2) 1'K L 1] / (B (B-3)).
    It is the mean of k_ij l_ij + k_ij l_qr - 2 k_ij l_iq over all ordered i, j, q, r that differ,
    0 on average where the two are independent, and so below 0 at times.

    Computed as the inner product of K and U-centred L (Szekely and Rizzo, Annals of Statistics
    2014), which is the same number without the large terms that cancel. A constant added to K or L
    changes nothing: the released code, which subtracts 1 everywhere instead of emptying the
    diagonal of ones, therefore computes this too.

    Args:
        kernel_k: Symmetric float32 [B, B]; its diagonal is not looked at.
        kernel_l: Likewise.

    Returns:
        Scalar float32.

    Raises:
        ValueError: B is below 4.
    """
    size = len(kernel_k)
    if size < MIN_BATCH:
        raise ValueError(f"HSIC needs batches of at least {MIN_BATCH} examples, not {size}.")
    different = ~np.eye(size, dtype=bool)
    kernel_l = jnp.where(different, kernel_l, 0.0)
    rows = jnp.sum(kernel_l, axis=1) / (size - 2)
    centred = kernel_l - rows[:, None] - rows[None, :] + jnp.sum(rows) / (size - 1)
    return jnp.sum(jnp.where(different, kernel_k * centred, 0.0)) / (size * (size - 3))
