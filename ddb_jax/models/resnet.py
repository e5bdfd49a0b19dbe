"""Residual networks (He et al. 2015) with torchvision's arithmetic, for images of any size."""

import difflib
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ddb_jax.models.layers import (
    BatchNorm,
    Conv,
    GroupNorm,
    global_average_pool,
    max_pool,
    torch_uniform,
)

# Name: (blocks of every stage, kind of block).
RESNETS = {
    "resnet8": ((1, 1, 1), "basic"),
    "resnet20": ((3, 3, 3), "basic"),
    "resnet18": ((2, 2, 2, 2), "basic"),
    "resnet34": ((3, 4, 6, 3), "basic"),
    "resnet50": ((3, 4, 6, 3), "bottleneck"),
}
STEMS = ("imagenet", "cifar")
NORMS = ("batch", "group")

# torchvision's initialisation of the convolutions.
kaiming_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, the stride on the first."""

    features: int
    stride: int
    conv: Callable
    norm: Callable

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, I] -> [B, H/stride, W/stride, features]."""
        h = self.conv(self.features, stride=self.stride, name="conv_1")(x)
        h = nn.relu(self.norm("norm_1")(h))
        h = self.norm("norm_2")(self.conv(self.features, name="conv_2")(h))
        return nn.relu(h + shortcut(self, x, self.features))


class BottleneckBlock(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, the stride on the 3x3; four times `features` come out."""

    features: int
    stride: int
    conv: Callable
    norm: Callable

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, I] -> [B, H/stride, W/stride, 4 * features]."""
        h = nn.relu(self.norm("norm_1")(self.conv(self.features, kernel_size=1, name="conv_1")(x)))
        h = self.conv(self.features, stride=self.stride, name="conv_2")(h)
        h = nn.relu(self.norm("norm_2")(h))
        h = self.norm("norm_3")(self.conv(4 * self.features, kernel_size=1, name="conv_3")(h))
        return nn.relu(h + shortcut(self, x, 4 * self.features))


def shortcut(block: BasicBlock | BottleneckBlock, x: jax.Array, features: int) -> jax.Array:
    """x itself, or a strided 1x1 convolution and norm of it where the shape changes."""
    if block.stride == 1 and x.shape[-1] == features:
        return x
    x = block.conv(features, kernel_size=1, stride=block.stride, name="shortcut_conv")(x)
    return block.norm("shortcut_norm")(x)


BLOCKS = {"basic": BasicBlock, "bottleneck": BottleneckBlock}


class ResNet(nn.Module):
    """Classifier of images [B, H, W, C]; `width` is the channels of the first stage.

    Each later stage doubles the channels and halves the sides. The "imagenet" stem is a 7x7
    convolution with stride 2 and a max-pool; the "cifar" stem is a 3x3 convolution. With
    norm="batch" the collection "batch_stats" is updated in training. Parameters are float32, and
    so are the head and the features, whatever `dtype` is.
    """

    stage_sizes: tuple[int, ...]
    num_classes: int
    width: int = 64
    block: str = "basic"  # or "bottleneck"
    stem: str = "imagenet"  # or "cifar"
    norm: str = "batch"  # or "group"
    dtype: Any = jnp.float32
    remat: bool = False  # compute the blocks' inner values again for the gradient

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, part: str = "all") -> Any:
        """Logits float32 [B, num_classes] and the pooled features before the head, [B, F].

        With part "below" the maps that the last block begins with; "above" takes those as x.

        Raises:
            ValueError: If block, stem or norm is unknown.
        """
        for field, known in (("block", tuple(BLOCKS)), ("stem", STEMS), ("norm", NORMS)):
            if getattr(self, field) not in known:
                raise ValueError(f"{field} is one of {known}, not {getattr(self, field)!r}")
        conv = functools.partial(Conv, use_bias=False, kernel_init=kaiming_normal, dtype=self.dtype)

        def norm(name: str) -> Callable:
            if self.norm == "group":
                return GroupNorm(dtype=self.dtype, name=name)
            return functools.partial(BatchNorm(dtype=self.dtype, name=name), train=train)

        if part == "above":
            h = x.astype(self.dtype)
        elif self.stem == "imagenet":
            h = conv(self.width, kernel_size=7, stride=2, name="stem_conv")(x)
            h = max_pool(nn.relu(norm("stem_norm")(h)))
        else:
            h = nn.relu(norm("stem_norm")(conv(self.width, name="stem_conv")(x)))
        block = nn.remat(BLOCKS[self.block]) if self.remat else BLOCKS[self.block]
        for stage, size in enumerate(self.stage_sizes):
            if part != "all" and (part == "above") != (stage == len(self.stage_sizes) - 1):
                continue
            for i in range(size):
                stride = 2 if stage > 0 and i == 0 else 1
                layer = block(
                    self.width * 2**stage, stride, conv, norm, name=f"stage_{stage}_block_{i}"
                )
                h = layer(h)
            self.sow("intermediates", "stage_maps", h)  # kept only if a caller asks for it
        if part == "below":
            return h
        self.sow("intermediates", "feature_map", h)
        features = global_average_pool(h)
        logits = nn.Dense(self.num_classes, kernel_init=torch_uniform, name="head")(features)
        return logits, features


def make_resnet(
    name: str,
    num_classes: int,
    *,
    width: int = 64,
    stem: str = "imagenet",
    norm: str = "batch",
    dtype: Any = jnp.float32,
    remat: bool = False,
) -> ResNet:
    """The network of that name in RESNETS.

    Raises:
        ValueError: If there is no such network; names the nearest.
    """
    if name not in RESNETS:
        near = difflib.get_close_matches(name, RESNETS, 1, 0.0)[0]
        raise ValueError(f"there is no network {name!r}; the nearest is {near!r}")
    stage_sizes, block = RESNETS[name]
    return ResNet(stage_sizes, num_classes, width, block, stem, norm, dtype, remat)
