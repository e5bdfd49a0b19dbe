"""Depthwise convolutions and TensorFlow's padding, in forms that suit XLA's CPU backend."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ddb_jax.models.layers import Padding, convolve

# TensorFlow's initialisation of EfficientNet's convolutions.
kaiming_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
depthwise_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


def same_padding(side: int, kernel_size: int, stride: int) -> tuple[int, int]:
    """TensorFlow's "SAME": ceil(side / stride) outputs, an odd pixel of padding at the end."""
    total = max((-(-side // stride) - 1) * stride + kernel_size - side, 0)
    return total // 2, total - total // 2


def depthwise_convolve(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    """Every channel of x [B, H, W, C] with its own filter of kernel [kh, kw, 1, C], zero-padded.

    XLA's CPU backend has no fast path for grouped convolutions. There the shifted images are
    weighted and summed: a pass of the whole of EfficientNet-Lite0 is four to six times as fast, the
    gradient of one layer twenty times and more.
    """
    if jax.default_backend() != "cpu":
        return plain_depthwise_convolve(x, kernel, stride, padding)
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    rows, columns = (
        [slice(i, x.shape[axis] - k + i + 1, stride) for i in range(k)]
        for axis, k in ((1, kernel.shape[0]), (2, kernel.shape[1]))
    )
    terms = [
        x[:, r, c] * kernel[i, j, 0] for i, r in enumerate(rows) for j, c in enumerate(columns)
    ]
    return functools.reduce(jnp.add, terms)


def plain_depthwise_convolve(
    x: jax.Array, kernel: jax.Array, stride: int, padding: Padding
) -> jax.Array:
    """The same as one grouped convolution, which suits accelerators."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


class SameConv(nn.Module):
    """Convolution without bias, padded as TensorFlow's "SAME"; `depthwise` keeps channels apart.

    The parameter `kernel` is float32 [k, k, I, O]; depthwise [k, k, 1, C].
    """

    features: int
    kernel_size: int = 1
    stride: int = 1
    depthwise: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, I] -> [B, ceil(H / stride), ceil(W / stride), features] in `dtype`."""
        k = self.kernel_size
        shape = (k, k, 1 if self.depthwise else x.shape[-1], self.features)
        init = depthwise_normal if self.depthwise else kaiming_normal
        kernel = self.param("kernel", init, shape).astype(self.dtype)
        padding = tuple(same_padding(side, k, self.stride) for side in x.shape[1:3])
        multiply = depthwise_convolve if self.depthwise else convolve
        return multiply(x.astype(self.dtype), kernel, self.stride, padding)
