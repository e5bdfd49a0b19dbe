"""The contract of a debiasing method: what its batches carry, what it remembers, its loss."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

SAMPLINGS = ("uniform", "group_balanced")

State = dict[str, jax.Array]
Batch = dict[str, jax.Array]


class Method(NamedTuple):
    """One debiasing method, ready for a training loop.

    Attributes:
        columns: Per-example columns that a batch carries beside image, label int32 [B] and index
            int32 [B] (position in the training split): "group" int32 [B], "amplifier_loss"
            float32 [B], "given_bias" int32 [B].
        sampling: "uniform", or "group_balanced": the groups take turns, so that a small group's
            examples come as often as a large one's, each group in shuffled epochs of its own.
        init_state: Gives the method_state at step 0, a flat dictionary of arrays.
        loss: (per_example_loss float32 [B], method_state, batch) -> (scalar loss, new
            method_state, metrics as a dictionary of scalars). Jit-safe. The per-example loss is
            never negative and carries the gradient; new state and metrics carry none.
        adjust_logits: (logits float32 [B, K], batch) -> the logits that the per-example loss is of,
            in training only; None leaves them.
        per_example_loss: (logits, labels int32 [B]) -> float32 [B]; None is cross-entropy.
        repeats: int32 [N], how often every example stands in an epoch of "uniform" sampling; None
            is once.
    """

    columns: tuple[str, ...]
    sampling: str
    init_state: Callable[[], State]
    loss: Callable[[jax.Array, State, Batch], tuple[jax.Array, State, dict[str, jax.Array]]]
    adjust_logits: Callable[[jax.Array, Batch], jax.Array] | None = None
    per_example_loss: Callable[[jax.Array, jax.Array], jax.Array] | None = None
    repeats: np.ndarray | None = None


class PairedMethod(NamedTuple):
    """A method that trains a biased network of the same shape beside the one it debiases.

    Attributes:
        columns: As in Method.
        sampling: As in Method.
        init_state: As in Method; per-example memories lie here, indexed by the batch's "index".
        loss: (logits float32 [B, K], biased_logits float32 [B, K], method_state, batch) -> (scalar
            loss of both networks, new method_state, metrics). Jit-safe.
    """

    columns: tuple[str, ...]
    sampling: str
    init_state: Callable[[], State]
    loss: Callable[
        [jax.Array, jax.Array, State, Batch], tuple[jax.Array, State, dict[str, jax.Array]]
    ]


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """What a method may know of the training split before the first step.

    Attributes:
        labels: int [N], in the order of `index`.
        num_classes: Number of classes.
        group_sizes: int [G], examples in each group, none empty; None without groups.
        amplifier_loss: float [N], cross-entropy of the frozen bias amplifier; None without it.
        bias: int [N], the bias attribute as the method is given it: the true one for an oracle, the
            amplifier's predicted class for a method on its scores; None otherwise.
        flagged: bool [N], examples that a first model misclassifies; None without one.
    """

    labels: np.ndarray
    num_classes: int
    group_sizes: np.ndarray | None = None
    amplifier_loss: np.ndarray | None = None
    bias: np.ndarray | None = None
    flagged: np.ndarray | None = None


def no_state() -> State:
    """The `init_state` of a method that remembers nothing."""
    return {}


def mean_loss(
    per_example_loss: jax.Array, method_state: State, batch: Batch
) -> tuple[jax.Array, State, dict[str, jax.Array]]:
    """The `loss` of a method that weighs all examples alike."""
    del batch
    return jnp.mean(per_example_loss), method_state, {}


def plain(**fields: Any) -> Method:
    """Plain training, uniform batches and their mean loss, but for the fields given."""
    defaults = {"columns": (), "sampling": "uniform", "init_state": no_state, "loss": mean_loss}
    return Method(**{**defaults, **fields})
