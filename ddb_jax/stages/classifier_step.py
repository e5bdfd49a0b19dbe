"""The training step of a classifier under a debiasing method, with one network or with two."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from ddb_jax.data.preprocessing import augment, to_input
from ddb_jax.debias.losses import cross_entropy
from ddb_jax.debias.method import Method, PairedMethod
from ddb_jax.training import train_state
from ddb_jax.training.optimizer import make_optimizer, scale_learning_rates
from ddb_jax.training.train_state import TrainState

Batch = dict[str, jax.Array]
Step = Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]

# Names of the two networks of a PairedMethod at the top of params and batch_stats.
MAIN, BIASED = "main", "biased"


def main_weights(params: Any, batch_stats: Any, method: Method | PairedMethod) -> dict[str, Any]:
    """{"params", "batch_stats"} of the network that is evaluated and kept."""
    if isinstance(method, PairedMethod):
        params, batch_stats = params[MAIN], batch_stats.get(MAIN, {})
    return {"params": params, "batch_stats": batch_stats}


def make_train_step(
    settings: ConfigDict,
    model: Any,
    image_size: int,
    *,
    method: Method | PairedMethod,
    per_example_loss: Callable[[jax.Array, jax.Array], jax.Array] = cross_entropy,
    augment_key: jax.Array,
) -> tuple[optax.GradientTransformation, Step]:
    """The optimiser of a classifier section and the training step that uses it, not yet jitted.

    Args:
        settings: A classifier section of the config.
        model: From `build_classifier`.
        image_size: Side of the images that the network sees.
        method: The debiasing method.
        per_example_loss: (logits [B, K], labels [B]) -> [B], for a method that brings none; not
            read by a PairedMethod.
        augment_key: Key of the random transforms; a step folds its number into it.
    """
    optimizer, backbone_lr_scale = make_optimizer(settings), settings.backbone_lr_scale
    if settings.trainable != "all":
        backbone_lr_scale = 0.0
    if backbone_lr_scale != 1.0:
        scales = scale_learning_rates(lambda path: 1.0 if "head" in path else backbone_lr_scale)
        optimizer = optax.chain(optimizer, scales)

    def forward(params: Any, batch_stats: Any, x: jax.Array) -> tuple[jax.Array, Any]:
        """Logits in training, and the new batch statistics."""
        if not backbone_lr_scale:  # no gradient is computed for what does not move
            params = {**jax.lax.stop_gradient(params), "head": params["head"]}
        variables = {"params": params}
        if batch_stats:
            variables["batch_stats"] = batch_stats
        (logits, _), updates = model.apply(
            variables, x, train=settings.trainable != "head", mutable=["batch_stats"]
        )
        return logits, updates.get("batch_stats", {})

    def one(params: Any, state: TrainState, x: jax.Array, batch: Batch) -> tuple[Any, ...]:
        logits, batch_stats = forward(params, state.batch_stats, x)
        adjusted = method.adjust_logits(logits, batch) if method.adjust_logits else logits
        losses = (method.per_example_loss or per_example_loss)(adjusted, batch["label"])
        return logits, batch_stats, *method.loss(losses, state.method_state, batch)

    def pair(params: Any, state: TrainState, x: jax.Array, batch: Batch) -> tuple[Any, ...]:
        logits, batch_stats = {}, {}
        for name in (MAIN, BIASED):
            logits[name], stats = forward(params[name], state.batch_stats.get(name, {}), x)
            if stats:
                batch_stats[name] = stats
        result = method.loss(logits[MAIN], logits[BIASED], state.method_state, batch)
        return logits[MAIN], batch_stats, *result

    networks = pair if isinstance(method, PairedMethod) else one

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        images = augment(
            jax.random.fold_in(augment_key, state.step),
            batch["image"],
            max_shift=settings.max_shift,
            flip=settings.flip,
            crop_size=image_size,
            min_area=settings.random_resized_crop,
        )
        x = to_input(images, image_size, settings.normalization)

        def loss_fn(params: Any) -> tuple[jax.Array, Any]:
            logits, batch_stats, loss, method_state, metrics = networks(params, state, x, batch)
            right = jnp.mean(jnp.argmax(logits, axis=1) == batch["label"])
            metrics = {"loss": loss, "train_accuracy": right, **metrics}
            return loss, (batch_stats, method_state, metrics)

        (_, (batch_stats, method_state, metrics)), gradients = jax.value_and_grad(
            loss_fn, has_aux=True
        )(state.params)
        metrics["grad_norm"] = optax.tree.norm(gradients)
        state = train_state.apply_gradients(
            state, gradients, optimizer, batch_stats=batch_stats, method_state=method_state
        )
        return state, metrics

    return optimizer, train_step
