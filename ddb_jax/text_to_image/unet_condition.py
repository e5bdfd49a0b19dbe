"""The text-conditional UNet of Stable Diffusion 1.x and 2.x, which works on latents.

Rombach et al. 2022 (arXiv 2112.10752, appendix E.2.1). Options, their defaults and the names of the
parameters are those of the diffusers library's UNet2DConditionModel.
"""

import math
from collections.abc import Mapping
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
)
from ddb_jax.text_to_image.published_config import (
    check_block_types,
    check_norm_groups,
    check_sides,
    read_config,
)
from ddb_jax.text_to_image.transformer import SpatialTransformer

DOWN_BLOCK_TYPES = ("CrossAttnDownBlock2D", "DownBlock2D")
UP_BLOCK_TYPES = ("CrossAttnUpBlock2D", "UpBlock2D")
# Options for which there is one way here. Any other is taken as switched off by None or False.
SUPPORTED = {
    "act_fn": ("silu", "swish"),
    "attention_type": ("default",),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
    "downsample_padding": (1,),
    "dropout": (0,),
    "mid_block_scale_factor": (1,),
    "mid_block_type": ("UNetMidBlock2DCrossAttn",),
    "resnet_out_scale_factor": (1,),
    "resnet_time_scale_shift": ("default",),
    "time_embedding_type": ("positional",),
    "transformer_layers_per_block": (1,),
}
# The softmax is in float32 with or without upcast_attention; the other is read by options refused.
IGNORED = ("upcast_attention", "addition_embed_type_num_heads")


def timestep_embedding(
    timesteps: jax.Array, channels: int, *, flip_sin_to_cos: bool, freq_shift: float
) -> jax.Array:
    """Sinusoids of timesteps [B] -> float32 [B, channels], channels even (Ho et al. 2020).

    One half is sin, the other cos of t / 10000 ** (i / (channels / 2 - freq_shift)); the cosines
    come first if `flip_sin_to_cos`.
    """
    half = channels // 2
    frequencies = jnp.exp(jnp.arange(half) * (-math.log(10000) / (half - freq_shift)))
    angles = timesteps.astype(jnp.float32)[:, None] * frequencies
    halves = [jnp.sin(angles), jnp.cos(angles)]
    return jnp.concatenate(halves[::-1] if flip_sin_to_cos else halves, axis=-1)


class UNet2DCondition(nn.Module):
    """Network of (noisy latents, timesteps, encoded text), for training and sampling alike.

    Every residual branch but those inside the transformer blocks starts at zero, and so does the
    output.
    """

    sample_size: int | None = None  # side of the latents it was trained on; any other is taken
    in_channels: int = 4
    out_channels: int = 4
    flip_sin_to_cos: bool = True
    freq_shift: float = 0
    down_block_types: tuple[str, ...] = (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D")
    up_block_types: tuple[str, ...] = ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3)
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)  # from the full side down
    layers_per_block: int = 2  # on the way down; the way up has one more
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    cross_attention_dim: int = 1280
    # The NUMBER of attention heads, of all levels or of each: the published name is a mistake
    # (https://github.com/huggingface/diffusers/issues/2011).
    attention_head_dim: int | tuple[int, ...] = 8
    use_linear_projection: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, timesteps: jax.Array, encoder_hidden_states: jax.Array
    ) -> jax.Array:
        """Predict from x [B, h, w, 4], int [B] and text [B, S, D]: float32 [B, h, w, 4].

        Raises:
            ValueError: If settings or shapes do not fit together.
        """
        check(self)
        self._check_inputs(x, encoder_hidden_states)
        width = self.block_out_channels[0]
        time = timestep_embedding(
            timesteps, width, flip_sin_to_cos=self.flip_sin_to_cos, freq_shift=self.freq_shift
        )
        time = TimeMlp(4 * width, self.dtype, name="time_embedding")(time)
        context = encoder_hidden_states.astype(self.dtype)

        def parts(level: int, block_type: str) -> dict[str, Any]:
            """What the blocks of a level are made of."""
            norm = {"norm_num_groups": self.norm_num_groups, "dtype": self.dtype}
            channels = self.block_out_channels[level]
            transformer = partial(
                SpatialTransformer,
                heads_of(self)[level],
                use_linear_projection=self.use_linear_projection,
                **norm,
            )
            resnet = partial(ResnetBlock, channels, norm_eps=self.norm_eps, **norm)
            crossed = block_type.startswith("CrossAttn")
            return {"resnet": resnet, "attention": transformer if crossed else None}

        h = Conv(width, dtype=self.dtype, name="conv_in")(x)
        skips = [h]
        last = len(self.block_out_channels) - 1
        for level, block_type in enumerate(self.down_block_types):
            block = DownBlock(
                self.layers_per_block,
                downsample=level < last,
                dtype=self.dtype,
                name=f"down_blocks_{level}",
                **parts(level, block_type),
            )
            skips += block(skips[-1], time, context)

        h = MidBlock(name="mid_block", **parts(last, "CrossAttn"))(skips[-1], time, context)

        count = self.layers_per_block + 1
        for i, block_type in enumerate(self.up_block_types):
            block = UpBlock(
                count,
                upsample=i < last,
                dtype=self.dtype,
                name=f"up_blocks_{i}",
                **parts(last - i, block_type),
            )
            h = block(h, skips[-count:], time, context)
            del skips[-count:]
        assert not skips

        h = GroupNorm(self.norm_num_groups, self.norm_eps, self.dtype, name="conv_norm_out")(h)
        out = Conv(self.out_channels, kernel_init=ZEROS, dtype=self.dtype, name="conv_out")
        return out(nn.silu(h)).astype(jnp.float32)

    def _check_inputs(self, x: jax.Array, text: jax.Array) -> None:
        """Raise ValueError for shapes that the layers cannot take."""
        check_sides(x.shape[1], x.shape[2], len(self.block_out_channels))
        for what, given, needed in (
            ("latents with in_channels", x.shape[-1], self.in_channels),
            ("text with cross_attention_dim", text.shape[-1], self.cross_attention_dim),
        ):
            if given != needed:
                raise ValueError(f"the UNet needs {what} = {needed} channels, not {given}")


class TimeMlp(nn.Module):
    """Linear, SiLU, linear."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, I] -> [B, features]."""
        dense = partial(nn.Dense, self.features, dtype=self.dtype)
        return dense(name="linear_2")(nn.silu(dense(name="linear_1")(x)))


def heads_of(unet: UNet2DCondition) -> tuple[int, ...]:
    """The number of attention heads at each level, from the full side down."""
    heads, levels = unet.attention_head_dim, len(unet.block_out_channels)
    return (heads,) * levels if isinstance(heads, int) else tuple(heads)


def check(unet: UNet2DCondition) -> None:
    """Raise ValueError, in one sentence, for settings that do not fit together."""
    channels, heads = unet.block_out_channels, heads_of(unet)
    check_block_types("down_block_types", unet.down_block_types, DOWN_BLOCK_TYPES, len(channels))
    check_block_types("up_block_types", unet.up_block_types, UP_BLOCK_TYPES, len(channels))
    check_norm_groups(channels, unet.norm_num_groups)
    for option in ("layers_per_block", "cross_attention_dim"):
        if not isinstance(getattr(unet, option), int):
            raise ValueError(f"{option} is one number here, not {getattr(unet, option)}")
    if len(heads) != len(channels) or any(c % n for c, n in zip(channels, heads, strict=False)):
        raise ValueError(
            "attention_head_dim, the number of heads, has to be one number or one a level, each a "
            f"divisor of block_out_channels = {channels}, not {unet.attention_head_dim}"
        )


def from_config(config: Mapping[str, Any], dtype: Any = jnp.float32) -> UNet2DCondition:
    """The network of a published config.json; `dtype` is that of the computation.

    Raises:
        ValueError: Names the unsupported options, and the supported ones.
    """
    unet = UNet2DCondition(**read_config(config, UNet2DCondition, SUPPORTED, IGNORED), dtype=dtype)
    check(unet)
    return unet
