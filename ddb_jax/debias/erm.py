"""Empirical risk minimisation: the mean loss over examples, or over groups of equal weight."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddb_jax.debias.contract import Batch, Method, State, TrainingSet, plain


def make(settings: Any, training_set: TrainingSet) -> Method:
    """Plain training; it has no settings."""
    del settings, training_set
    return plain()


def make_resampling(settings: Any, training_set: TrainingSet) -> Method:
    """Plain loss on batches that hold every group equally often; it has no settings.

    Called RWG in Idrissi et al., "Simple data balancing achieves competitive worst-group-accuracy"
    (CLeaR 2022).
    """
    del settings, training_set
    return plain(sampling="group_balanced")


def group_weights(group_sizes: np.ndarray) -> np.ndarray:
    """Weight N / (G n_g) of an example of each group, whose mean over the examples is 1.

    Args:
        group_sizes: int [G], all positive.

    Returns:
        float32 [G].
    """
    sizes = np.asarray(group_sizes, np.float64)
    return (sizes.sum() / (len(sizes) * sizes)).astype(np.float32)


def make_reweighting(settings: Any, training_set: TrainingSet) -> Method:
    """Uniform batches, the loss of an example weighted by 1 / n_g; it has no settings.

    Importance weighting, the baseline of GroupDRO (Sagawa et al., ICLR 2020, section 3.3).

    Raises:
        ValueError: There are no groups.
    """
    del settings
    if training_set.group_sizes is None:
        raise ValueError("reweighting needs groups.")
    weights = jnp.asarray(group_weights(training_set.group_sizes))

    def loss(
        per_example_loss: jax.Array, method_state: State, batch: Batch
    ) -> tuple[jax.Array, State, dict[str, jax.Array]]:
        return jnp.mean(weights[batch["group"]] * per_example_loss), method_state, {}

    return plain(columns=("group",), loss=loss)
