"""The text encoder of CLIP (Radford et al. 2021), whose hidden states condition Stable Diffusion.

Names of submodules are those of the published tensors, with list indices joined by underscore.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

PREFIX = "text_model."


def quick_gelu(x: jax.Array) -> jax.Array:
    """x * sigmoid(1.702 x), which OpenAI's CLIP has in place of GELU (Hendrycks & Gimpel 2016)."""
    return x * nn.sigmoid(1.702 * x)


ACTIVATIONS = {"quick_gelu": quick_gelu, "gelu": partial(nn.gelu, approximate=False)}


class Embeddings(nn.Module):
    """Embeddings of the tokens plus those of their positions."""

    vocab_size: int
    hidden_size: int
    max_position_embeddings: int

    @nn.compact
    def __call__(self, input_ids: jax.Array) -> jax.Array:
        """int [B, T], T <= max_position_embeddings -> float32 [B, T, D]."""
        # Standard deviations of OpenAI's CLIP.
        tokens = nn.Embed(
            self.vocab_size,
            self.hidden_size,
            embedding_init=nn.initializers.normal(0.02),
            name="token_embedding",
        )
        positions = nn.Embed(
            self.max_position_embeddings,
            self.hidden_size,
            embedding_init=nn.initializers.normal(0.01),
            name="position_embedding",
        )
        return tokens(input_ids) + positions(jnp.arange(input_ids.shape[1]))


class CausalSelfAttention(nn.Module):
    """Attention of each token to itself and to those before it; softmax in float32."""

    num_heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, T, D] -> [B, T, D]."""
        dense = partial(nn.Dense, x.shape[-1], dtype=self.dtype)
        q, k, v = (
            dense(name=name)(x).reshape(*x.shape[:2], self.num_heads, -1)
            for name in ("q_proj", "k_proj", "v_proj")
        )
        h = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        return dense(name="out_proj")(h.reshape(x.shape))


class Mlp(nn.Module):
    """Dense, activation, Dense."""

    intermediate_size: int
    activation: Callable[[jax.Array], jax.Array]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, T, D] -> [B, T, D]."""
        h = nn.Dense(self.intermediate_size, dtype=self.dtype, name="fc1")(x)
        return nn.Dense(x.shape[-1], dtype=self.dtype, name="fc2")(self.activation(h))


class EncoderLayer(nn.Module):
    """Attention, then the MLP, each of the normalised input and added to it."""

    num_heads: int
    intermediate_size: int
    activation: Callable[[jax.Array], jax.Array]
    layer_norm_eps: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, T, D] -> [B, T, D]."""
        norm = partial(nn.LayerNorm, epsilon=self.layer_norm_eps)
        attention = CausalSelfAttention(self.num_heads, self.dtype, name="self_attn")
        mlp = Mlp(self.intermediate_size, self.activation, self.dtype, name="mlp")
        x += attention(norm(name="layer_norm1")(x))
        return x + mlp(norm(name="layer_norm2")(x))


class Encoder(nn.Module):
    """A stack of layers."""

    num_layers: int
    layer: Callable[..., nn.Module]  # called with the name

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, T, D] -> [B, T, D]."""
        for i in range(self.num_layers):
            x = self.layer(name=f"layers_{i}")(x)
        return x


class TextModel(nn.Module):
    """Embeddings, encoder and a last norm, as the published files group them."""

    embeddings: Callable[..., nn.Module]
    encoder: Callable[..., nn.Module]
    layer_norm_eps: float

    @nn.compact
    def __call__(self, input_ids: jax.Array) -> jax.Array:
        """int [B, T] -> float32 [B, T, D]."""
        x = self.encoder(name="encoder")(self.embeddings(name="embeddings")(input_ids))
        return nn.LayerNorm(epsilon=self.layer_norm_eps, name="final_layer_norm")(x)


class CLIPTextEncoder(nn.Module):
    """The text encoder; the defaults are those of a config.json that does not say.

    Parameters and norms are float32; `dtype` is that of the other computation.
    """

    vocab_size: int = 49408
    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"  # one of ACTIVATIONS
    layer_norm_eps: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, input_ids: jax.Array) -> jax.Array:
        """The last hidden state, after the last norm: int32 [B, T] -> float32 [B, T, hidden_size].

        Raises:
            ValueError: If the heads do not divide hidden_size, or T is above
                max_position_embeddings.
        """
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"num_attention_heads = {self.num_attention_heads} does not divide "
                f"hidden_size = {self.hidden_size}"
            )
        if input_ids.shape[1] > self.max_position_embeddings:
            raise ValueError(
                f"{input_ids.shape[1]} tokens are more than max_position_embeddings = "
                f"{self.max_position_embeddings}"
            )
        layer = partial(
            EncoderLayer,
            self.num_attention_heads,
            self.intermediate_size,
            ACTIVATIONS[self.hidden_act],
            self.layer_norm_eps,
            self.dtype,
        )
        text_model = TextModel(
            partial(Embeddings, self.vocab_size, self.hidden_size, self.max_position_embeddings),
            partial(Encoder, self.num_hidden_layers, layer),
            self.layer_norm_eps,
            name="text_model",
        )
        return text_model(input_ids)


def from_config(config: Mapping[str, Any], dtype: Any = jnp.float32) -> CLIPTextEncoder:
    """The encoder that a text_encoder/config.json describes; options of training are ignored.

    Raises:
        ValueError: If `hidden_act` is not supported, or padding is to be masked.
    """
    if config.get("use_attention_mask"):
        raise ValueError("use_attention_mask is not supported: padding is attended to")
    fields = CLIPTextEncoder.__dataclass_fields__.keys() - {"parent", "name", "dtype"}
    encoder = CLIPTextEncoder(**{k: config[k] for k in fields & config.keys()}, dtype=dtype)
    if encoder.hidden_act not in ACTIVATIONS:
        raise ValueError(
            f"hidden_act {encoder.hidden_act!r} is not supported; {', '.join(ACTIVATIONS)} are"
        )
    return encoder


def rename_unprefixed(names: Iterable[str]) -> dict[str, str]:
    """Each tensor's name in a file -> its published name.

    The transformers library has left out the leading "text_model." since version 5.
    """
    return {name: PREFIX + name.removeprefix(PREFIX) for name in names}
