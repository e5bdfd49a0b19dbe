"""DDB's Recipe II: examples that are hard for the amplifier, not for the model, weigh more."""

from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from ddb_jax.debias.contract import Batch, Method, State, TrainingSet, no_state
from ddb_jax.debias.loss_memory import (
    EPSILON,
    class_maximum,
    new_memory,
    relative_difficulty,
    share_of_class_maximum,
    update_memory,
)


class RelativeDifficultySettings(Protocol):
    """Settings of the relative-difficulty weight.

    DDB's figure of Recipe II shows the two losses alone entering the weight; whether LfF's running
    average and class-wise scaling are kept is not known. Hence the plain ratio is the default and
    LfF's parts (Nam et al., NeurIPS 2020, and its released code) are options.

    Attributes:
        ema: alpha of the running average m <- alpha m + (1 - alpha) loss of the trained model's
            loss per example; 0, the default, is the loss of this step. LfF uses 0.7 to smooth two
            moving networks; here one of them is frozen, and its loss is exact from the start.
        class_normalize: Divide both losses by their maximum in the class over the whole training
            set, as LfF does, so that hard and easy classes get similar weights. Off by default: one
            outlier sets the scale of a class.
        normalize_weights: Rescale the weights to mean 1 within the batch. Off by default: in LfF
            and in DDB the falling mean weight is part of the loss, and Adam hardly feels its
            scale. Under SGD it keeps the step size of plain training.
    """

    ema: float
    class_normalize: bool
    normalize_weights: bool


def make(settings: RelativeDifficultySettings, training_set: TrainingSet) -> Method:
    """Recipe II: loss = mean(weight * CE), the weight taken as a constant.

    The amplifier is frozen, so its losses are computed once, without augmentation, and come with
    the batch. The memory is updated before it is read, as in LfF. Class maxima are enlarged by
    1e-8, to avoid a division by zero for a class with a loss of 0.

    Raises:
        ValueError: Amplifier losses are missing, of another length than the labels, negative or
            not finite; or `ema` lies outside [0, 1).
    """
    ema, normalize_weights = settings.ema, settings.normalize_weights
    class_normalize, num_classes = settings.class_normalize, training_set.num_classes
    uses_memory = ema > 0 or class_normalize
    labels = np.asarray(training_set.labels, np.int32)
    if not 0.0 <= ema < 1.0:
        raise ValueError(f"ema of the relative difficulty is {ema}; it must lie in [0, 1).")
    if training_set.amplifier_loss is None:
        raise ValueError("The relative difficulty needs the bias amplifier's losses.")
    amplifier_losses = np.asarray(training_set.amplifier_loss, np.float32)
    if amplifier_losses.shape != labels.shape:
        raise ValueError(
            f"There are {len(amplifier_losses)} amplifier losses for {len(labels)} examples."
        )
    bad = np.flatnonzero(~(np.isfinite(amplifier_losses) & (amplifier_losses >= 0)))
    if bad.size:
        raise ValueError(
            f"The amplifier's loss of example {bad[0]} is {amplifier_losses[bad[0]]};"
            " losses must be finite and not negative."
        )
    amplifier_maximum = class_maximum(amplifier_losses, labels, num_classes)

    def init_state() -> State:
        state = {"loss_memory": new_memory(len(labels))}
        if class_normalize:
            # In the state: as a constant it would add N numbers to the compiled training step.
            state["labels"] = jnp.asarray(labels)
        return state

    def loss(
        per_example_loss: jax.Array, method_state: State, batch: Batch
    ) -> tuple[jax.Array, State, dict[str, jax.Array]]:
        amplifier_loss = batch["amplifier_loss"]
        own_loss = jax.lax.stop_gradient(per_example_loss)
        if uses_memory:
            memory = update_memory(method_state["loss_memory"], batch["index"], own_loss, ema)
            method_state = {**method_state, "loss_memory": memory}
            own_loss = memory[batch["index"]]
        if class_normalize:
            own_loss = share_of_class_maximum(
                memory, method_state["labels"], batch["index"], num_classes
            )
            amplifier_loss /= jnp.asarray(amplifier_maximum)[batch["label"]] + EPSILON
        weight = relative_difficulty(amplifier_loss, own_loss)
        metrics = {"mean_weight": jnp.mean(weight)}
        if normalize_weights:
            weight /= jnp.mean(weight) + EPSILON
        return jnp.mean(weight * per_example_loss), method_state, metrics

    return Method(
        columns=("amplifier_loss",),
        sampling="uniform",
        init_state=init_state if uses_memory else no_state,
        loss=loss,
    )
