"""The training step of a classifier under a debiasing method, with one network or with several."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from ddb_jax.data.preprocessing import augment, to_input
from ddb_jax.debias.contract import MAIN, JointMethod, Method, mean_loss
from ddb_jax.debias.losses import accuracy
from ddb_jax.models.classifiers import LAST_BLOCK
from ddb_jax.stages.common.networks import KINDS
from ddb_jax.training import train_state
from ddb_jax.training.accumulation import join_parts, split_batch, sum_gradients
from ddb_jax.training.optimizer import make_optimizer, names, scale_learning_rates
from ddb_jax.training.train_state import TrainState

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
Step = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]
# The loss and what comes with it: batch statistics, method state and metrics.
LossAndRest = tuple[jax.Array, tuple[Any, Any, Metrics]]


class TrainedNetwork(NamedTuple):
    """A network in training.

    Attributes:
        model: The module.
        lr_scale: Factor of the learning rate.
        backbone_lr_scale: Factor beside it for the layers below the head; 0 leaves them alone.
        train: Whether the layers run as in training: BatchNorm reads the batch's own statistics.
        block: What the names of the trained modules below the head begin with, if only the last
            block is trained, on what lies below it; () for all.
    """

    model: Any
    lr_scale: float
    backbone_lr_scale: float
    train: bool
    block: tuple[str, ...] = ()


def make_train_step(
    settings: ConfigDict,
    models: Mapping[str, Any],
    image_size: int,
    *,
    method: Method | JointMethod,
) -> tuple[optax.GradientTransformation, Step]:
    """The optimiser of a classifier section and the training step that uses it, not yet jitted.

    The step is (state, batch, augment_key) -> (state, metrics); the random transforms of step i
    come from fold_in(augment_key, i). The key is an argument, so that all seeds run one compiled
    program.

    Args:
        settings: A classifier section of the config.
        models: The networks of the method, by name.
        image_size: Side of the images that the networks see.
        method: The debiasing method.

    Raises:
        ValueError: `accumulate` is above 1, and the method computes its loss over a whole batch.
    """
    if method.needs_whole_batch and settings.accumulate > 1:
        raise ValueError("the method's loss is over the whole batch: accumulate must be 1.")
    networks = _trained_networks(settings, models, method)
    optimizer = _make_optimizer(settings, networks, method)
    if settings.accumulate > 1:
        gradients_of = functools.partial(
            gradients_in_parts, settings.accumulate, networks[MAIN], method
        )
    else:
        gradients_of = functools.partial(gradients_of_batch, networks, method)

    def train_step(
        state: TrainState, batch: Batch, augment_key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(augment_key, state.step)
        batch = {**batch, "x": view(settings, image_size, key, batch["image"])}
        if method.views == 2:
            second_key = jax.random.fold_in(key, 1)
            batch["second_x"] = view(settings, image_size, second_key, batch["image"])
        (loss, (batch_stats, method_state, metrics)), gradients = gradients_of(
            state, batch, jax.random.fold_in(key, 2)
        )
        metrics = {"loss": loss, **metrics, "grad_norm": optax.tree.norm(gradients)}
        state = train_state.apply_gradients(
            state, gradients, optimizer, batch_stats=batch_stats, method_state=method_state
        )
        return state, metrics

    return optimizer, train_step


def _trained_networks(
    settings: ConfigDict, models: Mapping[str, Any], method: Method | JointMethod
) -> dict[str, TrainedNetwork]:
    """The networks of a method by name, with what of each is trained."""
    networks = {}
    for name, spec in method.networks.items():
        whole = settings.trainable in ("all", "last_block")
        backbone = settings.backbone_lr_scale if whole else 0.0
        # Where no classifier's weights fit, all of a network is trained from scratch.
        backbone = backbone if KINDS[spec.kind].classifiers else 1.0
        train = settings.trainable != "head" or backbone > 0
        block = LAST_BLOCK[settings.network] if settings.trainable == "last_block" else ()
        networks[name] = TrainedNetwork(models[name], spec.lr_scale, backbone, train, block)
    return networks


def _make_optimizer(
    settings: ConfigDict, networks: Mapping[str, TrainedNetwork], method: Method | JointMethod
) -> optax.GradientTransformation:
    """The optimiser of the section, with a learning rate of its own for each network and head."""
    optimizer = make_optimizer(settings)
    if all(n[1:3] == (1.0, 1.0) and not n.block for n in networks.values()):
        return optimizer

    def lr_scale(path: tuple[str, ...]) -> float:
        network = networks[path[0] if method.by_network else MAIN]
        if in_head(path):
            return network.lr_scale
        below = network.block and not any(name.startswith(network.block) for name in path)
        return 0.0 if below else network.lr_scale * network.backbone_lr_scale

    return optax.chain(optimizer, scale_learning_rates(lr_scale))


def view(settings: ConfigDict, image_size: int, key: jax.Array, images: jax.Array) -> jax.Array:
    """Images uint8 [B, H, W, 3], augmented and normalised: float32 [B, S, S, 3] of that size S.

    Where only the last block is trained, a random one of the views of `frozen_maps` instead:
    float16 [B, V, h, w, C] -> float32 [B, h, w, C].
    """
    if settings.trainable == "last_block":
        chosen = jax.random.randint(key, (len(images),), 0, images.shape[1])
        return images[jnp.arange(len(images)), chosen].astype(jnp.float32)
    images = augment(
        key,
        images,
        max_shift=settings.max_shift,
        flip=settings.flip,
        crop_size=image_size,
        min_area=settings.random_resized_crop,
    )
    return to_input(images, image_size, settings.normalization)


def in_head(path: tuple[str, ...]) -> bool:
    """Whether a parameter of that path belongs to a last layer, or to a projection beside it."""
    return any(name.endswith("head") or name == "projection" for name in path)


def network_weights(
    params: Any, batch_stats: Any, method: Method | JointMethod, name: str = MAIN
) -> dict[str, Any]:
    """{"params", "batch_stats"} of one network of a method."""
    if method.by_network:
        params, batch_stats = params[name], batch_stats.get(name, {})
    return {"params": params, "batch_stats": batch_stats}


def apply(
    network: TrainedNetwork, weights: Mapping[str, Any], *inputs: Any, method: str | None = None
) -> tuple[Any, Any]:
    """Output of a network in training, and its new batch statistics, {} without BatchNorm."""
    params, batch_stats = weights["params"], weights["batch_stats"]
    if not network.backbone_lr_scale:  # no gradient is computed for frozen parameters
        params = jax.tree.map_with_path(
            lambda path, p: p if in_head(names(path)) else jax.lax.stop_gradient(p), params
        )
    variables = {"params": params}
    if batch_stats:
        variables["batch_stats"] = batch_stats
    part = {"part": "above"} if network.block else {}
    output, updates = network.model.apply(
        variables, *inputs, train=network.train, method=method, mutable=["batch_stats"], **part
    )
    return output, updates.get("batch_stats", {})


def loss_of_batch(
    networks: Mapping[str, TrainedNetwork],
    method: Method | JointMethod,
    params: Any,
    state: TrainState,
    batch: Batch,
    key: jax.Array,
) -> LossAndRest:
    """The method's loss of a whole batch, by the parameters given in the place of the state's."""
    params = params if method.by_network else {MAIN: params}
    stats = dict(state.batch_stats) if method.by_network else {MAIN: state.batch_stats}

    def network(name: str, *inputs: Any, method: str | None = None) -> Any:
        weights = {"params": params[name], "batch_stats": stats.get(name, {})}
        output, new_stats = apply(networks[name], weights, *inputs, method=method)
        if new_stats:
            stats[name] = new_stats
        return output

    loss, method_state, metrics = method.loss_of_networks(network, state.method_state, batch, key)
    return loss, (stats if method.by_network else stats[MAIN], method_state, metrics)


def gradients_of_batch(
    networks: Mapping[str, TrainedNetwork],
    method: Method | JointMethod,
    state: TrainState,
    batch: Batch,
    key: jax.Array,
) -> tuple[LossAndRest, Any]:
    """The loss of a batch that is computed at once, and its gradients in `state.params`."""
    loss = functools.partial(loss_of_batch, networks, method)
    return jax.value_and_grad(loss, has_aux=True)(state.params, state, batch, key)


def gradients_in_parts(
    count: int,
    network: TrainedNetwork,
    method: Method,
    state: TrainState,
    batch: Batch,
    key: jax.Array,
) -> tuple[LossAndRest, Any]:
    """The same of a batch that is computed in `count` parts, one after the other.

    The loss is a sum of the examples' losses, each weighed.
    """
    del key
    parts = split_batch(batch, count)
    weights = example_weights(network, method, state, batch, parts)

    def weighted_loss(params: Any, batch_stats: Any, part: Batch, weights: jax.Array) -> Any:
        losses, logits, new_stats = example_losses(network, method, params, batch_stats, part)
        return jnp.sum(weights * losses), (new_stats, losses, logits)

    def gradients_of(batch_stats: Any, part: tuple[Batch, jax.Array]) -> tuple[Any, ...]:
        gradients, (new_stats, *outputs) = jax.grad(weighted_loss, has_aux=True)(
            state.params, batch_stats, *part
        )
        return gradients, new_stats, outputs

    gradients, batch_stats, outputs = sum_gradients(
        gradients_of, state.params, state.batch_stats, (parts, split_batch(weights, count))
    )
    losses, logits = join_parts(outputs)
    loss, method_state, metrics = method.loss(losses, state.method_state, batch)
    metrics = {"train_accuracy": accuracy(logits, batch["label"]), **metrics}
    return (loss, (batch_stats, method_state, metrics)), gradients


def example_weights(
    network: TrainedNetwork, method: Method, state: TrainState, batch: Batch, parts: Batch
) -> jax.Array:
    """The derivatives float32 [B] of the method's loss by the examples' losses.

    A method may weigh an example by all losses of the batch, so those are computed first, part by
    part.
    """
    if method.loss is mean_loss:
        size = len(batch["label"])
        return jnp.full((size,), 1 / size)

    def losses_of(part: Batch) -> jax.Array:
        return example_losses(network, method, state.params, state.batch_stats, part)[0]

    def loss_of(losses: jax.Array) -> tuple[jax.Array, Any]:
        loss, *rest = method.loss(losses, state.method_state, batch)
        return loss, rest

    weights, _ = jax.grad(loss_of, has_aux=True)(join_parts(jax.lax.map(losses_of, parts)))
    return weights


def example_losses(
    network: TrainedNetwork, method: Method, params: Any, batch_stats: Any, batch: Batch
) -> tuple[jax.Array, jax.Array, Any]:
    """Losses float32 [B], logits float32 [B, K] and new batch statistics of a network by itself."""
    weights = {"params": params, "batch_stats": batch_stats}
    (logits, _), batch_stats = apply(network, weights, batch["x"])
    return method.example_losses(logits, batch), logits, batch_stats
