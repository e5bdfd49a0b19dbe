"""Learning from Failure (Nam et al., NeurIPS 2020): a biased network weighs another one's examples.

The update follows the released code, alinlab/LfF, whose memories and class-wise scaling the paper's
formula leaves out.
"""

from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from ddb_jax.debias.difficulty import (
    new_memory,
    relative_difficulty,
    share_of_class_maximum,
    update_memory,
)
from ddb_jax.debias.losses import cross_entropy, generalized_cross_entropy
from ddb_jax.debias.method import Batch, PairedMethod, State, TrainingSet


class LfFSettings(Protocol):
    """Settings of Learning from Failure; the values named are its released code's.

    Attributes:
        gce_q: q of the biased network's generalised cross-entropy, 0.7.
        gce_scaled: Its code's form of that loss, with q times the gradient of the true one.
        ema: alpha of the running averages of both networks' losses, 0.7.
    """

    gce_q: float
    gce_scaled: bool
    ema: float


def make(settings: LfFSettings, training_set: TrainingSet) -> PairedMethod:
    """Loss = mean GCE of the biased network + mean of weight * CE of the debiased one.

    Both networks' cross-entropies enter a running average per example, which is divided by its
    largest value in the class over the whole training set; the weight is their relative difficulty,
    and carries no gradient.

    Raises:
        ValueError: `ema` lies outside [0, 1), or gce_q outside [0, 1].
    """
    ema, num_classes = settings.ema, training_set.num_classes
    labels = np.asarray(training_set.labels, np.int32)
    if not 0.0 <= ema < 1.0:
        raise ValueError(f"ema of LfF is {ema}; it must lie in [0, 1).")
    if not 0.0 <= settings.gce_q <= 1.0:
        raise ValueError(f"gce_q of LfF is {settings.gce_q}; it must lie in [0, 1].")

    def init_state() -> State:
        return {
            "biased_memory": new_memory(len(labels)),
            "memory": new_memory(len(labels)),
            # In the state, not a constant of the training step, which would be N numbers large.
            "labels": jnp.asarray(labels),
        }

    def loss(
        logits: jax.Array, biased_logits: jax.Array, method_state: State, batch: Batch
    ) -> tuple[jax.Array, State, dict[str, jax.Array]]:
        own = cross_entropy(logits, batch["label"])
        biased = cross_entropy(biased_logits, batch["label"])
        new, shares = dict(method_state), []
        for name, value in (("biased_memory", biased), ("memory", own)):
            value = jax.lax.stop_gradient(value)
            new[name] = update_memory(method_state[name], batch["index"], value, ema)
            shares.append(
                share_of_class_maximum(new[name], new["labels"], batch["index"], num_classes)
            )
        weight = relative_difficulty(*shares)
        biased_loss = jnp.mean(
            generalized_cross_entropy(
                biased_logits, batch["label"], settings.gce_q, scaled=settings.gce_scaled
            )
        )
        metrics = {"mean_weight": jnp.mean(weight), "biased_loss": biased_loss}
        return biased_loss + jnp.mean(weight * own), new, metrics

    return PairedMethod(columns=(), sampling="uniform", init_state=init_state, loss=loss)
