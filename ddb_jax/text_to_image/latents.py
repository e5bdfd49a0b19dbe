"""The latents of images, which a latent diffusion model is trained on."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from ddb_jax.data.preprocessing import normalize
from ddb_jax.text_to_image.autoencoder import AutoencoderKL
from ddb_jax.training.mesh import jit_over, put, replicated


def encode_images(
    vae: AutoencoderKL, params: Any, images: np.ndarray, batch_size: int, mesh: Mesh
) -> np.ndarray:
    """The means of the images' latents, as the decoder takes them.

    Args:
        vae: The autoencoder.
        params: Its parameters.
        images: uint8 [N, S, S, 3].
        batch_size: Images encoded at a time; a multiple of the number of devices.
        mesh: The devices.

    Returns:
        float32 [N, s, s, L], in the host's memory.
    """

    def encode(params: Any, images: jax.Array) -> jax.Array:
        mean, _ = vae.apply({"params": params}, normalize(images), method=AutoencoderKL.encode)
        return mean

    compiled = jit_over(mesh, encode, (False, True))
    params = put(replicated(mesh), params)
    parts = []
    for first in range(0, len(images), batch_size):
        part = images[first : first + batch_size]
        padding = [(0, batch_size - len(part)), (0, 0), (0, 0), (0, 0)]
        parts.append(compiled(params, np.pad(part, padding))[: len(part)])
    return np.concatenate(parts)
