"""The transformer over the pixels of a map, with cross-attention to text, of Stable Diffusion."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ddb_jax.text_to_image.layers import ZEROS, Conv, GroupNorm, attend


class Attention(nn.Module):
    """Attention in heads of x to the context, or to x itself."""

    num_heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, context: jax.Array | None = None) -> jax.Array:
        """[B, T, C] and [B, S, D] -> [B, T, C]."""
        context = x if context is None else context
        dense = partial(nn.Dense, x.shape[-1], dtype=self.dtype)
        q = dense(use_bias=False, name="to_q")(x)
        k = dense(use_bias=False, name="to_k")(context)
        v = dense(use_bias=False, name="to_v")(context)
        return dense(name="to_out_0")(attend(q, k, v, self.num_heads))


class GatedGelu(nn.Module):
    """GEGLU: one half of a linear layer's outputs, times GELU of the other (Shazeer 2020)."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, T, C] -> [B, T, features]."""
        dense = nn.Dense(2 * self.features, dtype=self.dtype, name="proj")
        linear, gate = jnp.split(dense(x), 2, axis=-1)
        return linear * nn.gelu(gate, approximate=False)


class FeedForward(nn.Module):
    """GEGLU of four times the width, then a linear layer back."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, T, C] -> [B, T, C]."""
        h = GatedGelu(4 * x.shape[-1], self.dtype, name="net_0")(x)
        return nn.Dense(x.shape[-1], dtype=self.dtype, name="net_2")(h)


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention and feed-forward, each after LayerNorm, with residuals."""

    num_heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, context: jax.Array) -> jax.Array:
        """[B, T, C] and [B, S, D] -> [B, T, C]."""
        norm = partial(nn.LayerNorm, epsilon=1e-5, use_fast_variance=False, dtype=self.dtype)
        x += Attention(self.num_heads, self.dtype, name="attn1")(norm(name="norm1")(x))
        x += Attention(self.num_heads, self.dtype, name="attn2")(norm(name="norm2")(x), context)
        return x + FeedForward(self.dtype, name="ff")(norm(name="norm3")(x))


class SpatialTransformer(nn.Module):
    """A transformer block over the pixels of a map, between two projections, with a residual.

    The projections are 1x1 convolutions, or the linear layers that are the same: only the shape of
    their kernels differs.
    """

    num_heads: int
    norm_num_groups: int
    use_linear_projection: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, context: jax.Array) -> jax.Array:
        """[B, H, W, C] and [B, S, D] -> [B, H, W, C]."""
        batch, height, width, channels = x.shape
        project = partial(nn.Dense, channels, dtype=self.dtype)
        if not self.use_linear_projection:
            project = partial(Conv, channels, kernel_size=1, dtype=self.dtype)
        h = GroupNorm(self.norm_num_groups, 1e-6, self.dtype, name="norm")(x)
        h = project(name="proj_in")(h).reshape(batch, height * width, channels)
        h = TransformerBlock(self.num_heads, self.dtype, name="transformer_blocks_0")(h, context)
        return x + project(kernel_init=ZEROS, name="proj_out")(h.reshape(x.shape))
