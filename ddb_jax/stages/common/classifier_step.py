"""The training step of a classifier under a debiasing method, with one network or with several."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from ddb_jax.data.preprocessing import augment, to_input
from ddb_jax.debias.contract import JointMethod, Method, NetworkSpec, mean_loss
from ddb_jax.debias.losses import accuracy, cross_entropy
from ddb_jax.stages.common.networks import KINDS
from ddb_jax.training import train_state
from ddb_jax.training.accumulation import join_parts, split_batch, sum_gradients
from ddb_jax.training.optimizer import make_optimizer, names, scale_learning_rates
from ddb_jax.training.train_state import TrainState

Batch = dict[str, jax.Array]
Step = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, dict[str, jax.Array]]]

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
) -> tuple[optax.GradientTransformation, Step]:
    """The optimiser of a classifier section and the training step that uses it, not yet jitted.

    The step is (state, batch, augment_key) -> (state, metrics); the random transforms of step i
    come from fold_in(augment_key, i). The key is an argument lest every seed be a program of its
    own, to be compiled anew.

    Args:
        settings: A classifier section of the config.
        models: The networks by name, {"main": ...} for a Method.
        image_size: Side of the images that the networks see.
        method: The debiasing method.
        per_example_loss: (logits [B, K], labels [B]) -> [B], for a Method that brings none.

    Raises:
        ValueError: `accumulate` is above 1, and the method computes its loss over a whole batch.
    """
    joint = isinstance(method, JointMethod)
    if joint and settings.accumulate > 1:
        raise ValueError("a JointMethod's loss is over the whole batch: accumulate must be 1.")
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

    def run_single(params: Any, batch_stats: Any, batch: Batch) -> tuple[jax.Array, ...]:
        weights = network_weights(params, batch_stats, method)
        (logits, _), batch_stats = apply(MAIN, weights, batch["x"])
        adjusted = method.adjust_logits(logits, batch) if method.adjust_logits else logits
        losses = (method.per_example_loss or per_example_loss)(adjusted, batch["label"])
        return losses, logits, batch_stats

    def single(params: Any, state: TrainState, batch: Batch, key: jax.Array) -> tuple[Any, ...]:
        del key
        losses, logits, batch_stats = run_single(params, state.batch_stats, batch)
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

    def whole(state: TrainState, batch: Batch, key: jax.Array) -> tuple[Any, ...]:
        """((loss, (batch_stats, method_state, metrics)), gradients) of a batch."""
        return jax.value_and_grad(networks, has_aux=True)(state.params, state, batch, key)

    def in_parts(state: TrainState, batch: Batch, key: jax.Array) -> tuple[Any, ...]:
        """The same in `accumulate` parts: the loss is a sum of the examples' losses, each weighed.

        A method may weigh an example by all losses of the batch. Those are computed first, part by
        part; the derivatives of the method's loss by them are the weights.
        """
        parts, size = split_batch(batch, settings.accumulate), len(batch["label"])

        def method_loss(losses: jax.Array) -> tuple[jax.Array, tuple[Any, ...]]:
            loss, method_state, metrics = method.loss(losses, state.method_state, batch)
            return loss, (method_state, metrics)

        if method.loss is mean_loss:
            weights = jnp.full((size,), 1 / size)
        else:
            losses = jax.lax.map(lambda p: run_single(state.params, state.batch_stats, p)[0], parts)
            weights, _ = jax.grad(method_loss, has_aux=True)(join_parts(losses))

        def gradients_of(batch_stats: Any, part: tuple[Batch, jax.Array]) -> tuple[Any, ...]:
            def loss_fn(params: Any) -> tuple[jax.Array, tuple[Any, ...]]:
                losses, logits, new_stats = run_single(params, batch_stats, part[0])
                return jnp.sum(part[1] * losses), (new_stats, losses, logits)

            gradients, (new_stats, *outputs) = jax.grad(loss_fn, has_aux=True)(state.params)
            return gradients, new_stats, outputs

        gradients, batch_stats, outputs = sum_gradients(
            gradients_of,
            state.params,
            state.batch_stats,
            (parts, split_batch(weights, settings.accumulate)),
        )
        losses, logits = join_parts(outputs)
        loss, (method_state, metrics) = method_loss(losses)
        metrics = {"train_accuracy": accuracy(logits, batch["label"]), **metrics}
        return (loss, (batch_stats, method_state, metrics)), gradients

    value_and_gradients = whole if settings.accumulate == 1 else in_parts

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

    def train_step(
        state: TrainState, batch: Batch, augment_key: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(augment_key, state.step)
        batch = {**batch, "x": view(key, batch["image"])}
        if joint and method.views == 2:
            batch["second_x"] = view(jax.random.fold_in(key, 1), batch["image"])
        (loss, (batch_stats, method_state, metrics)), gradients = value_and_gradients(
            state, batch, jax.random.fold_in(key, 2)
        )
        metrics = {"loss": loss, **metrics, "grad_norm": optax.tree.norm(gradients)}
        state = train_state.apply_gradients(
            state, gradients, optimizer, batch_stats=batch_stats, method_state=method_state
        )
        return state, metrics

    return optimizer, train_step
