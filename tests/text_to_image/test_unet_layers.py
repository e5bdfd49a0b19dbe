"""The layers of the text-conditioned UNet against NumPy."""

import math

import jax
import numpy as np
import pytest
from diffusers_reference import (
    jit,
    random_params,
)

from ddb_jax.text_to_image.layers import Conv, Downsample, GroupNorm, Upsample
from ddb_jax.text_to_image.transformer import Attention, GatedGelu, SpatialTransformer


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


def test_small_maps_convolve_as_large_ones():
    """The gathered taps against the same pixels inside a map large enough for the plain form."""
    x = np.random.default_rng(5).normal(size=(1, 2, 2, 3)).astype(np.float32)
    conv = Conv(4)
    params = random_params(jax.eval_shape(conv.init, jax.random.key(0), x))
    large = np.pad(x, ((0, 0), (1, 5), (1, 5), (0, 0)))
    expected = conv.apply(params, large)[:, 1:3, 1:3]
    np.testing.assert_allclose(conv.apply(params, x), expected, atol=1e-5)
