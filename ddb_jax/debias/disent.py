"""DisEnt (Lee et al., NeurIPS 2021): codes of class and bias, the latter swapped between images.

Learning from Failure with two branches that read both codes. Once the codes are separated, every
image is also trained on with the bias code of another one. The update follows the released code,
kakaoenterprise/Learning-Debiased-Disentangled. As in LfF, DDB's frozen amplifier
can replace the biased branch in the weights, or the biased branch can learn only from examples that
a committee of biased networks counts as aligned (BiasEnsemble, Lee et al., AAAI 2023).
"""

import math
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from ddb_jax.debias.contract import Batch, JointMethod, NetworkSpec, State, TrainingSet
from ddb_jax.debias.loss_memory import final_weights, init_memories, weigh
from ddb_jax.debias.losses import (
    accuracy,
    check_gce,
    cross_entropy,
    generalized_cross_entropy,
    masked_mean,
)


class DisEntSettings(Protocol):
    """Settings of DisEnt; the values named are those of its released commands.

    Attributes:
        gce_q: q of the biased branch's generalised cross-entropy, 0.7.
        gce_scaled: The released code's form of that loss, with q times the gradient.
        ema: alpha of the running averages of both branches' losses, 0.7.
        swap_after: Steps before the swap begins, 10,000 of 50,000.
        lambda_dis: Factor of the biased branch's loss; Coloured MNIST 10, Corrupted CIFAR-10 1 or
            5, BFFHQ 2.
        lambda_swap: Factor of the whole loss on swapped codes, 1; BFFHQ 0.1.
        lambda_swap_biased: Factor of the biased branch's loss within it, as lambda_dis.
    """

    gce_q: float
    gce_scaled: bool
    ema: float
    swap_after: int
    lambda_dis: float
    lambda_swap: float
    lambda_swap_biased: float


def make(settings: DisEntSettings, training_set: TrainingSet) -> JointMethod:
    """Loss = L_dis, plus lambda_swap * L_swap after `swap_after` steps.

    With the codes z = [z_l, z_b] of an image, z_b' and y' being another one's of the batch by a
    random permutation, and W the weight of LfF by the cross-entropies of both heads on z,
    L_dis = mean W CE(main(z), y) + lambda_dis mean GCE(biased(z), y),
    L_swap = mean W CE(main([z_l, z_b']), y) + lambda_swap_biased mean GCE(biased([z_l, z_b']), y')
    (eqs. 1 to 4). No head sends a gradient into the other branch's code, and W carries none.

    Raises:
        ValueError: `ema` lies outside [0, 1), gce_q outside [0, 1] or at 0 with gce_scaled, whose
            loss would be 0; swap_after or a factor is negative or not finite.
    """
    return _branches(settings, training_set, (), _gce(settings))


def make_on_committee(settings: DisEntSettings, training_set: TrainingSet) -> JointMethod:
    """As `make`, but the biased branch's losses are CE over the examples that are not flagged.

    A swapped code counts by the flag of the image it came from. A loss is 0 if all are flagged.
    The weights still apply to all examples.

    Raises:
        ValueError: As `make`, or nothing is flagged because there was no committee.
    """
    if training_set.flagged is None:
        raise ValueError("DisEnt on a committee needs the examples that it does not agree on.")

    def biased_loss(logits: jax.Array, batch: Batch) -> jax.Array:
        return masked_mean(cross_entropy(logits, batch["label"]), ~batch["flagged"])

    return _branches(settings, training_set, ("flagged",), biased_loss)


def make_on_amplifier(settings: DisEntSettings, training_set: TrainingSet) -> JointMethod:
    """As `make`, but W uses the frozen amplifier's loss instead of the biased head's.

    The biased branch trains as in `make`, because its code is what is swapped.

    Raises:
        ValueError: As `make`, or the amplifier's losses are missing.
    """
    if training_set.amplifier_loss is None:
        raise ValueError("DisEnt on the amplifier needs its losses.")
    return _branches(
        settings,
        training_set,
        ("amplifier_loss",),
        _gce(settings),
        frozen_loss=training_set.amplifier_loss,
    )


def _gce(settings: DisEntSettings) -> Callable[[jax.Array, Batch], jax.Array]:
    def biased_loss(logits: jax.Array, batch: Batch) -> jax.Array:
        losses = generalized_cross_entropy(
            logits, batch["label"], settings.gce_q, scaled=settings.gce_scaled
        )
        return jnp.mean(losses)

    return biased_loss


def _check(settings: DisEntSettings) -> None:
    if not 0.0 <= settings.ema < 1.0:
        raise ValueError(f"ema of DisEnt is {settings.ema}; it must lie in [0, 1).")
    check_gce(settings.gce_q, settings.gce_scaled, owner="DisEnt")
    for field in ("swap_after", "lambda_dis", "lambda_swap", "lambda_swap_biased"):
        value = getattr(settings, field)
        if not 0.0 <= value < math.inf:
            raise ValueError(f"{field} of DisEnt is {value}; it must be finite and not negative.")


def _branches(
    settings: DisEntSettings,
    training_set: TrainingSet,
    columns: tuple[str, ...],
    biased_loss: Callable[[jax.Array, Batch], jax.Array],
    frozen_loss: np.ndarray | None = None,
) -> JointMethod:
    """Both branches.

    `biased_loss` is (logits, batch with label and columns) -> the biased one's scalar loss, and
    `frozen_loss` the amplifier's [N] where it weighs.
    """
    _check(settings)
    num_classes = training_set.num_classes

    def init_state() -> State:
        memories = init_memories(training_set.labels, frozen_loss)
        return {**memories, "step": jnp.zeros((), jnp.int32)}

    def loss(
        network: Callable[..., Any], method_state: State, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, State, dict[str, jax.Array]]:
        z_main, z_biased = network("main", batch["x"], method="encode")

        def heads(z_biased: jax.Array) -> tuple[jax.Array, jax.Array]:
            for_main = jnp.concatenate([z_main, jax.lax.stop_gradient(z_biased)], axis=-1)
            for_biased = jnp.concatenate([jax.lax.stop_gradient(z_main), z_biased], axis=-1)
            return network("main", for_main, for_biased, method="heads")

        logits, biased_logits = heads(z_biased)
        own = cross_entropy(logits, batch["label"])
        if frozen_loss is None:
            biased = cross_entropy(biased_logits, batch["label"])
        else:
            biased = batch["amplifier_loss"]
        weight, new_state = weigh(
            method_state, batch["index"], biased, own, settings.ema, num_classes
        )
        of_biased = biased_loss(biased_logits, batch)
        dis = jnp.mean(weight * own) + settings.lambda_dis * of_biased

        order = jax.random.permutation(key, z_biased.shape[0])
        swapped = {name: batch[name][order] for name in ("label", *columns)}
        logits_on_swapped, biased_logits_on_swapped = heads(z_biased[order])
        swap = jnp.mean(weight * cross_entropy(logits_on_swapped, batch["label"]))
        swap += settings.lambda_swap_biased * biased_loss(biased_logits_on_swapped, swapped)
        swaps = method_state["step"] >= settings.swap_after

        new_state["step"] = method_state["step"] + 1
        metrics = {
            "train_accuracy": accuracy(logits, batch["label"]),
            "mean_weight": jnp.mean(weight),
            "biased_loss": of_biased,
            "swap_loss": swap,
        }
        return dis + jnp.where(swaps, settings.lambda_swap, 0.0) * swap, new_state, metrics

    return JointMethod(
        columns=columns,
        sampling="uniform",
        init_state=init_state,
        loss=loss,
        networks={"main": NetworkSpec("disentangled")},
        suspicion=lambda method_state: final_weights(method_state, num_classes),
    )
