"""Stage: train the class-conditional diffusion model on the whole biased training set.

Writes `checkpoints/`, `weights/`, `metrics.jsonl`, `tensorboard/` and `samples.png`.
"""

import functools
from typing import Any

import jax

from ddb_jax.data.input_pipeline import train_batches
from ddb_jax.runtime.processes import this_process
from ddb_jax.stages.common.diffusion_step import first_state, make_train_step
from ddb_jax.stages.common.generator import save_samples
from ddb_jax.stages.context import Context
from ddb_jax.training.checkpoint import save_weights
from ddb_jax.training.fit import Schedule, fit
from ddb_jax.training.rng import data_seed, stream


def run(context: Context) -> dict[str, Any]:
    """Train, then write the (averaged) weights and a grid of samples."""
    config, settings = context.config, context.config.diffusion
    source = context.dataset.train
    optimizer, train_step = make_train_step(config, context.num_classes)
    state = fit(
        functools.partial(first_state, config, context.num_classes, source.image_shape, optimizer),
        train_step,
        lambda start: train_batches(
            source,
            batch_size=settings.batch_size,
            seed=data_seed(context.seed, "train_diffusion"),
            start_step=start,
            num_steps=settings.num_steps,
            **this_process(),
        ),
        Schedule(settings.num_steps, settings.log_every, settings.checkpoint_every),
        title=context.name,
        folder=context.folder,
        mesh=context.mesh,
        stop=context.stop,
        init_arguments=(stream(context.seed, "train_diffusion/init"),),
        step_arguments=(stream(context.seed, "train_diffusion/noise"),),
    )
    params = state.ema_params or state.params
    save_weights(context.folder / "weights", {"params": params})
    save_samples(context, params, stream(context.seed, "train_diffusion/samples"))
    return {"parameters": sum(x.size for x in jax.tree.leaves(params))}
