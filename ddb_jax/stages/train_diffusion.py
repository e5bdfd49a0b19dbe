"""Stage: train the class-conditional diffusion model on the whole biased training set.

Writes `checkpoints/`, `weights/`, `metrics.jsonl`, `tensorboard/` and `samples.png`.
"""

from typing import Any

import jax
import numpy as np
import optax

from ddb_jax.data.input_pipeline import train_batches
from ddb_jax.data.preprocessing import augment, normalize
from ddb_jax.diffusion.gaussian import diffusion_loss
from ddb_jax.stages.contact_sheet import save_grid
from ddb_jax.stages.context import Context
from ddb_jax.stages.generator import build_noise_schedule, build_unet, init_params, make_sample
from ddb_jax.training import train_state
from ddb_jax.training.checkpoint import save_weights
from ddb_jax.training.compilation import jit
from ddb_jax.training.fit import Schedule, fit
from ddb_jax.training.optimizer import make_optimizer
from ddb_jax.training.rng import data_seed, stream
from ddb_jax.training.train_state import TrainState


def run(context: Context) -> dict[str, Any]:
    """Train, then write the (averaged) weights and a grid of samples."""
    config, settings = context.config, context.config.diffusion
    source = context.generator_dataset.train
    unet, schedule = build_unet(config, context.num_classes), build_noise_schedule(config)
    optimizer = make_optimizer(settings)
    noise_key = stream(context.seed, "train_diffusion/noise")

    def init() -> TrainState:
        key = stream(context.seed, "train_diffusion/init")
        params = init_params(unet, key, source.image_shape)
        return train_state.create({"params": params}, optimizer, ema=settings.ema_decay > 0)

    def train_step(
        state: TrainState, batch: dict[str, jax.Array]
    ) -> tuple[TrainState, dict[str, jax.Array]]:
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
                num_classes=context.num_classes,
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

    state = fit(
        init,
        jit(train_step, donate_argnums=0),
        lambda start: train_batches(
            source,
            batch_size=settings.batch_size,
            seed=data_seed(context.seed, "train_diffusion"),
            start_step=start,
            num_steps=settings.num_steps,
        ),
        Schedule(settings.num_steps, settings.log_every, settings.checkpoint_every),
        title=context.name,
        folder=context.folder,
        mesh=context.mesh,
        stop=context.stop,
    )
    params = state.ema_params or state.params
    save_weights(context.folder / "weights", {"params": params})
    _sample_grid(context, params)
    return {"parameters": sum(x.size for x in jax.tree.leaves(params))}


def _sample_grid(context: Context, params: Any, per_class: int = 8) -> None:
    """Eight samples a class, the first images that the synthesis stage will draw."""
    sample = make_sample(
        context.config,
        context.num_classes,
        context.generator_dataset.train.image_shape,
        context.mesh,
    )
    labels = np.repeat(np.arange(context.num_classes, dtype=np.int32), per_class)
    padding = -len(labels) % context.mesh.size
    numbers = np.arange(len(labels) + padding, dtype=np.int32)
    images, _ = sample(
        params,
        stream(context.seed, "train_diffusion/samples"),
        numbers,
        np.pad(labels, (0, padding)),
    )
    rows = images[: len(labels)].reshape(context.num_classes, per_class, *images.shape[1:])
    save_grid(context.folder / "samples.png", rows, context.generator_dataset.class_names)
