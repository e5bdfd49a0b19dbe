"""Layers that the UNet and the autoencoder of Stable Diffusion share, for images [B, H, W, C].

Names of submodules are those of the published tensors, with list indices joined by underscore.
Parameters are float32; `dtype` is that of the computation; norms are computed in float32.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

ZEROS = nn.initializers.zeros  # of the last layer of a residual branch: it begins as the identity


class Conv(nn.Module):
    """Convolution with a square kernel; `padding` is (before, after), of rows as of columns."""

    features: int
    kernel_size: int = 3
    stride: int = 1
    padding: tuple[int, int] | None = None  # None keeps the sides at stride 1
    kernel_init: Callable = nn.initializers.lecun_normal()  # as nn.Dense has it
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, I] -> [B, H', W', features] in `dtype`."""
        size, step = self.kernel_size, self.stride
        pad = self.padding or ((size - 1) // 2,) * 2
        kernel = self.param("kernel", self.kernel_init, (size, size, x.shape[-1], self.features))
        bias = self.param("bias", ZEROS, (self.features,))
        x, kernel, bias = (a.astype(self.dtype) for a in (x, kernel, bias))
        height, width = ((side + sum(pad) - size) // step + 1 for side in x.shape[1:3])
        # XLA on CPU has no fast path for maps smaller than the kernel, or for their gradients:
        # there the taps are gathered and multiplied as one matrix.
        smallest = min(height * width, x.shape[1] * x.shape[2])
        if size > 1 and smallest < size**2 and jax.default_backend() == "cpu":
            x = jnp.pad(x, ((0, 0), pad, pad, (0, 0)))
            rows, columns = (step * (side - 1) + 1 for side in (height, width))
            taps = [
                x[:, i : i + rows : step, j : j + columns : step]
                for i in range(size)
                for j in range(size)
            ]
            return jnp.concatenate(taps, -1) @ kernel.reshape(-1, self.features) + bias
        y = jax.lax.conv_general_dilated(
            x, kernel, (step, step), (pad, pad), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return y + bias


class GroupNorm(nn.Module):
    """Group normalisation (Wu & He 2018) over exactly `num_groups` groups."""

    num_groups: int
    eps: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, C] in `dtype`; num_groups divides C."""
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", ZEROS, (channels,))
        x = x.astype(jnp.float32)

        def group_mean(values: jax.Array) -> jax.Array:
            """Per channel first, over the large axes; then over the channels of a group."""
            groups = values.mean((1, 2)).reshape(len(x), self.num_groups, -1)
            return groups.mean(-1).repeat(channels // self.num_groups, axis=-1)[:, None, None]

        # Two passes: published autoencoders have means that dwarf the deviations.
        x -= group_mean(x)
        inverse = jax.lax.rsqrt(group_mean(jnp.square(x)) + self.eps)
        return (x * (inverse * scale) + bias).astype(self.dtype)


def attend(q: jax.Array, k: jax.Array, v: jax.Array, num_heads: int) -> jax.Array:
    """Attention of q [B, T, C] to k and v [B, S, C] in heads -> [B, T, C]; softmax in float32."""
    q, k, v = (a.reshape(*a.shape[:2], num_heads, -1) for a in (q, k, v))
    y = jax.nn.dot_product_attention(q, k, v)
    return y.reshape(*y.shape[:2], -1)


class ResnetBlock(nn.Module):
    """Two 3x3 convolutions with a residual; the embedding of the time is added between them."""

    features: int
    norm_num_groups: int
    norm_eps: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, time: jax.Array | None = None) -> jax.Array:
        """[B, H, W, I] and, in a UNet, [B, E] -> [B, H, W, features]."""

        def norm(name: str) -> GroupNorm:
            return GroupNorm(self.norm_num_groups, self.norm_eps, self.dtype, name=name)

        h = Conv(self.features, dtype=self.dtype, name="conv1")(nn.silu(norm("norm1")(x)))
        if time is not None:
            dense = nn.Dense(self.features, dtype=self.dtype, name="time_emb_proj")
            h += dense(nn.silu(time))[:, None, None]
        h = nn.silu(norm("norm2")(h))
        h = Conv(self.features, kernel_init=ZEROS, dtype=self.dtype, name="conv2")(h)
        if x.shape[-1] != self.features:
            x = Conv(self.features, kernel_size=1, dtype=self.dtype, name="conv_shortcut")(x)
        return x + h


class Downsample(nn.Module):
    """A 3x3 convolution with stride 2."""

    padding: tuple[int, int]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H/2, W/2, C], H and W even."""
        return Conv(x.shape[-1], 3, 2, self.padding, dtype=self.dtype, name="conv")(x)


class Upsample(nn.Module):
    """Repeats each pixel, then convolves."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, 2H, 2W, C]."""
        x = x.repeat(2, axis=1).repeat(2, axis=2)
        return Conv(x.shape[-1], dtype=self.dtype, name="conv")(x)


class DownBlock(nn.Module):
    """A level on the way down: ResNet blocks, each followed by `attention`, then half the sides."""

    num_layers: int
    resnet: Callable[..., nn.Module]  # called with the name
    attention: Callable[..., nn.Module] | None  # the same; None is a level without
    downsample: bool
    padding: tuple[int, int] = (1, 1)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, time: jax.Array | None = None, context: jax.Array | None = None
    ) -> list[jax.Array]:
        """Every output on the way, the last of them that of the level."""
        outputs = []
        for i in range(self.num_layers):
            x = self.resnet(name=f"resnets_{i}")(x, time)
            if self.attention is not None:
                x = self.attention(name=f"attentions_{i}")(x, context)
            outputs.append(x)
        if self.downsample:
            outputs.append(Downsample(self.padding, self.dtype, name="downsamplers_0")(x))
        return outputs


class UpBlock(nn.Module):
    """A level on the way up: ResNet blocks, each followed by `attention`, then twice the sides.

    In a UNet a skip [B, H, W, S] from the way down joins the input of each ResNet block, the last
    of `skips` first.
    """

    num_layers: int
    resnet: Callable[..., nn.Module]
    attention: Callable[..., nn.Module] | None
    upsample: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        skips: list[jax.Array] | None = None,
        time: jax.Array | None = None,
        context: jax.Array | None = None,
    ) -> jax.Array:
        """[B, H, W, I] -> [B, H', W', O]."""
        for i in range(self.num_layers):
            if skips is not None:
                x = jnp.concatenate([x, skips[-1 - i]], axis=-1)
            x = self.resnet(name=f"resnets_{i}")(x, time)
            if self.attention is not None:
                x = self.attention(name=f"attentions_{i}")(x, context)
        return Upsample(self.dtype, name="upsamplers_0")(x) if self.upsample else x


class MidBlock(nn.Module):
    """ResNet block, attention, ResNet block."""

    resnet: Callable[..., nn.Module]
    attention: Callable[..., nn.Module]

    @nn.compact
    def __call__(
        self, x: jax.Array, time: jax.Array | None = None, context: jax.Array | None = None
    ) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, C]."""
        x = self.resnet(name="resnets_0")(x, time)
        x = self.attention(name="attentions_0")(x, context)
        return self.resnet(name="resnets_1")(x, time)
