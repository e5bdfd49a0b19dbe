"""The multi-layer perceptron of Learning from Failure (Nam et al. 2020), for small images."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ddb_jax.models.layers import torch_uniform

HIDDEN_LAYERS = 3


class Mlp(nn.Module):
    """Flattens the image; three hidden layers of `width` units with ReLU; then the head.

    Weights and biases begin as PyTorch's linear layers do: uniform in +-1/sqrt(fan_in).
    Parameters are float32, and so are the head and the features, whatever `dtype` is.
    """

    num_classes: int
    width: int = 100
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
        """Logits float32 [B, num_classes] and the last hidden activations [B, width].

        Images [B, H, W, C] of one size only; `train` changes nothing.
        """
        del train
        h = x.reshape(x.shape[0], -1)
        for i in range(HIDDEN_LAYERS):
            h = nn.relu(linear(self.width, h.shape[-1], self.dtype, f"hidden_{i}")(h))
        features = h.astype(jnp.float32)
        return linear(self.num_classes, self.width, jnp.float32, "head")(features), features


def linear(features: int, fan_in: int, dtype: Any, name: str) -> nn.Dense:
    """A linear layer initialised as PyTorch's."""
    bound = 1 / math.sqrt(fan_in)

    def bias_init(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return nn.Dense(
        features, kernel_init=torch_uniform, bias_init=bias_init, dtype=dtype, name=name
    )
