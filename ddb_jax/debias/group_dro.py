"""Group distributionally robust optimisation over given groups (true or pseudo-groups).

Sagawa et al., ICLR 2020, algorithm 1; the update follows the released code, kohpangwei/group_DRO.
"""

from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from ddb_jax.debias.contract import SAMPLINGS, Batch, Method, State, TrainingSet


class GroupDROSettings(Protocol):
    """Settings of GroupDRO; the values named are those of the released Waterbirds command.

    Attributes:
        step_size: Step of the group weights, 0.01.
        adjustment: C of the generalisation adjustment C / sqrt(n_g), 0 (off).
        sampling: "group_balanced", as the published runs are; or "uniform". Small groups are
            missing from most uniform batches, and their weights then hardly move.
    """

    step_size: float
    adjustment: float
    sampling: str


def make(settings: GroupDROSettings, training_set: TrainingSet) -> Method:
    """GroupDRO over the G groups that `training_set.group_sizes` counts.

    With L_g the mean loss of the group's examples in the batch:
    q_g <- q_g exp(step_size (L_g + C / sqrt(n_g))), renormalised, from 1 / G; loss = sum q_g L_g.
    A group absent from the batch has L_g = 0 and gets no adjustment. In the original it does if
    C > 0, so that a group's weight grows when it is not seen. The
    adjustment moves the weights only, and is not added to the loss that is returned.

    The state is log q, because over a long run a weight kept as q underflows to 0 and no later
    update could raise it.

    Raises:
        ValueError: No groups, an empty group, a negative setting or an unknown sampling.
    """
    sizes = training_set.group_sizes
    if sizes is None or len(sizes) == 0:
        raise ValueError("GroupDRO needs groups, and the training set has none.")
    if np.min(sizes) < 1:
        raise ValueError(
            f"GroupDRO's group {int(np.argmin(sizes))} is empty; number the non-empty groups only."
        )
    if settings.step_size < 0 or settings.adjustment < 0:
        raise ValueError(
            f"GroupDRO's step_size ({settings.step_size}) and adjustment ({settings.adjustment})"
            " must not be negative."
        )
    if settings.sampling not in SAMPLINGS:
        raise ValueError(
            f"GroupDRO's sampling is {settings.sampling!r}; it must be one of {SAMPLINGS}."
        )
    step_size = settings.step_size
    num_groups = len(sizes)
    adjustment = np.asarray(settings.adjustment / np.sqrt(sizes), np.float32)

    def init_state() -> State:
        return {"log_q": jnp.full((num_groups,), -np.log(num_groups), jnp.float32)}

    def loss(
        per_example_loss: jax.Array, method_state: State, batch: Batch
    ) -> tuple[jax.Array, State, dict[str, jax.Array]]:
        total, log_q, group_loss = group_dro_loss(
            per_example_loss, batch["group"], method_state["log_q"], step_size, adjustment
        )
        metrics = {
            "worst_group_loss": jnp.max(jax.lax.stop_gradient(group_loss)),
            "largest_group_weight": jnp.max(jnp.exp(log_q)),
        }
        return total, {"log_q": log_q}, metrics

    return Method(columns=("group",), sampling=settings.sampling, init_state=init_state, loss=loss)


def group_dro_loss(
    per_example_loss: jax.Array,
    group: jax.Array,
    log_q: jax.Array,
    step_size: float,
    adjustment: jax.Array | float = 0.0,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """GroupDRO's loss of one batch, with the group weights updated before they are used.

    Args:
        per_example_loss: float32 [B].
        group: int32 [B], in 0..G-1.
        log_q: float32 [G], logarithms of the group weights; -log G each at step 0.
        step_size: Of the weights, 0.01 in the released Waterbirds command.
        adjustment: Added to the loss of every group in the batch when the weights move, [G] or one
            number: C / sqrt(n_g) in the paper.

    Returns:
        The scalar loss sum q_g L_g, the new log_q, and the mean losses L_g float32 [G], 0 for a
        group that is not in the batch. Only the loss and L_g carry a gradient.
    """
    # A masked sum, not segment_sum: float scatter-add is not reproducible on GPU.
    member = group[:, None] == jnp.arange(len(log_q))
    count = jnp.sum(member, axis=0)
    total = jnp.sum(jnp.where(member, per_example_loss[:, None], 0.0), axis=0)
    group_loss = total / jnp.maximum(count, 1).astype(total.dtype)
    adjusted = jax.lax.stop_gradient(group_loss + jnp.where(count > 0, adjustment, 0.0))
    log_q = jax.nn.log_softmax(log_q + step_size * adjusted)
    return jnp.sum(jnp.exp(log_q) * group_loss), log_q, group_loss
