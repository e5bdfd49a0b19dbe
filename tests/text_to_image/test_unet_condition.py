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
from ddb_jax.text_to_image.layers import Conv, Downsample, GroupNorm, Upsample
from ddb_jax.text_to_image.published_params import published_names
from ddb_jax.text_to_image.transformer import Attention, GatedGelu, SpatialTransformer

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


def test_attention_has_the_number_of_heads_named():
    rng = np.random.default_rng(1)
    x, context = rng.normal(size=(1, 3, 12)), rng.normal(size=(1, 4, 5))
    weights = {
        name: rng.normal(size=(width, 12))
        for name, width in (("to_q", 12), ("to_k", 5), ("to_v", 5), ("to_out_0", 12))
    }
    params = {name: {"kernel": kernel} for name, kernel in weights.items()}
    params["to_out_0"]["bias"] = np.arange(12.0)
    ours = Attention(num_heads=3).apply({"params": params}, x, context)

    heads = []
    for columns in (slice(0, 4), slice(4, 8), slice(8, 12)):
        q, k, v = (
            source[0] @ weights[name][:, columns]
            for name, source in (("to_q", x), ("to_k", context), ("to_v", context))
        )
        scores = np.exp(q @ k.T / 2)  # 2 is the root of the 4 channels of a head
        heads.append(scores / scores.sum(1, keepdims=True) @ v)
    expected = np.concatenate(heads, axis=1) @ weights["to_out_0"] + np.arange(12.0)
    np.testing.assert_allclose(ours[0], expected, rtol=1e-3, atol=1e-4)


def test_gated_gelu_gates_by_the_second_half():
    params = {"proj": {"kernel": np.eye(4), "bias": np.zeros(4)}}
    x = np.array([[[2.0, 3.0, 1.0, -0.5]]])
    gelu = [z * 0.5 * (1 + math.erf(z / math.sqrt(2))) for z in (1.0, -0.5)]
    ours = GatedGelu(2).apply({"params": params}, x)
    np.testing.assert_allclose(ours[0, 0], [2 * gelu[0], 3 * gelu[1]], rtol=1e-5)


def test_group_norm():
    rng = np.random.default_rng(2)
    x = (100 + rng.normal(size=(2, 3, 4, 6))).astype(np.float32)
    scale, bias = rng.normal(size=(2, 6))
    params = {"params": {"scale": scale, "bias": bias}}
    ours = GroupNorm(num_groups=2, eps=0.1).apply(params, x)
    groups = x.reshape(2, 12, 2, 3)
    mean, var = (f(groups, axis=(1, 3), keepdims=True) for f in (np.mean, np.var))
    expected = ((groups - mean) / np.sqrt(var + 0.1)).reshape(x.shape) * scale + bias
    np.testing.assert_allclose(ours, expected, atol=1e-4)


@pytest.mark.parametrize("side", [2, 4])  # below and above the size of the kernel
def test_convolutions_down_and_up(side):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1, side, side, 2)).astype(np.float32)
    kernel, bias = rng.normal(size=(3, 3, 2, 2)), rng.normal(size=2)
    params = {"params": {"conv": {"kernel": kernel, "bias": bias}}}

    def at(image, i, j):
        """Output at a place: the 3x3 window of the padded image that begins at (i, j)."""
        return np.einsum("hwi,hwio->o", image[i : i + 3, j : j + 3], kernel) + bias

    half = side // 2
    for padding in ((1, 1), (0, 1)):
        padded = np.pad(x[0], (padding, padding, (0, 0)))
        expected = [[at(padded, 2 * i, 2 * j) for j in range(half)] for i in range(half)]
        np.testing.assert_allclose(Downsample(padding).apply(params, x)[0], expected, atol=1e-4)
    doubled = np.pad(np.kron(x[0], np.ones((2, 2, 1))), ((1, 1), (1, 1), (0, 0)))
    expected = [[at(doubled, i, j) for j in range(2 * side)] for i in range(2 * side)]
    np.testing.assert_allclose(Upsample().apply(params, x)[0], expected, atol=1e-4)


def test_both_projections_are_the_same_map():
    x, text = np.ones((1, 2, 2, 8), np.float32), np.ones((1, 3, 5), np.float32)
    x *= np.arange(8)
    linear, convolved = (SpatialTransformer(2, 4, use_linear_projection=b) for b in (True, False))
    params = random_params(jax.eval_shape(linear.init, jax.random.key(0), x, text))["params"]
    expected = jit(linear.apply)({"params": params}, x, text)
    for name in ("proj_in", "proj_out"):
        params[name]["kernel"] = params[name]["kernel"][None, None]
    ours = jit(convolved.apply)({"params": params}, x, text)
    np.testing.assert_allclose(ours, expected, atol=1e-4)
    assert np.abs(expected - x).max() > 0.1


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


def test_small_maps_convolve_as_large_ones():
    """The gathered taps against the same pixels inside a map large enough for the plain form."""
    x = np.random.default_rng(5).normal(size=(1, 2, 2, 3)).astype(np.float32)
    conv = Conv(4)
    params = random_params(jax.eval_shape(conv.init, jax.random.key(0), x))
    large = np.pad(x, ((0, 0), (1, 5), (1, 5), (0, 0)))
    expected = conv.apply(params, large)[:, 1:3, 1:3]
    np.testing.assert_allclose(conv.apply(params, x), expected, atol=1e-5)
