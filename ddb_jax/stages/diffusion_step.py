"""The training step of the class-conditional diffusion model."""

from collections.abc import Callable
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from ddb_jax.data.preprocessing import augment, normalize
from ddb_jax.diffusion.gaussian import diffusion_loss
from ddb_jax.stages.generator import build_noise_schedule, build_unet
from ddb_jax.training import train_state
from ddb_jax.training.optimizer import make_optimizer
from ddb_jax.training.train_state import TrainState

Batch = dict[str, jax.Array]
Step = Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]


def make_train_step(
    config: ConfigDict, num_classes: int, noise_key: jax.Array
) -> tuple[optax.GradientTransformation, Step]:
    """The optimiser and the step of the config's `diffusion` section.

    Args:
        config: Its sections `unet` and `diffusion` are read.
        num_classes: Number of classes.
        noise_key: Flips, timesteps, noise, dropped labels and dropout of step i come from
            fold_in(noise_key, i).
    """
    settings = config.diffusion
    unet, schedule = build_unet(config, num_classes), build_noise_schedule(config)
    optimizer = make_optimizer(settings)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        flip_key, loss_key, dropout_key = jax.random.split(
            jax.random.fold_in(noise_key, state.step), 3
        )
        images = augment(flip_key, batch["image"], max_shift=0, flip=settings.flip)
        x_start = normalize(images, settings.normalization)

        def loss_fn(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
            return diffusion_loss(
                lambda x, t, y: unet.apply(
                    {"params": params}, x, t, y, train=True, rngs={"dropout": dropout_key}
                ),
                schedule,
                loss_key,
                x_start,
                batch["label"],
                num_classes=num_classes,
                prediction=settings.prediction,
                label_dropout=settings.label_dropout,
                label_dropout_unit=settings.label_dropout_unit,
                min_snr_gamma=settings.min_snr_gamma,
            )

        (_, metrics), gradients = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        metrics["grad_norm"] = optax.tree.norm(gradients)
        state = train_state.apply_gradients(
            state, gradients, optimizer, ema_decay=settings.ema_decay
        )
        return state, metrics

    return optimizer, train_step
