"""EfficientNet-Lite0 (Tan & Le 2019; TensorFlow's lite variant), for images of any size.

EfficientNet-B0 without squeeze-and-excitation and with ReLU6 in place of swish. The padding is
TensorFlow's. The original trains with dropout and stochastic depth, which are left out here.
Sources: efficientnet_lite_builder.py of https://github.com/tensorflow/tpu for the sizes, its
constants MEAN_RGB 127 and STDDEV_RGB 128 for the input (normalization "lite").
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ddb_jax.models.depthwise import SameConv
from ddb_jax.models.layers import BatchNorm, GroupNorm, global_average_pool, torch_uniform


class Stage(NamedTuple):
    """Blocks of one output size: how many, kernel side, stride of the first, growth, channels."""

    blocks: int
    kernel_size: int
    stride: int
    expansion: int
    features: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
LAST_BLOCK = 5  # the first of the stages at the lowest resolution
STEM, HEAD = 32, 1280  # channels of the first and of the last convolution
PUBLISHED_WIDTH = 64


class InvertedBlock(nn.Module):
    """MBConv: 1x1 to more channels, depthwise, 1x1 to `features`; a shortcut where shapes agree."""

    stage: Stage
    stride: int
    features: int
    conv: Callable
    norm: Callable

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, I] -> [B, ceil(H / stride), ceil(W / stride), features]."""
        inner, h = x.shape[-1] * self.stage.expansion, x
        if self.stage.expansion > 1:
            h = nn.relu6(self.norm("norm_0")(self.conv(inner, name="expand_conv")(h)))
        k = self.stage.kernel_size
        h = self.conv(inner, k, self.stride, depthwise=True, name="depthwise_conv")(h)
        h = nn.relu6(self.norm("norm_1")(h))
        h = self.norm("norm_2")(self.conv(self.features, name="project_conv")(h))
        return x + h if h.shape == x.shape and self.stride == 1 else h


class EfficientNetLite(nn.Module):
    """Classifier of images [B, H, W, 3]; `width` 64 is the published network, others scale it.

    A width gives every layer that share of its channels, in multiples of 8. The "cifar" stem has
    stride 1. With norm="batch" the collection "batch_stats" is updated in training. Parameters are
    float32, and so are the head and the features, whatever `dtype` is.
    """

    num_classes: int
    width: int = PUBLISHED_WIDTH
    stem: str = "imagenet"  # or "cifar"
    norm: str = "batch"  # or "group"
    dtype: Any = jnp.float32
    remat: bool = False  # compute the blocks' inner values again for the gradient

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, part: str = "all") -> Any:
        """Logits float32 [B, num_classes] and the pooled features before the head, [B, F].

        With part "below" the maps that the last block begins with; "above" takes those as x.
        """
        conv = functools.partial(SameConv, dtype=self.dtype)

        def norm(name: str) -> Callable:
            if self.norm == "group":
                return GroupNorm(dtype=self.dtype, name=name)
            return functools.partial(
                BatchNorm(momentum=0.99, eps=1e-3, dtype=self.dtype, name=name), train=train
            )

        if part == "above":
            h = x.astype(self.dtype)
        else:
            stride = 2 if self.stem == "imagenet" else 1
            h = norm("stem_norm")(conv(self._channels(STEM), 3, stride, name="stem_conv")(x))
            h = nn.relu6(h)
        block = nn.remat(InvertedBlock) if self.remat else InvertedBlock
        for number, stage in enumerate(STAGES):
            if part != "all" and (part == "above") != (number >= LAST_BLOCK):
                continue
            for i in range(stage.blocks):
                stride = stage.stride if i == 0 else 1
                name = f"stage_{number}_block_{i}"
                h = block(stage, stride, self._channels(stage.features), conv, norm, name=name)(h)
            self.sow("intermediates", "stage_maps", h)  # kept only if a caller asks for it
        if part == "below":
            return h
        h = nn.relu6(norm("final_norm")(conv(self._channels(HEAD), name="final_conv")(h)))
        self.sow("intermediates", "feature_map", h)
        features = global_average_pool(h)
        logits = nn.Dense(self.num_classes, kernel_init=torch_uniform, name="head")(features)
        return logits, features

    def _channels(self, published: int) -> int:
        return max(8, round(published * self.width / PUBLISHED_WIDTH / 8) * 8)
