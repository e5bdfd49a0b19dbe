"""Empirical risk minimisation: the mean loss, over uniform or group-balanced batches."""

from typing import Any

import jax
import jax.numpy as jnp

from ddb_jax.debias.method import Batch, Method, State, TrainingSet, no_state


def _mean_loss(
    per_example_loss: jax.Array, method_state: State, batch: Batch
) -> tuple[jax.Array, State, dict[str, jax.Array]]:
    del batch
    return jnp.mean(per_example_loss), method_state, {}


def make(settings: Any, training_set: TrainingSet) -> Method:
    """Plain training; it has no settings."""
    del settings, training_set
    return Method(columns=(), sampling="uniform", init_state=no_state, loss=_mean_loss)


def make_resampling(settings: Any, training_set: TrainingSet) -> Method:
    """Plain loss on batches that hold every group equally often; it has no settings.

    Called RWG in Idrissi et al., "Simple data balancing achieves competitive worst-group-accuracy"
    (CLeaR 2022).
    """
    del settings, training_set
    return Method(columns=(), sampling="group_balanced", init_state=no_state, loss=_mean_loss)
