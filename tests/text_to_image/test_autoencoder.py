import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from diffusers_reference import (
    import_diffusers,
    jit,
    load_variables,
    published_shapes,
    random_params,
    relative_error,
    save_randomised,
    to_torch,
)

from ddb_jax.text_to_image import autoencoder
from ddb_jax.text_to_image.autoencoder import AutoencoderKL, PixelAttention
from ddb_jax.text_to_image.published_params import published_names

# The published config.json of vae/, less the names and versions.
PUBLISHED = {
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 512,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
TINY = {
    "block_out_channels": [8, 16],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "latent_channels": 2,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_size": 8,
    "scaling_factor": 0.5,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
}
IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, 8, 12, 3)).astype(np.float32)


def abstract_params(config):
    vae = autoencoder.from_config(config)
    image = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
    return jax.eval_shape(vae.init, jax.random.key(0), image)["params"]


def test_full_size():
    shapes = published_names(abstract_params(PUBLISHED))
    assert sum(map(math.prod, shapes.values())) == 83_653_863
    assert autoencoder.from_config(PUBLISHED).scaling_factor == 0.18215


@pytest.mark.parity
def test_names_and_shapes_are_the_published_ones():
    diffusers = import_diffusers()
    import torch

    with torch.device("meta"):
        reference = diffusers.AutoencoderKL.from_config(PUBLISHED)
    assert published_names(abstract_params(PUBLISHED)) == published_shapes(reference)


@pytest.mark.parity
@pytest.mark.parametrize("layers", [1, 2])
def test_output_is_that_of_diffusers(layers, tmp_path):
    diffusers = import_diffusers()
    import torch

    reference = diffusers.AutoencoderKL.from_config(TINY | {"layers_per_block": layers})
    vae = autoencoder.from_config(save_randomised(reference, tmp_path))
    variables = load_variables(tmp_path, vae, IMAGES)
    image, mean, logvar = jit(vae.apply)(variables, IMAGES)
    with torch.no_grad():
        latents = reference.encode(to_torch(IMAGES)).latent_dist
        decoded = reference.decode(latents.mean).sample
    assert mean.shape == (2, 4, 6, 2)
    assert relative_error(mean, latents.mean) <= 1e-4
    assert relative_error(logvar, latents.logvar) <= 1e-4
    assert relative_error(image, decoded) <= 1e-4


def test_old_names_of_attention():
    stem = "decoder.mid_block.attentions.0."
    old = ["query.weight", "key.bias", "value.weight", "proj_attn.bias", "group_norm.weight"]
    new = ["to_q.weight", "to_k.bias", "to_v.weight", "to_out.0.bias", "group_norm.weight"]
    names = autoencoder.rename_old([*(stem + name for name in (*old, *new)), "key.weight"])
    expected = {stem + a: stem + b for a, b in zip(old, new, strict=True)}
    expected |= {stem + b: stem + b for b in new}
    assert names == expected | {"key.weight": "key.weight"}


def test_every_old_name_becomes_that_of_a_parameter():
    today = published_names(abstract_params(TINY)).keys()
    old = set()
    for name in today:
        for new, former in (
            (".to_q.", ".query."),
            (".to_k.", ".key."),
            (".to_v.", ".value."),
            (".to_out.0.", ".proj_attn."),
        ):
            name = name.replace(new, former)
        old.add(name)
    assert len(old - today) == 16  # four layers, weight and bias, in encoder and decoder
    assert set(autoencoder.rename_old(old).values()) == today


def test_attention_has_one_head():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(1, 2, 2, 4)).astype(np.float32)
    kernels = {name: rng.normal(size=(4, 4)) for name in ("to_q", "to_k", "to_v", "to_out_0")}
    biases = {name: rng.normal(size=4) for name in kernels}
    params = {name: {"kernel": kernels[name], "bias": biases[name]} for name in kernels}
    params["group_norm"] = {"scale": np.ones(4), "bias": np.zeros(4)}
    ours = PixelAttention(norm_num_groups=1).apply({"params": params}, x)

    h = ((x - x.mean()) / np.sqrt(x.var() + 1e-6)).reshape(4, 4)
    q, k, v = (h @ kernels[name] + biases[name] for name in ("to_q", "to_k", "to_v"))
    scores = np.exp(q @ k.T / 2)  # 2 is the root of the 4 channels
    mixed = scores / scores.sum(1, keepdims=True) @ v
    expected = x.reshape(4, 4) + mixed @ kernels["to_out_0"] + biases["to_out_0"]
    np.testing.assert_allclose(ours.reshape(4, 4), expected, atol=1e-3)


def test_latents_are_drawn_by_mean_and_deviation():
    vae = autoencoder.from_config(TINY)
    variables = random_params({"params": abstract_params(TINY)})
    noise = np.random.default_rng(2).normal(size=(2, 4, 6, 2)).astype(np.float32)

    @jit
    def images(variables):
        mean, logvar = vae.apply(variables, IMAGES, method=AutoencoderKL.encode)
        drawn = mean + jnp.sqrt(jnp.exp(logvar)) * noise
        decoded = vae.apply(variables, drawn, method=AutoencoderKL.decode)
        return decoded, vae.apply(variables, IMAGES, noise)[0], vae.apply(variables, IMAGES)[0]

    expected, ours, of_means = images(variables)
    np.testing.assert_allclose(ours, expected, atol=1e-4)
    assert np.abs(expected - of_means).max() > 1e-2


def test_logvar_is_bounded():
    vae = autoencoder.from_config(TINY)
    variables = random_params({"params": abstract_params(TINY)})
    # Two channels of the mean, two of the log variance.
    variables["params"]["quant_conv"]["bias"] = np.array([1e3, -1e3, 1e3, -1e3], np.float32)
    mean, logvar = jit(vae.apply, static_argnames="method")(variables, IMAGES, method="encode")
    assert np.abs(mean).min() > 900
    assert logvar.min() == -30 and logvar.max() == 20


def test_bfloat16_leaves_parameters_and_output_in_float32():
    exact, half = (autoencoder.from_config(TINY, dtype) for dtype in ("float32", "bfloat16"))
    abstract = jax.eval_shape(half.init, jax.random.key(0), IMAGES)
    assert {leaf.dtype for leaf in jax.tree.leaves(abstract)} == {jnp.dtype("float32")}
    variables = random_params(abstract)
    ours, expected = (jit(vae.apply)(variables, IMAGES) for vae in (half, exact))
    assert {array.dtype for array in ours} == {jnp.dtype("float32")}
    error = np.linalg.norm(ours[0] - expected[0]) / np.linalg.norm(expected[0])
    assert 1e-4 < error < 0.05


def test_it_learns_to_reconstruct():
    """Eight colours, each a whole image."""
    vae = autoencoder.from_config(TINY | {"latent_channels": 4})
    colours = np.random.default_rng(3).uniform(-1, 1, (8, 1, 1, 3)).astype(np.float32)
    x = np.broadcast_to(colours, (8, 4, 4, 3))
    params = jit(vae.init)(jax.random.key(0), x)
    optimizer = optax.adam(1e-2)

    def loss(params):
        return jnp.mean((vae.apply(params, x)[0] - x) ** 2)

    @jit
    def step(params, state):
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    state = optimizer.init(params)
    for _ in range(100):
        params, state, value = step(params, state)
    assert value < 0.1 * x.var()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"down_block_types": ["DownEncoderBlock2D", "AttnDownEncoderBlock2D"]},
            "has AttnDownEncoderBlock2D; supported are DownEncoderBlock2D",
        ),
        ({"up_block_types": ["UpDecoderBlock2D"]}, "up_block_types needs 2 types"),
        ({"use_quant_conv": False}, "use_quant_conv = False .only True"),
        ({"shift_factor": 0.1}, "AutoencoderKL does not support shift_factor = 0.1"),
        ({"norm_num_groups": 3}, "norm_num_groups = 3 does not divide"),
    ],
)
def test_settings_refused(change, message):
    with pytest.raises(ValueError, match=message):
        autoencoder.from_config(TINY | change)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((1, 8, 7, 3), "sides divisible by 2, not 8x7"), ((1, 8, 8, 1), "3 channels, not 1")],
)
def test_images_refused(shape, message):
    vae = autoencoder.from_config(TINY)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(vae.init, jax.random.key(0), jnp.ones(shape))
