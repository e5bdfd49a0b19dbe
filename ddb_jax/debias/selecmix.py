"""SelecMix (Hwang et al., NeurIPS 2022): training on mixtures that contradict the bias.

An image is mixed with one of its class that looks different, or with one of another class that
looks similar. Similarity is judged by an auxiliary network that is biased on purpose, or by DDB's
frozen amplifier. This is the paper's "Vanilla + SelecMix", after its released
code, bluemoon010/SelecMix.
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
from ddb_jax.debias.losses import accuracy, check_gce, cross_entropy, generalize


class SelecMixSettings(Protocol):
    """Settings of SelecMix, all of them its auxiliary network's; the values are its code's.

    Attributes:
        temperature: Temperature of the contrastive loss, 0.2.
        gce_q: q of that loss's generalised cross-entropy, 0.7.
        gce_scaled: Its code's form of it, with q times the gradient of the true one.
        auxiliary_lr_scale: Its learning rate relative to the classifier's: 1 on Corrupted CIFAR-10,
            2 on Coloured MNIST.
    """

    temperature: float
    gce_q: float
    gce_scaled: bool
    auxiliary_lr_scale: float


def make(settings: SelecMixSettings, training_set: TrainingSet) -> JointMethod:
    """Loss = mean CE of the mixed images and their partners' labels + the auxiliary network's.

    One draw for the batch decides between the least similar image of the own class and the most
    similar one of another; similarity is the cosine of the auxiliary network's projections. That
    network learns from the images as they are, by a supervised contrastive loss whose pairs count
    by p^q, so that it fits what is easy.

    The released code chooses partners in a batch of 1,024 (BFFHQ 256), then takes four steps on its
    quarters with those partners; here partners come from the whole batch and one step is taken
    on it, so the config's batch is the large one. Its auxiliary network is a ResNet-18 on every
    dataset; here it is the config's classifier with a projection.

    Raises:
        ValueError: A setting is out of range.
    """
    del training_set
    for field, value in (
        ("temperature", settings.temperature),
        ("auxiliary_lr_scale", settings.auxiliary_lr_scale),
    ):
        if not value > 0:
            raise ValueError(f"{field} of SelecMix is {value}; it must be above 0.")
    check_gce(settings.gce_q, settings.gce_scaled, owner="SelecMix")

    def loss(
        network: Callable[..., Any], method_state: State, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, State, dict[str, jax.Array]]:
        labels = batch["label"]
        _, projections = network("auxiliary", batch["x"], method="project")
        similarity = similarities(jax.lax.stop_gradient(projections))
        own_class, others = same(labels), ~jnp.eye(len(labels), dtype=bool)
        mixed_loss, metrics = _mixed_loss(
            network,
            batch,
            key,
            positives=jnp.where(own_class & others, -similarity, -jnp.inf),
            negatives=jnp.where(own_class, -jnp.inf, similarity),
        )
        auxiliary_loss = contrastive_loss(
            projections, labels, settings.temperature, settings.gce_q, scaled=settings.gce_scaled
        )
        metrics = {**metrics, "auxiliary_loss": auxiliary_loss}
        return mixed_loss + auxiliary_loss, method_state, metrics

    return JointMethod(
        columns=(),
        sampling="uniform",
        init_state=no_state,
        loss=loss,
        networks={
            "main": NetworkSpec(),
            "auxiliary": NetworkSpec("projected", settings.auxiliary_lr_scale),
        },
    )


def make_on_amplifier(settings: SelecMixSettings, training_set: TrainingSet) -> JointMethod:
    """As `make` without auxiliary network: images are alike if the amplifier predicts one class.

    The partner is any image of the own class and another prediction, or of another class and the
    own prediction, drawn evenly. No setting is read.

    Raises:
        ValueError: The amplifier's predictions are missing.
    """
    del settings
    if training_set.bias is None or np.min(training_set.bias) < 0:
        raise ValueError("SelecMix on the amplifier needs its prediction for every image.")

    def loss(
        network: Callable[..., Any], method_state: State, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, State, dict[str, jax.Array]]:
        alike, own_class = same(batch["given_bias"]), same(batch["label"])
        key, lottery_key = jax.random.split(key)
        lottery = jax.random.uniform(lottery_key, alike.shape)
        mixed_loss, metrics = _mixed_loss(
            network,
            batch,
            key,
            positives=jnp.where(own_class & ~alike, lottery, -jnp.inf),
            negatives=jnp.where(~own_class & alike, lottery, -jnp.inf),
        )
        return mixed_loss, method_state, metrics

    return JointMethod(
        columns=("given_bias",),
        sampling="uniform",
        init_state=no_state,
        loss=loss,
        networks={"main": NetworkSpec()},
    )


def mix(
    images: jax.Array, labels: jax.Array, key: jax.Array, positives: jax.Array, negatives: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Every image mixed with its partner, one half of the mixture at least.

    x = r x_i + (1 - r) x_partner, r uniform in [0, 1/2) for every image; the label is the partner's
    alone. An image without a possible partner stays as it is, with its own label; the released
    code then takes the first image.

    Args:
        images: float32 [B, ...].
        labels: int32 [B].
        key: One coin for the batch, heads being positives, and the r.
        positives: [B, B], preference of every image (row) for a partner; minus infinity where
            there can be none.
        negatives: [B, B], the same.

    Returns:
        float32 [B, ...], int32 [B], and bool [B], which images are mixed.
    """
    coin_key, share_key = jax.random.split(key)
    preference = jnp.where(jax.random.bernoulli(coin_key), positives, negatives)
    mixed = jnp.any(preference > -jnp.inf, axis=1)
    partner = jnp.where(mixed, jnp.argmax(preference, axis=1), jnp.arange(len(labels)))
    share = jax.random.uniform(share_key, labels.shape, maxval=0.5)
    share = share.reshape(-1, *[1] * (images.ndim - 1))
    # Exactly the image itself if it is its own partner.
    return images + (1.0 - share) * (images[partner] - images), labels[partner], mixed


def contrastive_loss(
    projections: jax.Array, labels: jax.Array, temperature: float, q: float, *, scaled: bool
) -> jax.Array:
    """Supervised contrastive loss with generalised cross-entropy, a scalar.

    With p the probability that anchor i picks j, the mean over all anchors of the mean over the
    others of their class of (1 - p^q) / q, or of stop_gradient(q p^q) (-log p) if `scaled`; an
    anchor without others counts 0.

    Args:
        projections: [B, D], of unit length.
        labels: int32 [B].
        temperature: Above 0.
        q: In [0, 1]; above 0 if `scaled`.
        scaled: As in `losses.generalized_cross_entropy`.
    """
    loss = generalize(-log_probabilities(projections, temperature), q, scaled=scaled)
    positives = same(labels) & ~jnp.eye(len(labels), dtype=bool)
    return jnp.mean(mean_over_positives(loss, positives))


def _mixed_loss(
    network: Callable[..., Any],
    batch: Batch,
    key: jax.Array,
    positives: jax.Array,
    negatives: jax.Array,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean CE of the classifier on the batch after `mix`, and metrics; accuracy is of mixtures."""
    images, labels, mixed = mix(batch["x"], batch["label"], key, positives, negatives)
    logits, _ = network("main", images)
    metrics = {"train_accuracy": accuracy(logits, labels), "mixed_share": jnp.mean(mixed)}
    return jnp.mean(cross_entropy(logits, labels)), metrics
