"""The class-conditional diffusion model as the stages use it: network, process, sampling."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ddb_jax.data.preprocessing import denormalize
from ddb_jax.diffusion.guidance import ApplyFn, guided
from ddb_jax.diffusion.noise_schedule import NoiseSchedule, make_schedule
from ddb_jax.diffusion.samplers import SamplerTable, make_table, sample
from ddb_jax.models.unet import UNet
from ddb_jax.stages.common.contact_sheet import save_grid
from ddb_jax.stages.common.picture_names import picture_names
from ddb_jax.stages.context import Context
from ddb_jax.training.checkpoint import abstract_like, load_weights
from ddb_jax.training.mesh import jit_over, replicated

# From weights, traced by jit, to a network: (x_t, t int32 [B], labels int32 [B]) -> output.
MakeModel = Callable[[Any], ApplyFn]


def build_unet(config: ConfigDict, num_classes: int) -> UNet:
    """The network of the config's `unet` section."""
    return UNet(
        num_classes=num_classes,
        num_timesteps=config.diffusion.num_timesteps,
        **config.unet.to_dict(),
    )


def build_noise_schedule(config: ConfigDict) -> NoiseSchedule:
    """The forward process of the config's `diffusion` section."""
    d = config.diffusion
    return make_schedule(d.noise_schedule, d.num_timesteps, d.beta_start, d.beta_end)


def build_sampler_table(config: ConfigDict) -> SamplerTable:
    """The sampler of the config's `synthesis` section; raises ValueError for bad settings."""
    s = config.synthesis
    return make_table(
        s.sampler,
        build_noise_schedule(config),
        0 if s.sampler == "ddpm" else s.num_steps,
        eta=s.eta,
        spacing=s.spacing or None,
        variance=s.ddpm_variance,
    )


def init_unet_params(unet: UNet, key: jax.Array, image_shape: tuple[int, ...]) -> Any:
    """Fresh parameters; traceable."""
    images = jnp.zeros((1, *image_shape), jnp.float32)
    zeros = jnp.zeros((1,), jnp.int32)
    return unet.init(key, images, zeros, zeros, train=False)["params"]


def load_unet_params(context: Context, folder: Path) -> Any:
    """The parameters that a training stage wrote to `folder`."""
    unet = build_unet(context.config, context.num_classes)
    image_shape = context.dataset.train.image_shape
    fresh = {
        "params": jax.eval_shape(lambda: init_unet_params(unet, jax.random.key(0), image_shape))
    }
    abstract = abstract_like(fresh, replicated(context.mesh))
    return load_weights(folder / "weights", abstract)["params"]


def guided_unet(config: ConfigDict, num_classes: int, guidance_scale: float) -> MakeModel:
    """From the network's parameters to the network under classifier-free guidance."""
    unet = build_unet(config, num_classes)
    return lambda params: guided(
        lambda x, t, y: unet.apply({"params": params}, x, t, y, train=False),
        guidance_scale,
        num_classes,
    )


def make_image_sampler(
    config: ConfigDict,
    num_classes: int,
    image_shape: tuple[int, ...],
    mesh: Mesh,
    make_model: MakeModel | None = None,
) -> Callable[[Any, jax.Array, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Sampling by the config's `synthesis` section, compiled as one program.

    Args:
        config: Its sections `unet`, `diffusion` and `synthesis` are read.
        num_classes: Number of classes.
        image_shape: Shape of the images.
        mesh: The devices.
        make_model: From weights to the model to sample from; None is the network with the section's
            guidance, whose weights are its parameters.

    Returns:
        (weights, stream key, image numbers int32 [B], labels int32 [B]) -> uint8 [B, H, W, C] and
        whether each is finite, bool [B]. An image depends only on the stream's key and its number.
    """
    schedule, table, s = build_noise_schedule(config), build_sampler_table(config), config.synthesis
    make_model = make_model or guided_unet(config, num_classes, s.guidance_scale)

    def sample_batch(weights: Any, key: jax.Array, numbers: jax.Array, labels: jax.Array) -> Any:
        keys = jax.vmap(lambda n: jax.random.fold_in(key, n))(numbers)
        x = sample(
            make_model(weights),
            table,
            schedule,
            keys,
            labels,
            image_shape,
            prediction=config.diffusion.prediction,
            clip_x_start=s.clip_x_start,
        )
        return denormalize(x), jnp.isfinite(x).all(axis=(1, 2, 3))

    return jit_over(mesh, sample_batch, (False, False, True, True))


def save_samples(context: Context, params: Any, key: jax.Array, per_class: int = 8) -> None:
    """Write `samples.png`: a few images of every class, drawn by the `synthesis` section."""
    sample = make_image_sampler(
        context.config,
        context.num_classes,
        context.dataset.train.image_shape,
        context.mesh,
    )
    labels = np.repeat(np.arange(context.num_classes, dtype=np.int32), per_class)
    padding = -len(labels) % context.mesh.size
    numbers = np.arange(len(labels) + padding, dtype=np.int32)
    images, _ = sample(params, key, numbers, np.pad(labels, (0, padding)))
    rows = images[: len(labels)].reshape(context.num_classes, per_class, *images.shape[1:])
    save_grid(context.folder / "samples.png", rows, picture_names(context.dataset.class_names))
