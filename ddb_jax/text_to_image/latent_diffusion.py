"""A latent diffusion model (arXiv 2112.10752) as the stages use it: loading, encoding texts.

The model is a folder in the diffusers layout; `latent_sampling` draws with it.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ddb_jax.diffusion.noise_schedule import NoiseSchedule, cosine_schedule, linear_schedule
from ddb_jax.runtime.errors import UserError
from ddb_jax.text_to_image import autoencoder, clip_text, unet_condition
from ddb_jax.text_to_image.autoencoder import AutoencoderKL
from ddb_jax.text_to_image.layout import Layout, read_layout
from ddb_jax.text_to_image.published_params import Rename, check_params, load_published_params
from ddb_jax.text_to_image.tokenizer import LENGTH, load_tokenizer
from ddb_jax.training.mesh import jit_over, put, replicated

PREDICTIONS = {"epsilon": "eps", "v_prediction": "v"}
TEXTS_PER_DEVICE = 32  # encoded at a time


class LatentDiffusion(NamedTuple):
    """A text-to-image model.

    Attributes:
        text_encoder: The module; `unet` and `vae` likewise.
        params: "text_encoder", "unet", "vae" -> parameters, NumPy arrays.
        schedule: The noise that the UNet was trained with.
        prediction: What the UNet predicts, "eps" or "v".
        tokenize: N texts -> int32 [N, 77].
    """

    text_encoder: clip_text.CLIPTextEncoder
    unet: unet_condition.UNet2DCondition
    vae: AutoencoderKL
    params: Mapping[str, Any]
    schedule: NoiseSchedule
    prediction: str
    tokenize: Callable[[Sequence[str]], np.ndarray]

    @property
    def vae_factor(self) -> int:
        """Side of an image in pixels, for each of its latents."""
        return 2 ** (len(self.vae.block_out_channels) - 1)


def load_model(folder: Path | str, dtype: Any) -> LatentDiffusion:
    """Read a Stable Diffusion 1.x or 2.x model, or one that `train_text_to_image` wrote.

    Args:
        folder: In the diffusers layout.
        dtype: Type of the computation and parameters; bfloat16 takes half of float32's memory.

    Raises:
        UserError: The folder is not complete, or the model is of a kind that is not supported.
    """
    try:
        layout = read_layout(folder)
        networks = _networks(layout, dtype)
        params = {
            name: load_published_params(
                network.files, network.abstract, jnp.dtype(dtype), network.rename
            )
            for name, network in networks.items()
        }
        tokenize = load_tokenizer(layout.tokenizer)
        schedule, prediction = _noise(layout)
    except (OSError, ValueError) as error:
        raise _unusable(folder, error) from error
    return LatentDiffusion(
        **{name: network.module for name, network in networks.items()},
        params=params,
        schedule=schedule,
        prediction=prediction,
        tokenize=tokenize,
    )


def check_model(folder: Path | str) -> None:
    """Look whether `load_model` can do its work; of the weights only the headers are read.

    Raises:
        UserError: As `load_model`.
    """
    try:
        layout = read_layout(folder)
        for network in _networks(layout, jnp.float32).values():
            check_params(network.files, network.abstract, network.rename)
        load_tokenizer(layout.tokenizer)
        _noise(layout)
    except Exception as error:  # other programs write the folder, with values of any type
        raise _unusable(folder, error) from error


def _unusable(folder: Path | str, error: Exception) -> UserError:
    reason = str(error).rstrip(".")
    return UserError(f"the text-to-image model in {folder} cannot be used: {reason}.")


class _Network(NamedTuple):
    """A network of a folder: the module, its parameters' shapes, its files, old names of them."""

    module: Any
    abstract: Any
    files: tuple[Path, ...]
    rename: Rename | None


def _networks(layout: Layout, dtype: Any) -> dict[str, _Network]:
    """Those of the three parts with weights; raises ValueError for what is not supported."""
    text_encoder = clip_text.from_config(layout.text_encoder.config, dtype)
    unet = unet_condition.from_config(layout.unet.config, dtype)
    vae = autoencoder.from_config(layout.vae.config, dtype)
    side, factor = (2 ** (len(net.block_out_channels) - 1) for net in (unet, vae))
    examples = {
        "text_encoder": (text_encoder, _int32(1, LENGTH)),
        "unet": (
            unet,
            _float32(1, side, side, vae.latent_channels),
            _int32(1),
            _float32(1, LENGTH, text_encoder.hidden_size),
        ),
        "vae": (vae, _float32(1, factor, factor, 3)),
    }
    renames = {"text_encoder": clip_text.rename_unprefixed, "vae": autoencoder.rename_old}
    return {
        name: _Network(
            module,
            jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"],
            getattr(layout, name).files,
            renames.get(name),
        )
        for name, (module, *inputs) in examples.items()
    }


def _noise(layout: Layout) -> tuple[NoiseSchedule, str]:
    """The noise of a folder's scheduler, and what its UNet predicts."""
    noise = layout.scheduler
    if noise.prediction_type not in PREDICTIONS:
        raise ValueError(
            f"its prediction_type is {noise.prediction_type}, and only"
            f" {' and '.join(PREDICTIONS)} are supported"
        )
    schedule = published_schedule(
        noise.beta_schedule, noise.num_train_timesteps, noise.beta_start, noise.beta_end
    )
    return schedule, PREDICTIONS[noise.prediction_type]


def _float32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _int32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.int32)


def published_schedule(
    name: str, num_timesteps: int, beta_start: float, beta_end: float
) -> NoiseSchedule:
    """The noise that a scheduler_config.json describes, by the name that diffusers gives it.

    "linear" has evenly spaced betas (arXiv 2006.11239), "scaled_linear" evenly spaced square roots
    of betas (arXiv 2112.10752) and "squaredcos_cap_v2" is the cosine schedule (arXiv 2102.09672),
    which has no use for the two betas.

    Raises:
        ValueError: Unknown name, or betas outside (0, 1).
    """
    if name == "linear":
        return linear_schedule(num_timesteps, beta_start, beta_end)
    if name == "scaled_linear":
        return NoiseSchedule(np.linspace(beta_start**0.5, beta_end**0.5, num_timesteps) ** 2)
    if name == "squaredcos_cap_v2":
        return cosine_schedule(num_timesteps)
    raise ValueError(f"unknown noise schedule {name!r}")


def encode_texts(model: LatentDiffusion, texts: Sequence[str], mesh: Mesh) -> np.ndarray:
    """The text encoder's last hidden states, [N, 77, D] in its dtype, on the host.

    Raises:
        UserError: The tokenizer has tokens that the encoder does not know.
    """
    tokens = model.tokenize(texts)
    size = model.text_encoder.vocab_size
    if tokens.max(initial=0) >= size:
        raise UserError(
            f"the tokenizer of the text-to-image model gives token {tokens.max()}, and its text"
            f" encoder has {size:,}: put the tokenizer that it was trained with into its folder."
        )
    dtype = model.text_encoder.dtype

    def encode(params: Any, tokens: jax.Array) -> jax.Array:
        return model.text_encoder.apply({"params": params}, tokens).astype(dtype)

    compiled = jit_over(mesh, encode, (False, True))
    params = put(replicated(mesh), model.params["text_encoder"])
    batch_size = min(TEXTS_PER_DEVICE, -(-len(tokens) // mesh.size)) * mesh.size
    padded = np.pad(tokens, ((0, -len(tokens) % batch_size), (0, 0)), mode="edge")
    parts = [
        compiled(params, padded[first : first + batch_size])
        for first in range(0, len(padded), batch_size)
    ]
    return np.concatenate(parts)[: len(tokens)]
