"""The training step of a classifier under a debiasing method, with one network or with several."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from ddb_jax.data.preprocessing import augment, to_input
from ddb_jax.debias.losses import accuracy, cross_entropy
from ddb_jax.debias.method import JointMethod, Method, NetworkSpec
from ddb_jax.stages.networks import KINDS
from ddb_jax.training import train_state
from ddb_jax.training.optimizer import make_optimizer, names, scale_learning_rates
from ddb_jax.training.train_state import TrainState

Batch = dict[str, jax.Array]
Step = Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]

# The network of a JointMethod that is evaluated and kept.
MAIN = "main"


def network_weights(
    params: Any, batch_stats: Any, method: Method | JointMethod, name: str = MAIN
) -> dict[str, Any]:
    """{"params", "batch_stats"} of one network of a method."""
    if isinstance(method, JointMethod):
        params, batch_stats = params[name], batch_stats.get(name, {})
    return {"params": params, "batch_stats": batch_stats}


def in_head(path: tuple[str, ...]) -> bool:
    """Whether a parameter of that path belongs to a last layer, or to a projection beside it."""
    return any(name.endswith("head") or name == "projection" for name in path)


def make_train_step(
    settings: ConfigDict,
    models: Mapping[str, Any],
    image_size: int,
    *,
    method: Method | JointMethod,
    per_example_loss: Callable[[jax.Array, jax.Array], jax.Array] = cross_entropy,
    augment_key: jax.Array,
) -> tuple[optax.GradientTransformation, Step]:
    """The optimiser of a classifier section and the training step that uses it, not yet jitted.

    Args:
        settings: A classifier section of the config.
        models: The networks by name, {"main": ...} for a Method.
        image_size: Side of the images that the networks see.
        method: The debiasing method.
        per_example_loss: (logits [B, K], labels [B]) -> [B], for a Method that brings none.
        augment_key: Key of the random transforms; a step folds its number into it.
    """
    joint = isinstance(method, JointMethod)
    optimizer = make_optimizer(settings)
    backbone = settings.backbone_lr_scale if settings.trainable == "all" else 0.0
    specs = method.networks if joint else {MAIN: NetworkSpec()}
    # Where no classifier's weights fit, a network starts from scratch, and all of it is trained.
    backbones = {n: backbone if KINDS[spec.kind].classifiers else 1.0 for n, spec in specs.items()}
    if backbone != 1.0 or any(spec.lr_scale != 1.0 for spec in specs.values()):

        def lr_scale(path: tuple[str, ...]) -> float:
            name = path[0] if joint else MAIN
            return specs[name].lr_scale * (1.0 if in_head(path) else backbones[name])

        optimizer = optax.chain(optimizer, scale_learning_rates(lr_scale))

    def apply(
        name: str, weights: Any, *inputs: Any, method: str | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Output of a network in training, and its new batch statistics."""
        params, batch_stats = weights["params"], weights["batch_stats"]
        if not backbones[name]:  # no gradient is computed for what does not move
            params = jax.tree.map_with_path(
                lambda path, p: p if in_head(names(path)) else jax.lax.stop_gradient(p), params
            )
        variables = {"params": params}
        if batch_stats:
            variables["batch_stats"] = batch_stats
        train = settings.trainable != "head" or backbones[name] > 0
        output, updates = models[name].apply(
            variables, *inputs, train=train, method=method, mutable=["batch_stats"]
        )
        return output, updates.get("batch_stats", {})

    def single(params: Any, state: TrainState, batch: Batch, key: jax.Array) -> tuple[Any, ...]:
        del key
        weights = network_weights(params, state.batch_stats, method)
        (logits, _), batch_stats = apply(MAIN, weights, batch["x"])
        adjusted = method.adjust_logits(logits, batch) if method.adjust_logits else logits
        losses = (method.per_example_loss or per_example_loss)(adjusted, batch["label"])
        loss, method_state, metrics = method.loss(losses, state.method_state, batch)
        metrics = {"train_accuracy": accuracy(logits, batch["label"]), **metrics}
        return loss, (batch_stats, method_state, metrics)

    def several(params: Any, state: TrainState, batch: Batch, key: jax.Array) -> tuple[Any, ...]:
        batch_stats = dict(state.batch_stats)

        def network(name: str, *inputs: Any, method: str | None = None) -> Any:
            weights = {"params": params[name], "batch_stats": batch_stats.get(name, {})}
            output, stats = apply(name, weights, *inputs, method=method)
            if stats:
                batch_stats[name] = stats
            return output

        loss, method_state, metrics = method.loss(network, state.method_state, batch, key)
        return loss, (batch_stats, method_state, metrics)

    networks = several if joint else single

    def view(key: jax.Array, images: jax.Array) -> jax.Array:
        images = augment(
            key,
            images,
            max_shift=settings.max_shift,
            flip=settings.flip,
            crop_size=image_size,
            min_area=settings.random_resized_crop,
        )
        return to_input(images, image_size, settings.normalization)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(augment_key, state.step)
        batch = {**batch, "x": view(key, batch["image"])}
        if joint and method.views == 2:
            batch["second_x"] = view(jax.random.fold_in(key, 1), batch["image"])
        (loss, (batch_stats, method_state, metrics)), gradients = jax.value_and_grad(
            networks, has_aux=True
        )(state.params, state, batch, jax.random.fold_in(key, 2))
        metrics = {"loss": loss, **metrics, "grad_norm": optax.tree.norm(gradients)}
        state = train_state.apply_gradients(
            state, gradients, optimizer, batch_stats=batch_stats, method_state=method_state
        )
        return state, metrics

    return optimizer, train_step
