"""Norms, pools and attention against NumPy; all layers against PyTorch."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from layer_gradients import assert_same_with_gradients, normal

from ddb_jax.models import layers
from ddb_jax.models.attention import SelfAttention


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
