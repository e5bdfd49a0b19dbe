"""The one train state of every training stage: a plain pytree of arrays."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax


class TrainState(flax.struct.PyTreeNode):
    """Everything a training stage must save to go on exactly where it stopped.

    Attributes:
        step: int32 scalar, optimiser steps taken.
        params: Trainable parameters, float32.
        batch_stats: Running statistics of BatchNorm; {} without it.
        ema_params: Averaged parameters; {} when averaging is off.
        opt_state: The optimiser's state.
        method_state: What a debiasing method remembers between steps; {} for none.
        selected: The weights that validation has preferred so far, as
            {params, batch_stats, step, score}; {} where nothing is selected.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    ema_params: Any
    opt_state: Any
    method_state: Any
    selected: Any


def create(
    variables: dict[str, Any],
    optimizer: optax.GradientTransformation,
    *,
    ema: bool = False,
    method_state: Any = None,
    num_scores: int = 0,
    selectable: dict[str, Any] | None = None,
) -> TrainState:
    """State at step 0. Call it inside jit, so that no two leaves share a buffer (donation).

    Args:
        variables: {"params": ..., ["batch_stats": ...]} as a model's init returns them.
        optimizer: Gives the optimiser's state.
        ema: Keep averaged parameters.
        method_state: Initial state of the debiasing method.
        num_scores: Length of the validation score; 0 for no selection.
        selectable: The part of the variables that validation may prefer; None is all.
    """
    params = variables["params"]
    batch_stats = variables.get("batch_stats", {})
    selected = {}
    if num_scores:
        chosen = variables if selectable is None else selectable
        selected = {
            "params": jax.tree.map(jnp.copy, chosen["params"]),
            "batch_stats": jax.tree.map(jnp.copy, chosen.get("batch_stats", {})),
            "step": jnp.zeros((), jnp.int32),
            "score": jnp.full((num_scores,), -jnp.inf, jnp.float32),
        }
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        ema_params=jax.tree.map(jnp.copy, params) if ema else {},
        opt_state=optimizer.init(params),
        method_state={} if method_state is None else method_state,
        selected=selected,
    )


def apply_gradients(
    state: TrainState,
    gradients: Any,
    optimizer: optax.GradientTransformation,
    *,
    batch_stats: Any = None,
    method_state: Any = None,
    ema_decay: float = 0.0,
) -> TrainState:
    """One optimiser step, and the running average where the state keeps one.

    The average's decay is min(ema_decay, (1 + step) / (10 + step)), so that a short run is not
    dominated by the initial weights.
    """
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema_params = state.ema_params
    if ema_params:
        step = state.step.astype(jnp.float32)
        decay = jnp.minimum(ema_decay, (1.0 + step) / (10.0 + step))
        ema_params = optax.incremental_update(params, ema_params, 1.0 - decay)
    return state.replace(
        step=state.step + 1,
        params=params,
        batch_stats=state.batch_stats if batch_stats is None else batch_stats,
        ema_params=ema_params,
        opt_state=opt_state,
        method_state=state.method_state if method_state is None else method_state,
    )
