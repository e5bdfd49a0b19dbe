"""The contract of a debiasing method: what its batches carry, what it remembers, its loss.

`Method`, `JointMethod` and `LastLayer` answer the same questions (`networks`, `views`,
`needs_whole_batch`), so that no caller asks which of them it has.
"""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddb_jax.debias.losses import accuracy, cross_entropy

SAMPLINGS = ("uniform", "group_balanced")
MAIN = "main"  # the network that is evaluated and kept

State = dict[str, jax.Array]
Batch = dict[str, jax.Array]
LossAndState = tuple[jax.Array, State, dict[str, jax.Array]]


class NetworkSpec(NamedTuple):
    """A network of a method.

    Attributes:
        kind: "classifier", the config's classifier; "disentangled", two of its encoders whose codes
            meet in two heads; "projected", the classifier with a projection head beside its own;
            "small_receptive_field", a network that sees a few pixels at a time.
        lr_scale: Factor of the learning rate.
    """

    kind: str = "classifier"
    lr_scale: float = 1.0


ONE_CLASSIFIER: Mapping[str, NetworkSpec] = MappingProxyType({MAIN: NetworkSpec()})


class Method(NamedTuple):
    """A method that weighs the examples' losses of one network; ready for a training loop.

    Attributes:
        columns: Per-example columns that a batch carries beside image, label int32 [B] and index
            int32 [B] (position in the training split): "group" int32 [B], "amplifier_loss"
            float32 [B], "given_bias" int32 [B], "flagged" bool [B], "bias_features" float32 [B, D],
            each a field of TrainingSet except the first.
        sampling: "uniform", or "group_balanced": the groups take turns, so that all groups are
            equally frequent, each shuffled in its own epochs.
        init_state: Gives the method_state at step 0, a flat dictionary of arrays.
        loss: (per_example_loss float32 [B], method_state, batch) -> (scalar loss, new
            method_state, metrics as a dictionary of scalars). Jit-safe. The per-example loss is
            never negative and carries the gradient; new state and metrics carry none.
        adjust_logits: (logits float32 [B, K], batch) -> the logits that the per-example loss is of,
            in training only; None leaves them.
        per_example_loss: (logits, labels int32 [B]) -> float32 [B].
        repeats: int32 [N], how often every example occurs per epoch of "uniform" sampling; None
            is once.
        networks: The one network, under the name "main".
        suspicion: method_state -> float32 [N] in 0..1, how strongly the method suspects each
            training image of conflicting with the bias at the end of training; above 0.5 is a yes.
            None where it has no such opinion.
        views: Augmentations of every image, 1.
        needs_whole_batch: Whether the loss needs all images at once, so that no batch can be
            computed in parts: False, since `loss` reads the losses alone.
        by_network: Whether the train state holds weights under the name of their network: False.
    """

    columns: tuple[str, ...]
    sampling: str
    init_state: Callable[[], State]
    loss: Callable[[jax.Array, State, Batch], LossAndState]
    adjust_logits: Callable[[jax.Array, Batch], jax.Array] | None = None
    per_example_loss: Callable[[jax.Array, jax.Array], jax.Array] = cross_entropy
    repeats: np.ndarray | None = None
    networks: Mapping[str, NetworkSpec] = ONE_CLASSIFIER
    suspicion: Callable[[State], jax.Array] | None = None

    # No fields: the same for all of this kind.
    views = 1
    needs_whole_batch = False
    by_network = False

    def example_losses(self, logits: jax.Array, batch: Batch) -> jax.Array:
        """The losses float32 [B] that `loss` is given, of logits float32 [B, K]."""
        adjusted = self.adjust_logits(logits, batch) if self.adjust_logits else logits
        return self.per_example_loss(adjusted, batch["label"])

    def loss_of_networks(
        self, network: Callable[..., Any], method_state: State, batch: Batch, key: jax.Array
    ) -> LossAndState:
        """The loss of a whole batch, with the arguments and results of `JointMethod.loss`."""
        del key
        logits, _ = network(MAIN, batch["x"])
        losses = self.example_losses(logits, batch)
        loss, method_state, metrics = self.loss(losses, method_state, batch)
        return loss, method_state, {"train_accuracy": accuracy(logits, batch["label"]), **metrics}


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
            with two views, also "second_x", augmented separately. `key` is
            different in every step.
        networks: By name; "main" is the one that is evaluated and kept.
        views: 1, or 2 for two augmentations of every image.
        suspicion: As in Method.
        repeats: As in Method, None.
        needs_whole_batch: As in Method: True.
        by_network: As in Method: True.
    """

    columns: tuple[str, ...]
    sampling: str
    init_state: Callable[[], State]
    loss: Callable[[Callable[..., Any], State, Batch, jax.Array], LossAndState]
    networks: Mapping[str, NetworkSpec]
    views: int = 1
    suspicion: Callable[[State], jax.Array] | None = None

    # No fields: the same for all of this kind.
    repeats = None
    needs_whole_batch = True
    by_network = True

    def loss_of_networks(
        self, network: Callable[..., Any], method_state: State, batch: Batch, key: jax.Array
    ) -> LossAndState:
        """The loss of a whole batch: `loss` itself."""
        return self.loss(network, method_state, batch, key)


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
    """A method that fits a new last layer over a network that plain training left.

    Attributes:
        held_out_share: Share of the training images that plain training leaves out and on which the
            layer is fitted; with 0 it is fitted on the validation split, and the network is ERM's.
        fit: (features, seed) -> (kernel float32 [F, K], bias float32 [K], what is to be recorded).
        networks: As in Method, and so are `views` and `needs_whole_batch`: those of plain training.
    """

    held_out_share: float
    fit: Callable[[FrozenFeatures, int], tuple[np.ndarray, np.ndarray, dict[str, Any]]]

    # No fields: the same for all of this kind.
    networks = ONE_CLASSIFIER
    views = 1
    needs_whole_batch = False


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


def mean_loss(per_example_loss: jax.Array, method_state: State, batch: Batch) -> LossAndState:
    """The `loss` of a method that weights all examples equally."""
    del batch
    return jnp.mean(per_example_loss), method_state, {}


def plain(**fields: Any) -> Method:
    """Plain training (uniform batches, mean loss), with the given fields replaced."""
    defaults = {"columns": (), "sampling": "uniform", "init_state": no_state, "loss": mean_loss}
    return Method(**{**defaults, **fields})
