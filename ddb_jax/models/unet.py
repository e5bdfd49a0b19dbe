"""The class-conditional UNet that predicts the noise (or v) of an image [B, H, W, C].

Its default settings are those of the conditional diffusion model behind Diffusing DeBias
(arXiv 2502.09564), whose code follows Zou's classifier-free-guidance DDPM.
"""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ddb_jax.models.attention import SelfAttention
from ddb_jax.models.layers import Conv, GroupNorm, NearestUpsampleConv, UpsampleConv, torch_uniform

DOWNSAMPLE = ("paper", "conv")
UPSAMPLE = ("paper", "nearest")


def timestep_embedding(t: jax.Array, channels: int) -> jax.Array:
    """Sinusoids of the timesteps t [B] -> float32 [B, channels] (Vaswani et al. 2017, 3.5).

    Channels 2i and 2i + 1 are sin and cos of t / 10000 ** (2i / channels).

    Raises:
        ValueError: If `channels` is odd.
    """
    if channels % 2:
        raise ValueError(f"timestep embeddings need an even number of channels, not {channels}")
    frequencies = jnp.exp(jnp.arange(0, channels, 2) * (-math.log(10000) / channels))
    angles = t.astype(jnp.float32)[:, None] * frequencies
    return jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1).reshape(-1, channels)


class EmbeddingMlp(nn.Module):
    """Dense, swish, Dense: what turns a timestep or a class into the condition of the blocks."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, I] -> [B, features]."""
        for i in range(2):
            x = nn.swish(x) if i else x
            x = nn.Dense(self.features, kernel_init=torch_uniform, dtype=self.dtype)(x)
        return x


class ResBlock(nn.Module):
    """Two 3x3 convolutions with a residual; both conditions are added between them."""

    features: int
    dropout: float
    last_init: Callable
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, time: jax.Array, label: jax.Array, train: bool) -> jax.Array:
        """[B, H, W, I], [B, E], [B, E] -> [B, H, W, features]."""
        h = nn.swish(GroupNorm(dtype=self.dtype, name="norm_1")(x))
        h = Conv(self.features, dtype=self.dtype, name="conv_1")(h)
        for name, condition in (("time", time), ("label", label)):
            dense = nn.Dense(self.features, kernel_init=torch_uniform, dtype=self.dtype, name=name)
            h += dense(nn.swish(condition))[:, None, None]
        h = nn.swish(GroupNorm(dtype=self.dtype, name="norm_2")(h))
        h = nn.Dropout(self.dropout)(h, deterministic=not train)
        h = Conv(self.features, kernel_init=self.last_init, dtype=self.dtype, name="conv_2")(h)
        if x.shape[-1] != self.features:
            x = Conv(self.features, kernel_size=1, dtype=self.dtype, name="shortcut")(x)
        return x + h


class Downsample(nn.Module):
    """Halves the sides: a 3x3 convolution with stride 2, in the paper's form plus a 5x5 one."""

    form: str
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H/2, W/2, C]."""
        y = Conv(x.shape[-1], stride=2, dtype=self.dtype, name="conv_3")(x)
        if self.form == "paper":
            y += Conv(x.shape[-1], kernel_size=5, stride=2, dtype=self.dtype, name="conv_5")(x)
        return y


class Upsample(nn.Module):
    """Doubles the sides by a transposed convolution or by repeating pixels; then convolves."""

    form: str
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, 2H, 2W, C]."""
        if self.form == "nearest":
            return NearestUpsampleConv(x.shape[-1], dtype=self.dtype, name="conv")(x)
        x = UpsampleConv(x.shape[-1], dtype=self.dtype, name="transposed")(x)
        return Conv(x.shape[-1], dtype=self.dtype, name="conv")(x)


class UNet(nn.Module):
    """Network of (x_t, t, labels); the label `num_classes` stands for "no class".

    Every encoder block at a side in `attention_resolutions` is followed by self-attention, and so
    is the first block of the middle; the decoder has none. The paper's code freezes the embedding
    of "no class" at zero; here it is a trained row like the others.

    Parameters are float32 whatever `dtype` is. Random numbers: "dropout", in training only.
    """

    num_classes: int
    channels: int = 128
    channel_mults: tuple[int, ...] = (1, 2, 2, 2)  # one per level, from the full side down
    num_res_blocks: int = 2  # a level of the encoder; the decoder has one more
    attention_resolutions: tuple[int, ...] = (64, 32, 16, 8)
    num_heads: int = 1
    dropout: float = 0.15
    trainable_time_table: bool = False  # the sinusoids of num_timesteps as a trained table
    num_timesteps: int = 1000  # read by trainable_time_table only
    downsample: str = "paper"  # or "conv": without the 5x5 convolution
    upsample: str = "paper"  # or "nearest"
    zero_init_output: bool = True  # the last layer and that of every residual branch start at zero
    dtype: Any = jnp.float32
    remat: bool = False  # compute the blocks' inner values again for the gradient

    @nn.compact
    def __call__(self, x: jax.Array, t: jax.Array, labels: jax.Array, *, train: bool) -> jax.Array:
        """Predict from x_t [B, H, W, C], t int [B] and labels int [B]: float32 [B, H, W, C].

        Raises:
            ValueError: If a side is not divisible as the levels need, or a form is unknown.
        """
        self._check(x)
        last_init = nn.initializers.zeros if self.zero_init_output else torch_uniform
        time, label = self._conditions(t, labels)
        res_block, self_attention = ResBlock, SelfAttention
        if self.remat:
            # The argument `train` (self counts) is not an array.
            res_block = nn.remat(ResBlock, static_argnums=(4,))
            self_attention = nn.remat(SelfAttention)

        def block(h: jax.Array, features: int, name: str) -> jax.Array:
            layer = res_block(features, self.dropout, last_init, self.dtype, name=name)
            return layer(h, time, label, train)

        def attention(h: jax.Array, name: str) -> jax.Array:
            return self_attention(self.num_heads, last_init, self.dtype, name=name)(h)

        levels = list(enumerate(self.channel_mults))
        h = Conv(self.channels, dtype=self.dtype, name="stem")(x)
        skips = [h]
        for level, mult in levels:
            for i in range(self.num_res_blocks):
                h = block(h, self.channels * mult, f"down_{level}_block_{i}")
                if h.shape[1] in self.attention_resolutions:
                    h = attention(h, f"down_{level}_attention_{i}")
                skips.append(h)
            if level < len(levels) - 1:
                h = Downsample(self.downsample, self.dtype, name=f"down_{level}_downsample")(h)
                skips.append(h)

        h = block(h, h.shape[-1], "mid_block_0")
        h = attention(h, "mid_attention")
        h = block(h, h.shape[-1], "mid_block_1")

        for level, mult in reversed(levels):
            for i in range(self.num_res_blocks + 1):
                h = jnp.concatenate([h, skips.pop()], axis=-1)
                h = block(h, self.channels * mult, f"up_{level}_block_{i}")
            if level > 0:
                h = Upsample(self.upsample, self.dtype, name=f"up_{level}_upsample")(h)
        assert not skips

        h = nn.swish(GroupNorm(dtype=self.dtype, name="head_norm")(h))
        h = Conv(x.shape[-1], kernel_init=last_init, dtype=self.dtype, name="head")(h)
        return h.astype(jnp.float32)

    def _check(self, x: jax.Array) -> None:
        """Raise ValueError for images or settings that the layers cannot take."""
        factor = 2 ** (len(self.channel_mults) - 1)
        if x.shape[1] % factor or x.shape[2] % factor:
            raise ValueError(
                f"a UNet of {len(self.channel_mults)} levels needs image sides divisible by "
                f"{factor}, not {x.shape[1]}x{x.shape[2]}"
            )
        for field, known in (("downsample", DOWNSAMPLE), ("upsample", UPSAMPLE)):
            if getattr(self, field) not in known:
                raise ValueError(f"{field} is one of {known}, not {getattr(self, field)!r}")

    def _conditions(self, t: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The embeddings of timesteps and of classes, each [B, 4 * channels]."""
        if self.trainable_time_table:
            time = nn.Embed(
                self.num_timesteps,
                self.channels,
                embedding_init=lambda _, shape, dtype: timestep_embedding(
                    jnp.arange(shape[0]), shape[1]
                ).astype(dtype),
                name="time_table",
            )(t)
        else:
            time = timestep_embedding(t, self.channels)
        label = nn.Embed(
            self.num_classes + 1,
            self.channels,
            embedding_init=nn.initializers.normal(1.0),
            name="label_table",
        )(labels)
        width = 4 * self.channels
        return (
            EmbeddingMlp(width, self.dtype, name="time_mlp")(time),
            EmbeddingMlp(width, self.dtype, name="label_mlp")(label),
        )
