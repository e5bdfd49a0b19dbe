"""The contract of a debiasing method: what its batches carry, what it remembers, its loss."""

import dataclasses
from collections.abc import Callable, Mapping
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
            float32 [B], "given_bias" int32 [B], "flagged" bool [B], "bias_features" float32 [B, D],
            each a field of TrainingSet but for the first.
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
        suspicion: As in JointMethod.
    """

    columns: tuple[str, ...]
    sampling: str
    init_state: Callable[[], State]
    loss: Callable[[jax.Array, State, Batch], tuple[jax.Array, State, dict[str, jax.Array]]]
    adjust_logits: Callable[[jax.Array, Batch], jax.Array] | None = None
    per_example_loss: Callable[[jax.Array, jax.Array], jax.Array] | None = None
    repeats: np.ndarray | None = None
    suspicion: Callable[[State], jax.Array] | None = None


class NetworkSpec(NamedTuple):
    """A network of a JointMethod.

    Attributes:
        kind: "classifier", the config's classifier; "disentangled", two of its encoders whose codes
            meet in two heads; "projected", the classifier with a projection head beside its own;
            "small_receptive_field", a network that sees a few pixels at a time.
        lr_scale: Factor of the learning rate.
    """

    kind: str = "classifier"
    lr_scale: float = 1.0


class JointMethod(NamedTuple):
    """A method that trains several networks in one step, or works on images or features itself.

    Attributes:
        columns: As in Method.
        sampling: As in Method.
        init_state: As in Method; per-example memories lie here, indexed by the batch's "index".
        loss: (network, method_state, batch, key) -> (scalar loss of all networks, new method_state,
            metrics, of which "train_accuracy" is the evaluated network's). Jit-safe.
            `network(name, *inputs, method=None)` runs one of `networks` in training, by its
            `__call__`, images -> (logits float32 [B, K], features float32 [B, F]), or by the method
            named. The batch holds the augmented, normalised images as "x" float32 [B, S, S, 3];
            with two views, as "second_x" as well, in augmentations of their own. `key` is
            different in every step.
        networks: By name; "main" is the one that is evaluated and kept.
        views: 1, or 2 for two augmentations of every image.
        suspicion: method_state -> float32 [N] in 0..1, how far the method holds every training
            image to conflict with the bias at the end, above 0.5 being its verdict; None where it
            has no such opinion.
    """

    columns: tuple[str, ...]
    sampling: str
    init_state: Callable[[], State]
    loss: Callable[
        [Callable[..., Any], State, Batch, jax.Array],
        tuple[jax.Array, State, dict[str, jax.Array]],
    ]
    networks: Mapping[str, NetworkSpec]
    views: int = 1
    suspicion: Callable[[State], jax.Array] | None = None


class FrozenFeatures(NamedTuple):
    """What a last layer is fitted to.

    Attributes:
        features: float32 [N, F], of the images that it is fitted on, by the network below it.
        labels: int32 [N].
        groups: int32 [N]; None without groups.
        label_probability: float32 [N], what a model gave the image's own label: the network itself,
            or DDB's amplifier.
        kernel: float32 [F, K], and
        bias: float32 [K], of the network's own last layer.
    """

    features: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None
    label_probability: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray


class LastLayer(NamedTuple):
    """A method that fits a last layer anew over a network that plain training left.

    Attributes:
        held_out_share: Share of the training images that plain training leaves out and the layer is
            fitted on; 0 fits it on the validation split, and the network is that of ERM.
        fit: (features, seed) -> (kernel float32 [F, K], bias float32 [K], what is to be recorded).
    """

    held_out_share: float
    fit: Callable[[FrozenFeatures, int], tuple[np.ndarray, np.ndarray, dict[str, Any]]]


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
        flagged: bool [N], examples that a first model misclassifies, or that a committee of biased
            models does not agree on; None without one.
        bias_features: float32 [N, D], features of a frozen network that captures the bias; None
            without one.
    """

    labels: np.ndarray
    num_classes: int
    group_sizes: np.ndarray | None = None
    amplifier_loss: np.ndarray | None = None
    bias: np.ndarray | None = None
    flagged: np.ndarray | None = None
    bias_features: np.ndarray | None = None


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
