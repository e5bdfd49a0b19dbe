"""Stage: fine-tune the diffusion model with the pseudo-groups taking turns.

A batch then holds equally many flagged and other images of a class, and the network's samples of a
class show the bias less. Writes `checkpoints/`, `weights/`,
`metrics.jsonl`, `tensorboard/` and `samples.png`.
"""

import functools
from typing import Any

from ml_collections import ConfigDict

from ddb_jax.data.input_pipeline import train_batches
from ddb_jax.debias.requirements import PSEUDO_GROUPS
from ddb_jax.runtime.errors import UserError
from ddb_jax.runtime.processes import this_process
from ddb_jax.stages.common.diffusion_step import make_train_step, state_of
from ddb_jax.stages.common.generator import load_unet_params, save_samples
from ddb_jax.stages.common.training_set import groups_for
from ddb_jax.stages.context import Context
from ddb_jax.training.checkpoint import save_weights
from ddb_jax.training.fit import Schedule, fit
from ddb_jax.training.rng import data_seed, stream


def run(context: Context) -> dict[str, Any]:
    """Train on from the (averaged) weights of train_diffusion; write the new ones."""
    source = context.dataset.train
    groups = groups_for(context, PSEUDO_GROUPS, source, "train")
    if not any(name.endswith("/conflicting") for name in groups.names):
        raise UserError(
            f"{context.name}: no training image is flagged as bias-conflicting, so there is"
            " nothing to balance: loosen config.pseudo_groups, or leave out the methods on"
            " rebalanced images."
        )
    config = _fine_tuning(context.config)
    settings = config.diffusion
    optimizer, train_step = make_train_step(config, context.num_classes)
    state = fit(
        functools.partial(state_of, config, optimizer),
        train_step,
        lambda start: train_batches(
            source,
            batch_size=settings.batch_size,
            seed=data_seed(context.seed, "train_balanced_diffusion"),
            start_step=start,
            num_steps=settings.num_steps,
            **this_process(),
            groups=groups.ids,
        ),
        Schedule(settings.num_steps, settings.log_every, settings.checkpoint_every),
        title=context.name,
        folder=context.folder,
        mesh=context.mesh,
        stop=context.stop,
        init_arguments=(load_unet_params(context, context.inputs["train_diffusion"]),),
        step_arguments=(stream(context.seed, "train_balanced_diffusion/noise"),),
    )
    params = state.ema_params or state.params
    save_weights(context.folder / "weights", {"params": params})
    save_samples(context, params, stream(context.seed, "train_balanced_diffusion/samples"))
    return {"groups": len(groups.names)}


def _fine_tuning(config: ConfigDict) -> ConfigDict:
    """The config whose `diffusion` section is that of the fine-tuning.

    It is a shorter copy of the training: the warm-up keeps its share of the steps.
    """
    config = config.copy_and_resolve_references()
    steps, whole = config.steering.fine_tune_steps, config.diffusion.num_steps
    config.diffusion.warmup_steps = config.diffusion.warmup_steps * steps // whole
    config.diffusion.num_steps = steps
    return config
