"""Drawing with a latent diffusion model, by the project's own samplers and guidance."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ddb_jax.data.preprocessing import denormalize
from ddb_jax.diffusion.guidance import guided
from ddb_jax.diffusion.samplers import SamplerTable, make_table, sample
from ddb_jax.runtime.errors import UserError
from ddb_jax.text_to_image.autoencoder import AutoencoderKL
from ddb_jax.text_to_image.latent_diffusion import LatentDiffusion
from ddb_jax.training.mesh import jit_over, put, replicated


def sample_side(model: LatentDiffusion, image_size: int) -> int:
    """Side of the images to draw: `image_size`, or that of the model's training where it is 0.

    Raises:
        UserError: The networks cannot halve it as often as they have to, or it is not known.
    """
    if not image_size and not model.unet.sample_size:
        raise UserError(
            "the text-to-image model does not say the side of its images (sample_size in"
            " unet/config.json): give it as config.text_to_image.image_size."
        )
    side = image_size or model.unet.sample_size * model.vae_factor
    multiple = model.vae_factor * 2 ** (len(model.unet.block_out_channels) - 1)
    if side % multiple:
        raise UserError(
            f"config.text_to_image.image_size is {side} and this model needs a multiple of"
            f" {multiple}, such as {-(-side // multiple) * multiple}."
        )
    return side


def sampler_table(model: LatentDiffusion, settings: ConfigDict) -> SamplerTable:
    """The sampler of the config's `text_to_image` section, for this model's noise.

    Raises:
        UserError: The sampler cannot take the settings.
    """
    steps = 0 if settings.sampler == "ddpm" else settings.num_steps
    try:
        return make_table(
            settings.sampler,
            model.schedule,
            steps,
            eta=settings.eta,
            spacing=settings.spacing or None,
        )
    except ValueError as error:
        raise UserError(f"config.text_to_image cannot be used: {error}.") from error


def sample_images(
    model: LatentDiffusion,
    params: Mapping[str, Any],
    table: SamplerTable,
    guidance_scale: float,
    keys: jax.Array,
    positions: jax.Array,
    contexts: jax.Array,
    side: int,
) -> jax.Array:
    """Guided latents, decoded; to be jitted by the caller.

    Args:
        model: Its modules, schedule and prediction are used, its parameters are not.
        params: "unet" and "vae" -> parameters.
        table: Table from `sampler_table`.
        guidance_scale: A Python float; 1 is no guidance.
        keys: Typed keys [B]; an image depends on its key and its text alone.
        positions: int32 [B], those of the images' texts in `contexts`.
        contexts: Encoded texts [N + 1, 77, D]; the last is that of no condition, the negative
            prompt.
        side: Side of the images in pixels.

    Returns:
        float32 [B, side, side, 3], about -1..1, not clipped.
    """
    model_fn = guided(
        lambda x, t, y: model.unet.apply({"params": params["unet"]}, x, t, contexts[y]),
        guidance_scale,
        len(contexts) - 1,
    )
    small = side // model.vae_factor
    latents = sample(
        model_fn,
        table,
        model.schedule,
        keys,
        positions,
        (small, small, model.vae.latent_channels),
        prediction=model.prediction,
        clip_x_start=False,
    )
    z = latents / model.vae.scaling_factor
    return model.vae.apply({"params": params["vae"]}, z, method=AutoencoderKL.decode)


def make_latent_sampler(
    model: LatentDiffusion, settings: ConfigDict, mesh: Mesh
) -> Callable[[jax.Array, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Drawing by the config's `text_to_image` section, compiled as one program.

    Returns:
        (stream key, image numbers int32 [B], contexts [B + 1, 77, D]: the encoded text of every
        image and of the negative prompt) -> uint8 [B, S, S, 3] and whether each is finite, bool
        [B]. An image is drawn from the stream's key, its own number and its text alone.

    Raises:
        UserError: The model cannot take the settings.
    """
    table, side = sampler_table(model, settings), sample_side(model, settings.image_size)

    def draw(
        params: Any, key: jax.Array, contexts: jax.Array, numbers: jax.Array, positions: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        keys = jax.vmap(lambda n: jax.random.fold_in(key, n))(numbers)
        x = sample_images(
            model, params, table, settings.guidance_scale, keys, positions, contexts, side
        )
        return denormalize(x), jnp.isfinite(x).all(axis=(1, 2, 3))

    compiled = jit_over(mesh, draw, (False, False, False, True, True))
    # Only the decoder of the autoencoder is kept in memory.
    decoder = {name: model.params["vae"][name] for name in ("decoder", "post_quant_conv")}
    params = put(replicated(mesh), {"unet": model.params["unet"], "vae": decoder})

    def call(
        key: jax.Array, numbers: np.ndarray, contexts: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        positions = np.arange(len(numbers), dtype=np.int32)
        return compiled(params, key, contexts, numbers, positions)

    return call
