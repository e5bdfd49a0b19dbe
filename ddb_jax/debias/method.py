"""The contract of a debiasing method: what its batches carry, what it remembers, its loss."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
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
    """

    columns: tuple[str, ...]
    sampling: str
    init_state: Callable[[], State]
    loss: Callable[[jax.Array, State, Batch], tuple[jax.Array, State, dict[str, jax.Array]]]
    adjust_logits: Callable[[jax.Array, Batch], jax.Array] | None = None


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
    """

    labels: np.ndarray
    num_classes: int
    group_sizes: np.ndarray | None = None
    amplifier_loss: np.ndarray | None = None
    bias: np.ndarray | None = None


def no_state() -> State:
    """The `init_state` of a method that remembers nothing."""
    return {}
