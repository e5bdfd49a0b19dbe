"""What the training of a text-to-image model minimises, worked out by hand."""

import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddb_jax.diffusion.noise_schedule import linear_schedule
from ddb_jax.stages.generated.train_autoencoder import autoencoder_loss
from ddb_jax.stages.generated.train_text_to_image import text_to_image_loss
from ddb_jax.text_to_image.autoencoder import AutoencoderKL
from ddb_jax.text_to_image.latents import encode_images
from ddb_jax.training.mesh import make_mesh, shard_batch


class FixedAutoencoder:
    """Gives the same moments for all images, and decodes by a function of the latents."""

    def __init__(self, mean, logvar, decode):
        self._moments, self._decode = (mean, logvar), decode

    def apply(self, variables, x, method):
        if method is AutoencoderKL.encode:
            return tuple(jnp.full(x.shape, value) for value in self._moments)
        return self._decode(x)


@pytest.mark.parametrize(
    ("mean", "logvar", "kl"),
    # The divergence of N(1, 1) is 1/2, that of N(0, 4) is (4 - 1 - ln 4) / 2.
    [(0.0, 0.0, 0.0), (1.0, 0.0, 0.5), (0.0, math.log(4.0), 1.5 - math.log(2.0))],
)
def test_the_autoencoder_pays_for_errors_and_for_information(mean, logvar, kl):
    x = jnp.full((2, 4, 4, 3), 0.25)
    vae = FixedAutoencoder(mean, logvar, lambda z: jnp.full(z.shape, -0.25))
    loss, metrics = autoencoder_loss(vae, {}, jax.random.key(0), x, kl_weight=0.1)
    # |e| + e^2 with e = 1/2 everywhere.
    np.testing.assert_allclose(loss, 0.75 + 0.1 * kl, rtol=1e-6)
    np.testing.assert_allclose(metrics["mse"], 0.25, rtol=1e-6)
    np.testing.assert_allclose(metrics["kl"], kl, atol=1e-6)


def test_latents_are_drawn_from_their_distribution():
    vae = FixedAutoencoder(0.5, math.log(9.0), lambda z: z)
    _, metrics = autoencoder_loss(vae, {}, jax.random.key(0), jnp.zeros((50, 16, 16, 3)), 0.0)
    # Mean square of N(1/2, 9), whose standard error is 9 sqrt(2 / 38,400) or 0.065.
    np.testing.assert_allclose(metrics["mse"], 9.25, atol=0.25)


def echo_model():
    """A text encoder that gives the numbers of the tokens, and a UNet that gives their mean."""
    encoder = SimpleNamespace(apply=lambda v, tokens: tokens[..., None].astype(jnp.float32))
    unet = SimpleNamespace(
        apply=lambda v, x, t, text: x * 0 + text.mean((1, 2))[:, None, None, None]
    )
    return SimpleNamespace(
        text_encoder=encoder,
        unet=unet,
        schedule=linear_schedule(10, 0.01, 0.2),
        prediction="eps",
    )


def test_a_dropped_caption_is_the_empty_one():
    key, latents = jax.random.key(0), jnp.zeros((6, 2, 2, 4))
    no_text = np.full(77, 2, np.int32)
    tokens = np.repeat(np.arange(6, dtype=np.int32)[:, None], 77, axis=1)

    def mse(tokens, dropout):
        settings = SimpleNamespace(caption_dropout=dropout, min_snr_gamma=0.0)
        params = {"text_encoder": {}, "unet": {}}
        loss = text_to_image_loss(echo_model(), params, key, latents, tokens, no_text, settings)
        return float(loss[0])

    # The noise is that of noise_batch; the output for token n is n everywhere.
    eps = np.asarray(jax.random.normal(jax.random.split(key, 3)[1], latents.shape))
    by_token = ((np.arange(6)[:, None, None, None] - eps) ** 2).mean()
    np.testing.assert_allclose(mse(tokens, 0.0), by_token, rtol=1e-5)
    np.testing.assert_allclose(mse(tokens, 1.0), ((2 - eps) ** 2).mean(), rtol=1e-5)
    # Dropped one by one: the mean lies between.
    assert len({mse(tokens, 0.5), mse(tokens, 0.0), mse(tokens, 1.0)}) == 3


def test_the_loss_of_a_batch_on_four_devices():
    key = jax.random.key(1)
    latents = np.random.default_rng(0).normal(size=(8, 2, 2, 4)).astype(np.float32)
    tokens = np.repeat(np.arange(8, dtype=np.int32)[:, None], 77, axis=1)
    settings = SimpleNamespace(caption_dropout=0.3, min_snr_gamma=5.0)

    def loss(latents, tokens):
        params, no_text = {"text_encoder": {}, "unet": {}}, np.full(77, 9, np.int32)
        return text_to_image_loss(echo_model(), params, key, latents, tokens, no_text, settings)[0]

    batch = shard_batch(make_mesh(4), {"latents": latents, "tokens": tokens})
    np.testing.assert_allclose(jax.jit(loss)(**batch), loss(latents, tokens), rtol=1e-5)


def test_latents_do_not_depend_on_batches_or_devices():
    vae = AutoencoderKL(block_out_channels=(4,), latent_channels=2, norm_num_groups=2)
    params = vae.init(jax.random.key(0), jnp.zeros((1, 4, 4, 3)))["params"]
    images = np.random.default_rng(0).integers(0, 256, (11, 4, 4, 3)).astype(np.uint8)
    latents = encode_images(vae, params, images, 8, make_mesh(4))
    x = images / 127.5 - 1.0
    expected = vae.apply({"params": params}, x.astype(np.float32), method=AutoencoderKL.encode)[0]
    np.testing.assert_allclose(latents, expected, atol=1e-5)
