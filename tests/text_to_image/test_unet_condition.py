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

from ddb_jax.text_to_image import unet_condition
from ddb_jax.text_to_image.published_params import published_names

# The published config.json files of unet/, less the names and versions.
COMMON = {
    "act_fn": "silu",
    "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": False,
    "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "out_channels": 4,
    "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
}
SD15 = COMMON | {"attention_head_dim": 8, "cross_attention_dim": 768, "sample_size": 64}
SD21 = COMMON | {
    "attention_head_dim": [5, 10, 20, 20],
    "cross_attention_dim": 1024,
    "dual_cross_attention": False,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "sample_size": 96,
    "upcast_attention": True,
    "use_linear_projection": True,
}
TINY = {
    "block_out_channels": [16, 32],
    "cross_attention_dim": 12,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_size": 8,
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
}
ONE_LEVEL = TINY | {
    "attention_head_dim": 2,
    "block_out_channels": [8],
    "down_block_types": ["CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D"],
}
TINY_SD1 = TINY | {"attention_head_dim": 2}
TINY_SD2 = TINY | {
    "attention_head_dim": [2, 8, 4],
    "block_out_channels": [16, 32, 32],
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "layers_per_block": 2,
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "use_linear_projection": True,
}


def inputs(config, height=8, width=8, batch=2, tokens=5):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch, height, width, 4)).astype(np.float32)
    text = rng.normal(size=(batch, tokens, config["cross_attention_dim"])).astype(np.float32)
    return x, np.array([3, 977][:batch], np.int32), text


def abstract_params(config):
    unet = unet_condition.from_config(config)
    arguments = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in inputs(config, batch=1)]
    return jax.eval_shape(unet.init, jax.random.key(0), *arguments)["params"]


@pytest.mark.parametrize(("config", "count"), [(SD15, 859_520_964), (SD21, 865_910_724)])
def test_full_size(config, count):
    shapes = published_names(abstract_params(config))
    assert sum(map(math.prod, shapes.values())) == count
    heads = unet_condition.heads_of(unet_condition.from_config(config))
    assert heads == ((8, 8, 8, 8) if config is SD15 else (5, 10, 20, 20))


@pytest.mark.parity
@pytest.mark.parametrize("config", [SD15, SD21])
def test_names_and_shapes_are_the_published_ones(config):
    diffusers = import_diffusers()
    import torch

    with torch.device("meta"):
        reference = diffusers.UNet2DConditionModel.from_config(config)
    assert published_names(abstract_params(config)) == published_shapes(reference)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("config", "height", "width"), [(TINY_SD1, 8, 6), (TINY_SD2, 8, 12)], ids=["sd1", "sd2"]
)
def test_output_is_that_of_diffusers(config, height, width, tmp_path):
    diffusers = import_diffusers()
    import torch

    reference = diffusers.UNet2DConditionModel.from_config(config)
    unet = unet_condition.from_config(save_randomised(reference, tmp_path))
    x, timesteps, text = inputs(config, height, width)
    variables = load_variables(tmp_path, unet, x, timesteps, text)
    ours = jit(unet.apply)(variables, x, timesteps, text)
    with torch.no_grad():
        theirs = reference(to_torch(x), torch.from_numpy(timesteps), torch.from_numpy(text)).sample
    assert relative_error(ours, theirs) <= 1e-4


@pytest.mark.parametrize("flip", [True, False])
def test_timestep_embedding(flip):
    embedding = unet_condition.timestep_embedding(
        jnp.array([7]), 6, flip_sin_to_cos=flip, freq_shift=1
    )
    angles = [7 / 10000 ** (i / 2) for i in range(3)]  # half of the channels is 3, less 1
    sines, cosines = [math.sin(a) for a in angles], [math.cos(a) for a in angles]
    expected = cosines + sines if flip else sines + cosines
    np.testing.assert_allclose(embedding[0], expected, rtol=1e-5)


def test_bfloat16_leaves_parameters_and_output_in_float32():
    arguments = inputs(ONE_LEVEL, 2, 2)
    exact, half = (
        unet_condition.from_config(ONE_LEVEL, dtype) for dtype in ("float32", "bfloat16")
    )
    abstract = jax.eval_shape(half.init, jax.random.key(0), *arguments)
    assert {leaf.dtype for leaf in jax.tree.leaves(abstract)} == {jnp.dtype("float32")}
    params = random_params(abstract)
    expected, ours = (jit(unet.apply)(params, *arguments) for unet in (exact, half))
    assert ours.dtype == jnp.float32
    error = np.linalg.norm(ours - expected) / np.linalg.norm(expected)
    assert 1e-4 < error < 0.05


def test_it_learns_what_the_text_says():
    """The target is the sign of the text, whatever the latents; the output is zero at first."""
    unet = unet_condition.from_config(ONE_LEVEL)
    x = np.random.default_rng(4).normal(size=(8, 2, 2, 4)).astype(np.float32)
    timesteps = np.arange(8)
    sign = np.resize([1.0, -1.0], 8).astype(np.float32)[:, None, None]
    text = np.broadcast_to(sign, (8, 3, 12))
    params = jit(unet.init)(jax.random.key(0), x, timesteps, text)
    optimizer = optax.adam(1e-2)

    def loss(params):
        return jnp.mean((unet.apply(params, x, timesteps, text) - sign[..., None]) ** 2)

    @jit
    def step(params, state):
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    state, values = optimizer.init(params), []
    for _ in range(60):
        params, state, value = step(params, state)
        values.append(value)
    assert values[0] == 1 and values[-1] < 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"down_block_types": ["AttnDownBlock2D", "DownBlock2D"]},
            "down_block_types has AttnDownBlock2D; supported are CrossAttnDownBlock2D, DownBlock2D",
        ),
        ({"up_block_types": ["UpBlock2D"]}, "up_block_types needs 2 types, one a level, not 1"),
        (
            {"act_fn": "gelu", "class_embed_type": "timestep"},
            "act_fn = 'gelu' .only 'silu' or 'swish'.; class_embed_type = 'timestep'",
        ),
        ({"transformer_layers_per_block": [1, 2]}, "transformer_layers_per_block = "),
        ({"option_of_tomorrow": 3}, "does not support option_of_tomorrow = 3"),
        ({"norm_num_groups": 5}, "norm_num_groups = 5 does not divide"),
        ({"layers_per_block": [1, 2]}, "layers_per_block is one number here"),
        ({"attention_head_dim": 3}, "divisor of block_out_channels"),
        ({"attention_head_dim": [2]}, "one number or one a level"),
    ],
)
def test_settings_refused(change, message):
    with pytest.raises(ValueError, match=message):
        unet_condition.from_config(TINY_SD1 | change)


@pytest.mark.parametrize(
    ("shape", "width", "message"),
    [
        ((1, 5, 4, 4), 12, "sides divisible by 2, not 5x4"),
        ((1, 4, 4, 9), 12, "in_channels = 4 channels, not 9"),
        ((1, 4, 4, 4), 7, "cross_attention_dim = 12 channels, not 7"),
    ],
)
def test_inputs_refused(shape, width, message):
    unet = unet_condition.from_config(TINY_SD1)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(
            unet.init, jax.random.key(0), jnp.ones(shape), jnp.ones(1), jnp.ones((1, 3, width))
        )
