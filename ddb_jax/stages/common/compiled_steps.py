"""Compiled training steps, from shapes alone: no weights are made and no image is read."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ddb_jax.debias.contract import JointMethod, Method
from ddb_jax.stages.common.classifier_build import build_training
from ddb_jax.stages.common.diffusion_step import first_state, make_train_step
from ddb_jax.stages.common.networks import map_shape
from ddb_jax.training.checkpoint import abstract_like
from ddb_jax.training.mesh import batch_sharding, replicated, state_shardings
from ddb_jax.training.step_memory import jit_step
from ddb_jax.training.train_state import TrainState

# Columns that a method may ask for, except "bias_features", whose width is the network's.
COLUMNS = {
    "group": jnp.int32,
    "amplifier_loss": jnp.float32,
    "given_bias": jnp.int32,
    "flagged": jnp.bool_,
}


def compile_diffusion_step(
    config: ConfigDict, num_classes: int, image_shape: tuple[int, ...], mesh: Mesh
) -> jax.stages.Compiled:
    """The step of `train_diffusion`.

    Args:
        config: Its sections `unet` and `diffusion` are read.
        num_classes: Number of classes.
        image_shape: Shape of the training images.
        mesh: The devices.
    """
    optimizer, train_step = make_train_step(config, num_classes)
    init = functools.partial(first_state, config, num_classes, image_shape, optimizer)
    image = (jnp.uint8, image_shape)
    return _compile(init, train_step, config.diffusion.batch_size, image, {}, mesh)


def compile_classifier_step(
    settings: ConfigDict,
    num_outputs: int,
    image_shape: tuple[int, ...],
    mesh: Mesh,
    method: Method | JointMethod,
    *,
    num_scores: int = 0,
) -> jax.stages.Compiled:
    """The step of a training of classifiers.

    Args:
        settings: A classifier section of the config.
        num_outputs: Number of classes.
        image_shape: Shape of the training images, before they are cropped or enlarged.
        mesh: The devices.
        method: The debiasing method.
        num_scores: As in `build_training`; above 0 where validation chooses weights.
    """
    size = settings.image_size or image_shape[0]
    training = build_training(settings, num_outputs, size, method, num_scores=num_scores)
    columns = {name: (COLUMNS[name], ()) for name in method.columns if name in COLUMNS}
    if "bias_features" in method.columns:
        columns["bias_features"] = (jnp.float32, (settings.width,))
    image = (jnp.uint8, image_shape)
    if settings.trainable == "last_block":  # one view: the others are not computed with
        image = (jnp.float16, (1, *map_shape(settings, num_outputs, size)))
    return _compile(training.init, training.train_step, settings.batch_size, image, columns, mesh)


def _compile(
    init: Callable[[jax.Array], TrainState],
    train_step: Callable[..., Any],
    batch_size: int,
    image: tuple[Any, tuple[int, ...]],
    columns: Mapping[str, tuple[Any, tuple[int, ...]]],
    mesh: Mesh,
) -> jax.stages.Compiled:
    """The step as `fit` compiles it, from a state as `init` makes it and batches as it is fed."""
    fields = {
        "image": image,
        **dict.fromkeys(("label", "bias", "index"), (jnp.int32, ())),
        **columns,
    }
    batch = {
        name: jax.ShapeDtypeStruct((batch_size, *shape), dtype)
        for name, (dtype, shape) in fields.items()
    }
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(init, key)
    abstract = (
        abstract_like(state, state_shardings(mesh, state)),
        abstract_like(batch, batch_sharding(mesh)),
        abstract_like(key, replicated(mesh)),
    )
    return jit_step(train_step, mesh, state).lower(*abstract).compile()
