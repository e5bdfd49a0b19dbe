"""Self-attention over the pixels of a feature map."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ddb_jax.models.layers import GroupNorm, torch_uniform


class SelfAttention(nn.Module):
    """x + out(attention(q, k, v)), with q, k and v linear in GroupNorm(x) (Ho et al. 2020).

    Logits are scaled by head_channels ** -0.5, and the softmax is in float32.
    """

    num_heads: int = 1
    out_init: Callable = torch_uniform
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, C].

        Raises:
            ValueError: If num_heads does not divide C.
        """
        batch, height, width, channels = x.shape
        if channels % self.num_heads:
            raise ValueError(f"{self.num_heads} attention heads do not divide {channels} channels")
        h = GroupNorm(dtype=self.dtype, name="norm")(x)
        q, k, v = (
            nn.Dense(channels, kernel_init=torch_uniform, dtype=self.dtype, name=name)(h).reshape(
                batch, height * width, self.num_heads, channels // self.num_heads
            )
            for name in ("q", "k", "v")
        )
        h = jax.nn.dot_product_attention(q, k, v).reshape(x.shape)
        return x + nn.Dense(channels, kernel_init=self.out_init, dtype=self.dtype, name="out")(h)
