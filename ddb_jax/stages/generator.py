"""The class-conditional diffusion model as the stages use it: network, process, sampling."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ddb_jax.data.preprocessing import denormalize
from ddb_jax.diffusion.guidance import guided
from ddb_jax.diffusion.noise_schedule import NoiseSchedule, make_schedule
from ddb_jax.diffusion.samplers import SamplerTable, make_table, sample
from ddb_jax.models.unet import UNet
from ddb_jax.training.compilation import jit
from ddb_jax.training.mesh import batch_sharding, replicated


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
    """The sampler of the config's `synthesis` section; raises ValueError where it cannot be."""
    s = config.synthesis
    return make_table(
        s.sampler,
        build_noise_schedule(config),
        0 if s.sampler == "ddpm" else s.num_steps,
        eta=s.eta,
        spacing=s.spacing or None,
        variance=s.ddpm_variance,
    )


def init_params(unet: UNet, key: jax.Array, image_shape: tuple[int, ...]) -> Any:
    """Fresh parameters; traceable."""
    images = jnp.zeros((1, *image_shape), jnp.float32)
    zeros = jnp.zeros((1,), jnp.int32)
    return unet.init(key, images, zeros, zeros, train=False)["params"]


def make_sample(
    config: ConfigDict, num_classes: int, image_shape: tuple[int, ...], mesh: Mesh
) -> Callable[[Any, jax.Array, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Guided sampling by the config's `synthesis` section, compiled as one program.

    Returns:
        (params, stream key, image numbers int32 [B], labels int32 [B]) -> uint8 [B, H, W, C] and
        whether each is finite, bool [B]. An image is drawn from the stream's key and its own number
        alone.
    """
    unet, schedule = build_unet(config, num_classes), build_noise_schedule(config)
    s, table = config.synthesis, build_sampler_table(config)

    def sample_batch(params: Any, key: jax.Array, numbers: jax.Array, labels: jax.Array) -> Any:
        model_fn = guided(
            lambda x, t, y: unet.apply({"params": params}, x, t, y, train=False),
            s.guidance_scale,
            num_classes,
        )
        keys = jax.vmap(lambda n: jax.random.fold_in(key, n))(numbers)
        x = sample(
            model_fn,
            table,
            schedule,
            keys,
            labels,
            image_shape,
            prediction=config.diffusion.prediction,
            clip_x_start=s.clip_x_start,
        )
        return denormalize(x), jnp.isfinite(x).all(axis=(1, 2, 3))

    split, whole = batch_sharding(mesh), replicated(mesh)
    compiled = jit(sample_batch, in_shardings=(whole, whole, split, split), out_shardings=whole)

    return lambda *arguments: jax.device_get(compiled(*arguments))
