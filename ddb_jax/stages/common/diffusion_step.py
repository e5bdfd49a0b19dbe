"""The training step of the class-conditional diffusion model."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from ddb_jax.data.preprocessing import augment, normalize
from ddb_jax.diffusion.gaussian import NoisedBatch, denoising_loss, noise_batch
from ddb_jax.stages.common.generator import build_noise_schedule, build_unet, init_unet_params
from ddb_jax.training import train_state
from ddb_jax.training.accumulation import split_batch, sum_gradients
from ddb_jax.training.optimizer import make_optimizer
from ddb_jax.training.train_state import TrainState

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
Step = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]


def first_state(
    config: ConfigDict,
    num_classes: int,
    image_shape: tuple[int, ...],
    optimizer: optax.GradientTransformation,
    key: jax.Array,
) -> TrainState:
    """The state of step 0, with fresh weights; traceable.

    Args:
        config: Its sections `unet` and `diffusion` are read.
        num_classes: Number of classes.
        image_shape: Shape of the training images.
        optimizer: As `make_train_step` gives it.
        key: Of the weights.
    """
    params = init_unet_params(build_unet(config, num_classes), key, image_shape)
    return state_of(config, optimizer, params)


def state_of(
    config: ConfigDict, optimizer: optax.GradientTransformation, params: Any
) -> TrainState:
    """The state of step 0 with the parameters given; traceable."""
    ema = config.diffusion.ema_decay > 0
    return train_state.create({"params": params}, optimizer, ema=ema)


def make_train_step(
    config: ConfigDict, num_classes: int
) -> tuple[optax.GradientTransformation, Step]:
    """The optimiser and the step of the config's `diffusion` section.

    The step is (state, batch, noise_key) -> (state, metrics), not yet jitted. Flips, timesteps,
    noise, dropped labels and dropout of step i come from fold_in(noise_key, i). The key is an
    argument, so that all seeds run one compiled program.

    Args:
        config: Its sections `unet` and `diffusion` are read.
        num_classes: Number of classes.
    """
    settings = config.diffusion
    unet, schedule = build_unet(config, num_classes), build_noise_schedule(config)
    optimizer = make_optimizer(settings)
    loss_settings = {
        "num_classes": num_classes,
        "prediction": settings.prediction,
        "label_dropout": settings.label_dropout,
        "label_dropout_unit": settings.label_dropout_unit,
        "min_snr_gamma": settings.min_snr_gamma,
    }

    def whole(params: Any, noised: NoisedBatch, dropout_key: jax.Array) -> tuple[Any, Metrics]:
        """Gradients and metrics of a batch that is computed at once."""

        def loss_fn(params: Any) -> tuple[jax.Array, Metrics]:
            return denoising_loss(
                lambda x, t, y: unet.apply(
                    {"params": params}, x, t, y, train=True, rngs={"dropout": dropout_key}
                ),
                noised,
            )

        (_, metrics), gradients = jax.value_and_grad(loss_fn, has_aux=True)(params)
        return gradients, metrics

    def in_parts(params: Any, noised: NoisedBatch, dropout_key: jax.Array) -> tuple[Any, Metrics]:
        """The same in `accumulate` parts; dropout is drawn for each."""
        count = settings.accumulate

        def one(carry: tuple[()], part: Any) -> tuple[Any, tuple[()], Metrics]:
            gradients, metrics = whole(params, *part)
            return gradients, carry, metrics

        parts = (split_batch(noised, count), jax.random.split(dropout_key, count))
        total, _, metrics = sum_gradients(one, params, (), parts)
        return jax.tree.map(lambda g: g / count, total), jax.tree.map(jnp.mean, metrics)

    gradients_of_batch = whole if settings.accumulate == 1 else in_parts

    def train_step(
        state: TrainState, batch: Batch, noise_key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        flip_key, loss_key, dropout_key = jax.random.split(
            jax.random.fold_in(noise_key, state.step), 3
        )
        images = augment(flip_key, batch["image"], max_shift=0, flip=settings.flip)
        x_start = normalize(images, settings.normalization)
        noised = noise_batch(schedule, loss_key, x_start, batch["label"], **loss_settings)
        gradients, metrics = gradients_of_batch(state.params, noised, dropout_key)
        metrics["grad_norm"] = optax.tree.norm(gradients)
        state = train_state.apply_gradients(
            state, gradients, optimizer, ema_decay=settings.ema_decay
        )
        return state, metrics

    return optimizer, train_step
