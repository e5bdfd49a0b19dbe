"""The autoencoder of Stable Diffusion: images [B, H, W, 3] to latents, and back.

A variational autoencoder with a KL penalty (Rombach et al. 2022, arXiv 2112.10752, appendix G).
Options, their defaults and the names of the parameters are those of the diffusers library's
AutoencoderKL.
"""

import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ddb_jax.text_to_image.layers import (
    ZEROS,
    Conv,
    DownBlock,
    GroupNorm,
    MidBlock,
    ResnetBlock,
    UpBlock,
    attend,
)
from ddb_jax.text_to_image.published_config import (
    check_block_types,
    check_norm_groups,
    check_sides,
    read_config,
)

DOWN_BLOCK_TYPES = ("DownEncoderBlock2D",)
UP_BLOCK_TYPES = ("UpDecoderBlock2D",)
# Options for which there is one way here. Any other is taken as switched off by None or False.
SUPPORTED = {
    "act_fn": ("silu", "swish"),
    "mid_block_add_attention": (True,),
    "use_post_quant_conv": (True,),
    "use_quant_conv": (True,),
}
IGNORED = ("force_upcast",)  # the caller chooses dtype
NORM_EPS = 1e-6
LOGVAR_RANGE = (-30.0, 20.0)
# Names of the layers of attention in files from before diffusers 0.15 -> those of today.
OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def rename_old(names: Iterable[str]) -> dict[str, str]:
    """Each published tensor's name -> its name today, which differs for attention in old files."""
    old = re.compile(rf"(?<=mid_block\.attentions\.0\.)({'|'.join(OLD_NAMES)})(?=\.)")
    return {name: old.sub(lambda match: OLD_NAMES[match[0]], name) for name in names}


class PixelAttention(nn.Module):
    """x + out(attention(q, k, v)) over the pixels, in one head, of GroupNorm(x)."""

    norm_num_groups: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, context: None = None) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, C]."""
        batch, height, width, channels = x.shape
        dense = partial(nn.Dense, channels, dtype=self.dtype)
        h = GroupNorm(self.norm_num_groups, NORM_EPS, self.dtype, name="group_norm")(x)
        h = h.reshape(batch, height * width, channels)
        q, k, v = (dense(name=name)(h) for name in ("to_q", "to_k", "to_v"))
        h = dense(kernel_init=ZEROS, name="to_out_0")(attend(q, k, v, num_heads=1))
        return x + h.reshape(x.shape)


class Encoder(nn.Module):
    """Images to the moments of latents, each level at half the side of the one before."""

    out_channels: int
    block_out_channels: tuple[int, ...]
    layers_per_block: int
    norm_num_groups: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, I] -> [B, h, w, out_channels]."""
        norm = {"norm_num_groups": self.norm_num_groups, "dtype": self.dtype}
        resnet = partial(ResnetBlock, norm_eps=NORM_EPS, **norm)
        channels = self.block_out_channels
        x = Conv(channels[0], dtype=self.dtype, name="conv_in")(x)
        for level, features in enumerate(channels):
            block = DownBlock(
                self.layers_per_block,
                resnet=partial(resnet, features),
                attention=None,
                downsample=level < len(channels) - 1,
                padding=(0, 1),
                dtype=self.dtype,
                name=f"down_blocks_{level}",
            )
            x = block(x)[-1]
        attention = partial(PixelAttention, **norm)
        x = MidBlock(partial(resnet, channels[-1]), attention, name="mid_block")(x)
        x = nn.silu(GroupNorm(self.norm_num_groups, NORM_EPS, self.dtype, name="conv_norm_out")(x))
        return Conv(self.out_channels, dtype=self.dtype, name="conv_out")(x)


class Decoder(nn.Module):
    """Latents to images: the encoder's levels in reverse, with one ResNet block more in each."""

    out_channels: int
    block_out_channels: tuple[int, ...]
    layers_per_block: int
    norm_num_groups: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """[B, h, w, L] -> [B, H, W, out_channels]."""
        norm = {"norm_num_groups": self.norm_num_groups, "dtype": self.dtype}
        resnet = partial(ResnetBlock, norm_eps=NORM_EPS, **norm)
        channels = self.block_out_channels[::-1]
        x = Conv(channels[0], dtype=self.dtype, name="conv_in")(z)
        attention = partial(PixelAttention, **norm)
        x = MidBlock(partial(resnet, channels[0]), attention, name="mid_block")(x)
        for i, features in enumerate(channels):
            block = UpBlock(
                self.layers_per_block + 1,
                resnet=partial(resnet, features),
                attention=None,
                upsample=i < len(channels) - 1,
                dtype=self.dtype,
                name=f"up_blocks_{i}",
            )
            x = block(x)
        x = nn.silu(GroupNorm(self.norm_num_groups, NORM_EPS, self.dtype, name="conv_norm_out")(x))
        return Conv(self.out_channels, dtype=self.dtype, name="conv_out")(x)


class AutoencoderKL(nn.Module):
    """Encoder and decoder; apply with method=AutoencoderKL.encode or .decode.

    Latents are as the decoder takes them. The UNet works on `scaling_factor` times them.
    """

    in_channels: int = 3
    out_channels: int = 3
    down_block_types: tuple[str, ...] = DOWN_BLOCK_TYPES  # one a level
    up_block_types: tuple[str, ...] = UP_BLOCK_TYPES
    block_out_channels: tuple[int, ...] = (64,)  # from the full side down
    layers_per_block: int = 1  # of the encoder; the decoder has one more
    latent_channels: int = 4
    norm_num_groups: int = 32
    sample_size: int = 32  # side of the images it was trained on; any other is taken
    scaling_factor: float = 0.18215  # 1 / standard deviation of the latents of the training set
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Create the parts."""
        check(self)
        sizes = {
            "block_out_channels": self.block_out_channels,
            "layers_per_block": self.layers_per_block,
            "norm_num_groups": self.norm_num_groups,
            "dtype": self.dtype,
        }
        self.encoder = Encoder(2 * self.latent_channels, **sizes)
        self.decoder = Decoder(self.out_channels, **sizes)
        self.quant_conv = Conv(2 * self.latent_channels, kernel_size=1, dtype=self.dtype)
        self.post_quant_conv = Conv(self.latent_channels, kernel_size=1, dtype=self.dtype)

    def encode(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean and log variance, float32 [B, h, w, L], of the latents of x [B, H, W, 3] in -1..1.

        Raises:
            ValueError: If the sides or the channels do not fit the network.
        """
        check_sides(x.shape[1], x.shape[2], len(self.block_out_channels))
        if x.shape[-1] != self.in_channels:
            raise ValueError(
                f"the autoencoder needs images of {self.in_channels} channels, not {x.shape[-1]}"
            )
        moments = self.quant_conv(self.encoder(x)).astype(jnp.float32)
        mean, logvar = jnp.split(moments, 2, axis=-1)
        return mean, jnp.clip(logvar, *LOGVAR_RANGE)

    def decode(self, z: jax.Array) -> jax.Array:
        """Images, float32 [B, H, W, 3], of latents z [B, h, w, L]; about -1..1, not clipped."""
        return self.decoder(self.post_quant_conv(z)).astype(jnp.float32)

    def __call__(
        self, x: jax.Array, noise: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Reconstruction of x, and mean and log variance of its latents: what training needs.

        `noise` [B, h, w, L], standard normal, draws the latents; without, they are their means.
        """
        mean, logvar = self.encode(x)
        z = mean if noise is None else mean + jnp.exp(0.5 * logvar) * noise
        return self.decode(z), mean, logvar


def check(autoencoder: AutoencoderKL) -> None:
    """Raise ValueError, in one sentence, for settings that do not fit together."""
    channels = autoencoder.block_out_channels
    down, up = autoencoder.down_block_types, autoencoder.up_block_types
    check_block_types("down_block_types", down, DOWN_BLOCK_TYPES, len(channels))
    check_block_types("up_block_types", up, UP_BLOCK_TYPES, len(channels))
    check_norm_groups(channels, autoencoder.norm_num_groups)


def from_config(config: Mapping[str, Any], dtype: Any = jnp.float32) -> AutoencoderKL:
    """The autoencoder of a published config.json; `dtype` is that of the computation.

    Raises:
        ValueError: Names the unsupported options, and the supported ones.
    """
    autoencoder = AutoencoderKL(
        **read_config(config, AutoencoderKL, SUPPORTED, IGNORED), dtype=dtype
    )
    check(autoencoder)
    return autoencoder
