"""Learning from Failure (Nam et al., NeurIPS 2020): a biased network weights another's examples.

The update follows the released code, alinlab/LfF, with its memories and class-wise scaling, which
the paper's formula leaves out. Two other models can replace its biased network: DDB's frozen
amplifier, and a network trained only on examples that a committee of biased networks counts as
aligned (BiasEnsemble, Lee et al., AAAI 2023).
"""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from ddb_jax.debias.contract import (
    Batch,
    JointMethod,
    Method,
    NetworkSpec,
    State,
    TrainingSet,
    plain,
)
from ddb_jax.debias.loss_memory import final_weights, init_memories, weigh
from ddb_jax.debias.losses import (
    accuracy,
    check_gce,
    cross_entropy,
    generalized_cross_entropy,
    masked_mean,
)


class LfFSettings(Protocol):
    """Settings of Learning from Failure; the values named are its released code's.

    Attributes:
        gce_q: q of the biased network's generalised cross-entropy, 0.7.
        gce_scaled: The released code's form of that loss, with q times the gradient.
        ema: alpha of the running averages of both networks' losses, 0.7.
    """

    gce_q: float
    gce_scaled: bool
    ema: float


def make(settings: LfFSettings, training_set: TrainingSet) -> JointMethod:
    """Loss = mean GCE of the biased network + mean of weight * CE of the debiased one.

    Both networks' cross-entropies enter a running average per example, which is divided by its
    largest value in the class over the whole training set; the weight is their relative difficulty,
    and carries no gradient.

    Raises:
        ValueError: `ema` lies outside [0, 1), or gce_q outside [0, 1], or it is 0 with gce_scaled.
    """

    def biased_loss(logits: jax.Array, batch: Batch) -> jax.Array:
        losses = generalized_cross_entropy(
            logits, batch["label"], settings.gce_q, scaled=settings.gce_scaled
        )
        return jnp.mean(losses)

    return _pair(settings, training_set, (), biased_loss)


def make_on_committee(settings: LfFSettings, training_set: TrainingSet) -> JointMethod:
    """As `make`, but the biased network's loss is CE over the examples that are not flagged.

    It is 0 if all are flagged. The weights still apply to all examples.

    Raises:
        ValueError: As `make`, or there are no flags because there was no committee.
    """
    if training_set.flagged is None:
        raise ValueError("LfF on a committee needs the examples that it does not agree on.")

    def biased_loss(logits: jax.Array, batch: Batch) -> jax.Array:
        return masked_mean(cross_entropy(logits, batch["label"]), ~batch["flagged"])

    return _pair(settings, training_set, ("flagged",), biased_loss)


def make_on_amplifier(settings: LfFSettings, training_set: TrainingSet) -> Method:
    """One network, weighted by the frozen amplifier's loss instead of the biased network's.

    Raises:
        ValueError: As `make`, or the amplifier's losses are missing.
    """
    if training_set.amplifier_loss is None:
        raise ValueError("LfF on the amplifier needs its losses.")
    _check(settings)
    num_classes = training_set.num_classes

    def loss(
        per_example_loss: jax.Array, method_state: State, batch: Batch
    ) -> tuple[jax.Array, State, dict[str, jax.Array]]:
        weight, memories = weigh(
            method_state,
            batch["index"],
            batch["amplifier_loss"],
            per_example_loss,
            settings.ema,
            num_classes,
        )
        return jnp.mean(weight * per_example_loss), memories, {"mean_weight": jnp.mean(weight)}

    return plain(
        columns=("amplifier_loss",),
        init_state=lambda: init_memories(training_set.labels, training_set.amplifier_loss),
        loss=loss,
        suspicion=lambda method_state: final_weights(method_state, num_classes),
    )


def _check(settings: LfFSettings) -> None:
    if not 0.0 <= settings.ema < 1.0:
        raise ValueError(f"ema of LfF is {settings.ema}; it must lie in [0, 1).")
    check_gce(settings.gce_q, settings.gce_scaled, owner="LfF")


def _pair(
    settings: LfFSettings,
    training_set: TrainingSet,
    columns: tuple[str, ...],
    biased_loss: Callable[[jax.Array, Batch], jax.Array],
) -> JointMethod:
    """The two networks; `biased_loss` is (logits, batch) -> the biased one's scalar loss."""
    _check(settings)
    num_classes = training_set.num_classes

    def loss(
        network: Callable[..., Any], method_state: State, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, State, dict[str, jax.Array]]:
        del key
        logits, _ = network("main", batch["x"])
        biased_logits, _ = network("biased", batch["x"])
        own = cross_entropy(logits, batch["label"])
        biased = cross_entropy(biased_logits, batch["label"])
        weight, memories = weigh(
            method_state, batch["index"], biased, own, settings.ema, num_classes
        )
        of_biased = biased_loss(biased_logits, batch)
        metrics = {
            "train_accuracy": accuracy(logits, batch["label"]),
            "mean_weight": jnp.mean(weight),
            "biased_loss": of_biased,
        }
        return of_biased + jnp.mean(weight * own), memories, metrics

    return JointMethod(
        columns=columns,
        sampling="uniform",
        init_state=lambda: init_memories(training_set.labels),
        loss=loss,
        networks={"main": NetworkSpec(), "biased": NetworkSpec()},
        suspicion=lambda method_state: final_weights(method_state, num_classes),
    )
