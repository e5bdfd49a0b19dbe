"""Stage: train the autoencoder of a text-to-image model on the captioned images.

Writes `checkpoints/`, `metrics.jsonl`, `tensorboard/`, `reconstructions.png` and `vae/`, the
autoencoder in the diffusers layout.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddb_jax.data.input_pipeline import train_batches
from ddb_jax.data.preprocessing import denormalize, normalize
from ddb_jax.data.source import ArraySource
from ddb_jax.runtime.processes import this_process
from ddb_jax.stages.common.contact_sheet import save_grid
from ddb_jax.stages.context import Context
from ddb_jax.text_to_image.autoencoder import AutoencoderKL, from_config
from ddb_jax.text_to_image.captioned_set import load_captioned
from ddb_jax.text_to_image.latents import encode_images
from ddb_jax.text_to_image.model_folder import autoencoder_config, check_sizes, write_part
from ddb_jax.training import train_state
from ddb_jax.training.compilation import jit
from ddb_jax.training.fit import Schedule, fit
from ddb_jax.training.mesh import fetch
from ddb_jax.training.optimizer import make_optimizer
from ddb_jax.training.rng import data_seed, stream
from ddb_jax.training.train_state import TrainState

SHOWN = 16  # images and their reconstructions


def autoencoder_loss(
    vae: AutoencoderKL, params: Any, key: jax.Array, x: jax.Array, kl_weight: float
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Reconstruction plus KL penalty (arXiv 2112.10752, appendix G), without their adversary.

    Args:
        vae: The autoencoder.
        params: Its parameters.
        key: Random key of the noise on the latents.
        x: float32 [B, S, S, 3] in [-1, 1].
        kl_weight: Weight of the divergence of the latents from the standard normal distribution.

    Returns:
        The loss, a float32 scalar: the mean of |e| + e^2 over pixels and channels, plus kl_weight
        times the mean divergence over elements of the latents. And metrics: "loss", "mse", "kl".
    """
    mean, logvar = vae.apply({"params": params}, x, method=AutoencoderKL.encode)
    z = mean + jnp.exp(0.5 * logvar) * jax.random.normal(key, mean.shape)
    error = vae.apply({"params": params}, z, method=AutoencoderKL.decode) - x
    mse = jnp.mean(error**2)
    kl = 0.5 * jnp.mean(mean**2 + jnp.exp(logvar) - 1.0 - logvar)
    loss = jnp.mean(jnp.abs(error)) + mse + kl_weight * kl
    return loss, {"loss": loss, "mse": mse, "kl": kl}


def run(context: Context) -> dict[str, Any]:
    """Train, then scale the latents to unit deviation."""
    sizes = context.config.train_text_to_image
    settings = sizes.autoencoder
    check_sizes(sizes)
    images = load_captioned(context.config, sizes.image_size).images
    vae = from_config(autoencoder_config(sizes))
    optimizer = make_optimizer(settings)

    def init(key: jax.Array) -> TrainState:
        params = vae.init(key, jnp.zeros((1, *images.shape[1:]), jnp.float32))["params"]
        return train_state.create({"params": params}, optimizer)

    def train_step(
        state: TrainState, batch: dict[str, jax.Array], noise_key: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        key, x = jax.random.fold_in(noise_key, state.step), normalize(batch["image"])
        (_, metrics), gradients = jax.value_and_grad(
            lambda params: autoencoder_loss(vae, params, key, x, sizes.kl_weight), has_aux=True
        )(state.params)
        metrics["grad_norm"] = optax.tree.norm(gradients)
        return train_state.apply_gradients(state, gradients, optimizer), metrics

    unknown = np.full(len(images), -1, np.int32)
    state = fit(
        init,
        train_step,
        lambda start: train_batches(
            ArraySource(images, unknown, unknown),
            batch_size=settings.batch_size,
            seed=data_seed(context.seed, "train_autoencoder"),
            start_step=start,
            num_steps=settings.num_steps,
            **this_process(),
        ),
        Schedule(settings.num_steps, settings.log_every, settings.checkpoint_every),
        title=context.name,
        folder=context.folder,
        mesh=context.mesh,
        stop=context.stop,
        init_arguments=(stream(context.seed, "train_autoencoder/init"),),
        step_arguments=(stream(context.seed, "train_autoencoder/noise"),),
    )
    params = fetch(context.mesh, state.params)
    latents = encode_images(vae, params, images, settings.batch_size, context.mesh)
    scaling_factor = 1.0 / max(float(np.std(latents, dtype=np.float64)), 1e-6)
    config = autoencoder_config(sizes, scaling_factor)
    write_part(context.folder / "vae", "vae", config, params)

    # A random draw: at even distances all images could be of one kind.
    rng = np.random.default_rng(data_seed(context.seed, "train_autoencoder/shown"))
    shown = np.sort(rng.permutation(len(images))[:SHOWN])
    decode = jit(
        lambda params, z: denormalize(vae.apply({"params": params}, z, method=AutoencoderKL.decode))
    )
    rows = [images[shown], jax.device_get(decode(params, latents[shown]))]
    save_grid(context.folder / "reconstructions.png", rows, ("images", "decoded"))
    return {
        "images": len(images),
        "parameters": sum(x.size for x in jax.tree.leaves(params)),
        "scaling_factor": scaling_factor,
    }
