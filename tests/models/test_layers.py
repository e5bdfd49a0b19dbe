"""Layers against NumPy, against the plain forms that XLA offers, and against PyTorch."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddb_jax.models import layers
from ddb_jax.models.attention import SelfAttention


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def plain_convolve(x, kernel, stride, padding):
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def value_and_gradients(function, x, kernel, weight):
    """function(x, kernel) and the gradients of its sum weighted by `weight`, in one program."""

    def run(x, kernel):
        y, pull = jax.vjp(function, x, kernel)
        return y, *pull(weight)

    return jax.jit(run)(x, kernel)


def assert_same_with_gradients(function, plain, x, kernel, tolerance=1e-4):
    weight = normal(*jax.eval_shape(plain, x, kernel).shape, seed=2)
    results = (value_and_gradients(f, x, kernel, weight) for f in (function, plain))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance)


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


@pytest.mark.parametrize(("channels", "groups"), [(192, 32), (72, 18), (20, 5), (3, 1), (37, 1)])
def test_group_norm(channels, groups):
    x = 3 + 2 * normal(2, 4, 5, channels)
    scale, bias = normal(channels, seed=1), normal(channels, seed=2)
    grouped = x.astype(np.float64).reshape(2, 20, groups, -1)
    mean, var = grouped.mean((1, 3), keepdims=True), grouped.var((1, 3), keepdims=True)
    expected = ((grouped - mean) / np.sqrt(var + 1e-5)).reshape(x.shape) * scale + bias
    y = layers.GroupNorm().apply({"params": {"scale": scale, "bias": bias}}, x)
    np.testing.assert_allclose(y, expected, atol=1e-4)


def test_group_norm_of_bfloat16_keeps_float32_statistics():
    # Half precision loses the small terms of a sum over 4,096 pixels of mean 3.
    x = jnp.asarray(3 + normal(1, 64, 64, 2), jnp.bfloat16)
    y = layers.GroupNorm(num_groups=1, dtype=jnp.bfloat16).apply(
        {"params": {"scale": np.ones(2, np.float32), "bias": np.zeros(2, np.float32)}}, x
    )
    exact = np.asarray(x, np.float64)
    expected = (exact - exact.mean()) / exact.std()
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(y, np.float64), expected, rtol=2**-8, atol=1e-4)


def test_batch_norm():
    x = 2 + 3 * normal(3, 2, 2, 4)
    scale, bias = normal(4, seed=1), normal(4, seed=2)
    variables = {
        "params": {"scale": scale, "bias": bias},
        "batch_stats": {"mean": np.full(4, 0.5, np.float32), "var": np.full(4, 2.0, np.float32)},
    }
    norm = layers.BatchNorm()
    y, updates = norm.apply(variables, x, train=True, mutable=["batch_stats"])
    values = x.reshape(-1, 4).astype(np.float64)
    expected = (x - values.mean(0)) / np.sqrt(values.var(0) + 1e-5) * scale + bias
    np.testing.assert_allclose(y, expected, atol=1e-5)
    np.testing.assert_allclose(
        updates["batch_stats"]["mean"], 0.9 * 0.5 + 0.1 * values.mean(0), rtol=1e-5
    )
    np.testing.assert_allclose(
        updates["batch_stats"]["var"], 0.9 * 2.0 + 0.1 * values.var(0, ddof=1), rtol=1e-5
    )

    y = norm.apply(variables, x, train=False)
    expected = (x - 0.5) / np.sqrt(2.0 + 1e-5) * scale + bias
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_batch_norm_initialises_to_zero_mean_and_unit_variance():
    stats = layers.BatchNorm().init(jax.random.key(0), 5 + normal(2, 2, 2, 3), train=True)[
        "batch_stats"
    ]
    np.testing.assert_array_equal(stats["mean"], 0)
    np.testing.assert_array_equal(stats["var"], 1)


def test_batch_norm_of_one_value_is_an_error():
    with pytest.raises(ValueError, match="one value a channel"):
        layers.BatchNorm().init(jax.random.key(0), jnp.zeros((1, 1, 1, 3)), train=True)


@pytest.mark.parametrize("side", [1, 4, 7])
def test_max_pool_equals_reduce_window(side):
    def plain(x):
        padding = ((0, 0), (1, 1), (1, 1), (0, 0))
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), padding)

    x = normal(2, side, side + 1, 3) - 5  # below zero: padding with zeros would show
    assert_same_with_gradients(
        lambda x, _: layers.max_pool(x), lambda x, _: plain(x), x, np.zeros(1, np.float32)
    )


def test_global_average_pool():
    x = jnp.asarray([[[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [8.0, 8.0]]]], jnp.bfloat16)
    y = layers.global_average_pool(x)
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y, [[4.25, 5.0]])


def test_self_attention():
    x, heads = normal(2, 2, 3, 8), 2
    attention = SelfAttention(heads)
    params = attention.init(jax.random.key(0), x)["params"]
    params = jax.tree.map(lambda p: normal(*p.shape, seed=p.size), params)
    flat = x.astype(np.float64).reshape(2, 6, 8)
    h = flat.reshape(2, 6, 2, 4)  # two groups of four channels
    h = (h - h.mean((1, 3), keepdims=True)) / np.sqrt(h.var((1, 3), keepdims=True) + 1e-5)
    h = h.reshape(2, 6, 8) * params["norm"]["scale"] + params["norm"]["bias"]
    q, k, v = (h @ params[n]["kernel"] + params[n]["bias"] for n in "qkv")
    expected = flat.copy()
    for image in range(2):
        mixed = []
        for head in range(heads):
            c = slice(4 * head, 4 * head + 4)
            weights = np.exp(q[image][:, c] @ k[image][:, c].T / math.sqrt(4))
            mixed.append(weights / weights.sum(1, keepdims=True) @ v[image][:, c])
        out = np.concatenate(mixed, axis=1) @ params["out"]["kernel"] + params["out"]["bias"]
        expected[image] += out
    y = attention.apply({"params": params}, x)
    np.testing.assert_allclose(y.reshape(2, 6, 8), expected, atol=1e-3)


def test_self_attention_needs_heads_that_divide_the_channels():
    with pytest.raises(ValueError, match="3 attention heads do not divide 8 channels"):
        SelfAttention(3).init(jax.random.key(0), jnp.zeros((1, 2, 2, 8)))


@pytest.mark.parity
def test_equal_to_pytorch():
    torch = pytest.importorskip("torch", reason="compares with PyTorch where it is installed")
    functional = torch.nn.functional

    def channels_first(x):
        return torch.tensor(np.moveaxis(x, -1, 1).copy(), requires_grad=True)

    x, scale, bias = normal(2, 6, 7, 8), normal(8, seed=3), normal(8, seed=4)
    kernel = normal(5, 5, 8, 8, seed=5)
    forward = torch.tensor(kernel.transpose(3, 2, 0, 1).copy())  # O, I, k, k
    transposed = torch.tensor(kernel.transpose(2, 3, 0, 1).copy())  # I, O, k, k
    affine = {"params": {"scale": scale, "bias": bias}}
    running = {"mean": np.zeros(8, np.float32), "var": np.ones(8, np.float32)}

    def batch_norm(x):
        variables = affine | {"batch_stats": running}
        return layers.BatchNorm().apply(variables, x, train=True, mutable=["batch_stats"])[0]

    pairs = {
        "conv": (
            lambda x: layers.convolve(x, kernel, 2, ((2, 2), (2, 2))),
            lambda x: functional.conv2d(x, forward, stride=2, padding=2),
        ),
        "upsample_conv": (
            lambda x: layers.upsample_convolve(x, kernel),
            lambda x: functional.conv_transpose2d(
                x, transposed, stride=2, padding=2, output_padding=1
            ),
        ),
        "group_norm": (
            lambda x: layers.GroupNorm(num_groups=2).apply(affine, x),
            lambda x: functional.group_norm(x, 2, torch.tensor(scale), torch.tensor(bias)),
        ),
        "batch_norm": (
            batch_norm,
            lambda x: functional.batch_norm(
                x, None, None, torch.tensor(scale), torch.tensor(bias), training=True
            ),
        ),
        "max_pool": (layers.max_pool, lambda x: functional.max_pool2d(x, 3, 2, 1)),
    }
    for name, (ours, theirs) in pairs.items():
        expected_input = channels_first(x)
        expected = theirs(expected_input)
        y, pull = jax.vjp(ours, x)
        weight = normal(*y.shape, seed=6)
        expected.backward(channels_first(weight).detach())
        for a, b in ((y, expected.detach()), (pull(weight)[0], expected_input.grad)):
            np.testing.assert_allclose(
                np.moveaxis(np.asarray(a), -1, 1), b.numpy(), atol=1e-4, err_msg=name
            )


def test_gradient_of_group_norm():
    # Flax's two-group norm, with PyTorch's epsilon, is an independent gradient.
    x = normal(4, 3, 3, 8)
    ours, theirs = layers.GroupNorm(), nn.GroupNorm(num_groups=2, epsilon=1e-5)
    params = {"params": {"scale": normal(8, seed=1), "bias": normal(8, seed=2)}}
    weight = normal(*x.shape, seed=3)
    a, b = (
        jax.jit(jax.grad(lambda p, x, m=m: (m.apply(p, x) * weight).sum(), (0, 1)))(params, x)
        for m in (ours, theirs)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), a, b)
