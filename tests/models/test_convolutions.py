"""Convolutions against NumPy, and against the plain forms that XLA offers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from layer_gradients import assert_same_with_gradients, normal, plain_convolve

from ddb_jax.models import layers


def test_conv_by_hand():
    # 4x4 image 0..15 with stride 2 and one pixel of padding on every side: the window of output
    # (0, 0) is rows -1..1, columns -1..1. SAME padding would start it at row 0.
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    kernel = np.arange(9, dtype=np.float32).reshape(3, 3, 1, 1)
    variables = {"params": {"kernel": kernel, "bias": np.array([0.5], np.float32)}}
    y = layers.Conv(1, stride=2).apply(variables, x)
    first = 4 * 0 + 5 * 1 + 7 * 4 + 8 * 5
    second = 3 * 1 + 4 * 2 + 5 * 3 + 6 * 5 + 7 * 6 + 8 * 7
    third = 1 * 4 + 2 * 5 + 4 * 8 + 5 * 9 + 7 * 12 + 8 * 13
    fourth = sum(
        (3 * i + j) * (4 * (1 + i) + 1 + j) for i in range(3) for j in range(3)
    )  # rows 1..3, columns 1..3
    np.testing.assert_allclose(
        y[0, ..., 0], np.array([[first, second], [third, fourth]]) + 0.5, rtol=1e-6
    )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_tiny_convolution_equals_plain(side, stride, kernel_size):
    padding = ((kernel_size // 2,) * 2,) * 2
    assert_same_with_gradients(
        lambda x, k: layers.convolve(x, k, stride, padding),
        lambda x, k: plain_convolve(x, k, stride, padding),
        normal(2, side, side + 1, 3),
        normal(kernel_size, kernel_size, 3, 4, seed=1),
    )


@pytest.mark.parametrize(
    ("side", "stride", "taps"),
    [(1, 1, 1), (2, 1, 9), (2, 2, 4), (1, 2, 1)],  # a stride of 2 from two pixels sees four taps
)
def test_taps_over_padding_alone_cost_nothing(side, stride, taps):
    x, kernel = jnp.ones((2, side, side, 5)), jnp.ones((3, 3, 5, 7))
    out = side if stride == 1 else 1
    pad = ((1, 1), (1, 1))
    product = jax.jit(lambda x, k: layers.convolve(x, k, stride, pad)).lower(x, kernel).as_text()
    (shapes,) = [line for line in product.splitlines() if "dot_general" in line]
    assert f"tensor<2x{out}x{out}x{5 * taps}xf32>, tensor<{5 * taps}x7xf32>" in shapes


def test_unequal_padding_equals_plain():
    padding = ((0, 1), (1, 0))
    for side in (1, 3):  # by patches, and not
        assert_same_with_gradients(
            lambda x, k: layers.convolve(x, k, 1, padding),
            lambda x, k: plain_convolve(x, k, 1, padding),
            normal(2, side, side, 3),
            normal(2, 2, 3, 4, seed=1),
        )


@pytest.mark.parametrize(
    ("side", "stride", "convolves"),
    [(2, 1, False), (3, 1, True), (4, 2, False), (5, 2, True), (16, 1, True)],
)
def test_which_maps_avoid_convolution_on_cpu(side, stride, convolves):
    # 4x4 with stride 2 gives 2x2 = 4 pixels, fewer than the 9 taps; 5x5 gives 3x3 = 9.
    x, kernel = jnp.zeros((1, side, side, 2)), jnp.zeros((3, 3, 2, 2))
    program = jax.make_jaxpr(lambda x, k: layers.convolve(x, k, stride, ((1, 1), (1, 1))))
    assert ("conv_general_dilated" in str(program(x, kernel))) == convolves


def test_conv_initialisation_and_dtypes():
    conv = layers.Conv(64, kernel_size=5, dtype=jnp.bfloat16)
    y, variables = conv.init_with_output(jax.random.key(0), jnp.zeros((1, 8, 8, 16)))
    kernel, bias = variables["params"]["kernel"], variables["params"]["bias"]
    bound = 1 / math.sqrt(5 * 5 * 16)  # PyTorch: uniform in +-1 / sqrt(fan_in)
    assert 0.99 * bound < np.abs(kernel).max() <= bound
    np.testing.assert_allclose(kernel.std(), bound / math.sqrt(3), rtol=0.02)
    assert not bias.any()
    assert (y.dtype, kernel.dtype, bias.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)


def test_upsample_convolution_by_scattering():
    x, kernel = normal(2, 3, 4, 2), normal(5, 5, 2, 3, seed=1)
    full = np.zeros((2, 2 * 3 + 3, 2 * 4 + 3, 3))  # out[2i + k], before padding 2 is cut off
    for i in range(3):
        for j in range(4):
            full[:, 2 * i : 2 * i + 5, 2 * j : 2 * j + 5] += np.einsum(
                "bc,klcd->bkld", x[:, i, j], kernel
            )
    expected = full[:, 2 : 2 + 6, 2 : 2 + 8]
    np.testing.assert_allclose(layers.upsample_convolve(x, kernel), expected, atol=1e-5)


@pytest.mark.parametrize("side", [1, 2, 6])
def test_upsample_convolution_equals_dilated_form(side):
    def dilated(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel[::-1, ::-1],
            (1, 1),
            ((2, 3), (2, 3)),
            lhs_dilation=(2, 2),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    assert_same_with_gradients(
        layers.upsample_convolve, dilated, normal(2, side, side, 3), normal(5, 5, 3, 4, seed=1)
    )


@pytest.mark.parametrize("side", [1, 2, 4, 7])
def test_convolution_of_doubled_pixels_equals_plain(side):
    rng = np.random.default_rng(side)
    x = jnp.asarray(rng.normal(size=(2, side, side + 1, 3)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 3, 5)), jnp.float32)
    weight = jnp.asarray(rng.normal(size=(2, 2 * side, 2 * side + 2, 5)), jnp.float32)

    def plain(x, kernel):
        doubled = jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)
        return jax.lax.conv_general_dilated(
            doubled, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def value_and_gradients(function):
        y, pull = jax.vjp(function, x, kernel)
        return y, *pull(weight)

    found = value_and_gradients(layers.nearest_upsample_convolve)
    for a, b in zip(found, value_and_gradients(plain), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * float(jnp.abs(b).max()))


def test_convolution_of_doubled_pixels_has_the_parameters_of_a_convolution():
    x, key = jnp.ones((1, 2, 2, 3)), jax.random.key(0)
    found = layers.NearestUpsampleConv(5).init(key, x)["params"]
    plain = layers.Conv(5).init(key, x)["params"]
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), found, plain))
