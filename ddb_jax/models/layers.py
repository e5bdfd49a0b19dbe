"""Convolutions, norms and pooling of images [B, H, W, C], in forms that suit XLA's CPU backend.

All workarounds for that backend are here, and in `depthwise.py`: im2col for maps smaller than the
kernel, transposed convolution and convolution of doubled pixels by phases, one-pass norms, and
max-pooling by shifted slices. Each computes what the plain form computes; im2col and doubled pixels
by phases are kept to the CPU. The arithmetic is PyTorch's.
"""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Padding = tuple[tuple[int, int], tuple[int, int]]

# PyTorch's default for weights of convolutions and linear layers: uniform in +-1/sqrt(fan_in).
torch_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def convolve(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    """Cross-correlation of x [B, H, W, I] with kernel [kh, kw, I, O], zero-padded.

    On CPU, XLA exchanges the roles of input and kernel where the kernel has more taps than the
    input or the output has pixels, and no fast path takes the result (100 times slower). There the
    patches are gathered and multiplied as one matrix.
    """
    kh, kw = kernel.shape[:2]
    in_sides = x.shape[1:3]
    out_sides = [
        (side + sum(pad) - k) // stride + 1
        for side, pad, k in zip(in_sides, padding, (kh, kw), strict=True)
    ]
    tiny = min(math.prod(in_sides), math.prod(out_sides)) < kh * kw
    if not (tiny and jax.default_backend() == "cpu"):
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    # Taps that only see padding (eight of nine over a single pixel) are left out.
    taps = [
        range(max(0, pad[0] - stride * (out - 1)), min(k, side + pad[0]))
        for k, side, out, pad in zip((kh, kw), in_sides, out_sides, padding, strict=True)
    ]
    kernel = kernel[taps[0].start : taps[0].stop, taps[1].start : taps[1].stop]
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    rows, columns = (
        [slice(i, i + stride * (out - 1) + 1, stride) for i in of_axis]
        for of_axis, out in zip(taps, out_sides, strict=True)
    )
    patches = jnp.concatenate([x[:, r, c] for r in rows for c in columns], axis=-1)
    return jnp.einsum("bhwk,ko->bhwo", patches, kernel.reshape(-1, kernel.shape[-1]))


class Conv(nn.Module):
    """Convolution with a square kernel, zero-padded by `padding` pixels on every side.

    Parameters are float32: `kernel` [k, k, I, O], by default initialised as PyTorch does, and
    `bias` [O], zero at first. The computation and the output are in `dtype`.
    """

    features: int
    kernel_size: int = 3
    stride: int = 1
    padding: int | None = None  # None is (kernel_size - 1) // 2
    use_bias: bool = True
    kernel_init: Callable = torch_uniform
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, I] -> [B, H', W', O], H' = (H + 2 padding - k) // stride + 1."""
        k = self.kernel_size
        pad = (k - 1) // 2 if self.padding is None else self.padding
        kernel = self.param("kernel", self.kernel_init, (k, k, x.shape[-1], self.features))
        y = convolve(
            x.astype(self.dtype), kernel.astype(self.dtype), self.stride, ((pad, pad), (pad, pad))
        )
        if self.use_bias:
            y += self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        return y


def upsample_convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Transposed convolution of x [B, H, W, I] with kernel [5, 5, I, O] -> [B, 2H, 2W, O].

    PyTorch's with stride 2, padding 2 and output padding 1: out[2i - 2 + k] += x[i] kernel[k]. As
    a convolution of the dilated input its gradient is slow on CPU (100 times) and on CUDA
    (https://github.com/jax-ml/jax/issues/23783), so each of the four phases of the output is a
    separate convolution: an even place 2m takes x[m-1], x[m], x[m+1] with taps 4, 2, 0, an odd
    one 2m + 1 takes x[m], x[m+1] with taps 3, 1.
    """
    batch, height, width, _ = x.shape
    phases = [(slice(None, None, -2), (1, 1)), (slice(-2, None, -2), (0, 1))]  # even, odd
    y = jnp.stack(
        [
            jnp.stack(
                [convolve(x, kernel[rows, cols], 1, (pad_h, pad_w)) for cols, pad_w in phases],
                axis=3,
            )
            for rows, pad_h in phases
        ],
        axis=2,
    )  # [B, H, 2, W, 2, O]
    return y.reshape(batch, 2 * height, 2 * width, kernel.shape[-1])


class UpsampleConv(nn.Module):
    """The 5x5, stride-2 transposed convolution of `upsample_convolve`, with bias."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, I] -> [B, 2H, 2W, O]."""
        kernel = self.param("kernel", torch_uniform, (5, 5, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return upsample_convolve(x.astype(self.dtype), kernel.astype(self.dtype)) + bias.astype(
            self.dtype
        )


def nearest_upsample_convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Pixels of x [B, H, W, I] doubled, then convolved with kernel [3, 3, I, O] -> [B, 2H, 2W, O].

    Two of three neighbouring taps fall on one pixel of x: an even place 2m takes x[m-1] with tap 0
    and x[m] with taps 1 + 2, an odd one 2m + 1 takes x[m] with taps 0 + 1 and x[m+1] with tap 2.
    Four convolutions with 2x2 taps, one for each phase of the output, are 4/9 of the work. On GPUs,
    whose 3x3 kernels are the better tuned, the pixels are doubled.
    """
    if jax.default_backend() != "cpu":
        return convolve(x.repeat(2, axis=1).repeat(2, axis=2), kernel, 1, ((1, 1), (1, 1)))

    def phases(kernel: jax.Array, axis: int) -> list[tuple[jax.Array, tuple[int, int]]]:
        first, middle, last = jnp.split(kernel, 3, axis)
        even = jnp.concatenate([first, middle + last], axis)
        odd = jnp.concatenate([first + middle, last], axis)
        return [(even, (1, 0)), (odd, (0, 1))]

    y = jnp.stack(
        [
            jnp.stack(
                [convolve(x, taps, 1, (pad_h, pad_w)) for taps, pad_w in phases(rows, 1)], axis=3
            )
            for rows, pad_h in phases(kernel, 0)
        ],
        axis=2,
    )  # [B, H, 2, W, 2, O]
    batch, height, width, _ = x.shape
    return y.reshape(batch, 2 * height, 2 * width, kernel.shape[-1])


class NearestUpsampleConv(nn.Module):
    """Doubles the pixels and convolves, as of `nearest_upsample_convolve`; parameters as Conv's."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, I] -> [B, 2H, 2W, O]."""
        kernel = self.param("kernel", torch_uniform, (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        y = nearest_upsample_convolve(x.astype(self.dtype), kernel.astype(self.dtype))
        return y + bias.astype(self.dtype)


def channel_moments(x: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Float32 means of x and of x squared over `axes`: one pass over x."""
    x = x.astype(jnp.float32)
    return x.mean(axes), jnp.square(x).mean(axes)


class GroupNorm(nn.Module):
    """Group normalisation (Wu & He 2018), statistics in float32, epsilon as in PyTorch.

    The number of groups is the largest divisor of the channels that is at most `num_groups` and
    leaves at least `min_channels` to a group (Karras et al. 2022): a group of one channel would
    lose that channel's mean, and with it the colour of an image.
    """

    num_groups: int = 32
    min_channels: int = 4
    eps: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, C] in `dtype`."""
        channels = x.shape[-1]
        most = max(1, min(self.num_groups, channels // self.min_channels))
        groups = max(g for g in range(1, most + 1) if channels % g == 0)
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        # Per channel first, over the large axes; then over the channels of a group.
        mean, square = (
            m.reshape(-1, groups, channels // groups).mean(-1) for m in channel_moments(x, (1, 2))
        )
        inverse = jax.lax.rsqrt(jnp.maximum(square - mean**2, 0) + self.eps)
        mean, inverse = (jnp.repeat(s, channels // groups, axis=-1) for s in (mean, inverse))
        factor = inverse * scale
        shift = bias - mean * factor
        return (x * factor[:, None, None] + shift[:, None, None]).astype(self.dtype)


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe & Szegedy 2015), statistics in float32, as in PyTorch.

    The collection "batch_stats" holds the running `mean` and the running, unbiased `var`; momentum
    is the share of the old value that is kept (PyTorch's 0.1 is 0.9 here). Under `jit` with a
    sharded batch the statistics are those of the whole batch.
    """

    momentum: float = 0.9
    eps: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, C] in `dtype`; by the batch in training, else by the past.

        Raises:
            ValueError: In training, if there is one value a channel: its variance is undefined.
        """
        shape = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape)
        if train:
            count = math.prod(x.shape[:-1])
            if count == 1:
                raise ValueError(
                    f"batch normalisation cannot train on one value a channel (shape {x.shape}); "
                    "use larger batches or norm='group'"
                )
            mean, square = channel_moments(x, (0, 1, 2))
            var = jnp.maximum(square - mean**2, 0)
            if not self.is_initializing():
                keep = self.momentum
                unbiased = var * (count / (count - 1))
                running_mean.value = keep * running_mean.value + (1 - keep) * mean
                running_var.value = keep * running_var.value + (1 - keep) * unbiased
        else:
            mean, var = running_mean.value, running_var.value
        factor = jax.lax.rsqrt(var + self.eps) * scale
        return (x * factor + (bias - mean * factor)).astype(self.dtype)


def max_pool(x: jax.Array) -> jax.Array:
    """3x3 maximum with stride 2 and padding 1: [B, H, W, C] -> [B, (H+1)//2, (W+1)//2, C].

    Rows, then columns, of shifted slices. Where several inputs are largest they share the
    gradient, which PyTorch gives to the first; behind a ReLU that makes no difference.
    """
    for axis in (1, 2):
        out = (x.shape[axis] + 1) // 2
        pad = [(0, 0)] * x.ndim
        pad[axis] = (1, 1)
        padded = jnp.pad(x, pad, constant_values=-jnp.inf)
        a, b, c = (
            jax.lax.slice_in_dim(padded, i, i + 2 * (out - 1) + 1, 2, axis) for i in range(3)
        )
        x = jnp.maximum(jnp.maximum(a, b), c)
    return x


def global_average_pool(x: jax.Array) -> jax.Array:
    """Mean over the pixels in float32: [B, H, W, C] -> [B, C]."""
    return x.astype(jnp.float32).mean((1, 2))
