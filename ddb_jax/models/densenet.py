"""Densely connected networks (Huang et al. 2017) with torchvision's arithmetic."""

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
from ddb_jax.models.resnet import NORMS, STEMS

# Layers of every block.
DENSENETS = {"densenet121": (6, 12, 24, 16)}

# torchvision's initialisation of the convolutions.
kaiming_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class DenseLayer(nn.Module):
    """Norm, ReLU, 1x1 convolution, norm, ReLU, 3x3 convolution: appends `growth` channels."""

    growth: int
    bottleneck: int
    conv: Callable
    norm: Callable

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, I] -> [B, H, W, I + growth]."""
        h = nn.relu(self.norm("norm_1")(x))
        h = self.conv(self.bottleneck * self.growth, kernel_size=1, name="conv_1")(h)
        h = nn.relu(self.norm("norm_2")(h))
        h = self.conv(self.growth, name="conv_2")(h)
        return jnp.concatenate([x, h], axis=-1)


class Transition(nn.Module):
    """Norm, ReLU, a 1x1 convolution to half the channels and 2x2 average pooling."""

    conv: Callable
    norm: Callable

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, I] -> [B, H//2, W//2, I//2].

        Raises:
            ValueError: If a side is one pixel.
        """
        h = self.conv(x.shape[-1] // 2, kernel_size=1, name="conv")(nn.relu(self.norm("norm")(x)))
        batch, height, width, channels = h.shape
        if min(height, width) < 2:
            raise ValueError(
                f"a map of {height}x{width} pixels cannot be halved: the images are too small for "
                "this network; use larger ones or stem='cifar'"
            )
        h = h[:, : height // 2 * 2, : width // 2 * 2]
        return h.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))


class DenseNet(nn.Module):
    """Classifier of images [B, H, W, C]; `width` is the channels of the stem, the growth its half.

    Every layer of a block sees the outputs of all layers before it; between blocks the sides and
    the channels halve. The "imagenet" stem is a 7x7 convolution with stride 2 and a max-pool; the
    "cifar" stem is a 3x3 convolution. With norm="batch" the collection "batch_stats" is updated in
    training. Parameters are float32, and so are the head and the features, whatever `dtype` is.
    """

    block_sizes: tuple[int, ...]
    num_classes: int
    width: int = 64
    bottleneck: int = 4  # channels of a layer's 1x1 convolution, as a multiple of the growth
    stem: str = "imagenet"  # or "cifar"
    norm: str = "batch"  # or "group"
    dtype: Any = jnp.float32
    remat: bool = False  # compute the layers' inner values again for the gradient

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, part: str = "all") -> Any:
        """Logits float32 [B, num_classes] and the pooled features before the head, [B, F].

        With part "below" the maps that the last block begins with; "above" takes those as x.

        Raises:
            ValueError: If stem or norm is unknown, the width odd, or the image too small.
        """
        for field, known in (("stem", STEMS), ("norm", NORMS)):
            if getattr(self, field) not in known:
                raise ValueError(f"{field} is one of {known}, not {getattr(self, field)!r}")
        if self.width % 2:
            raise ValueError(f"the width of a DenseNet is even (growth is half), not {self.width}")
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
        dense_layer = nn.remat(DenseLayer) if self.remat else DenseLayer
        for block, size in enumerate(self.block_sizes):
            if part != "all" and (part == "above") != (block == len(self.block_sizes) - 1):
                continue
            for i in range(size):
                layer = dense_layer(
                    self.width // 2, self.bottleneck, conv, norm, name=f"block_{block}_layer_{i}"
                )
                h = layer(h)
            if block < len(self.block_sizes) - 1:
                h = Transition(conv, norm, name=f"transition_{block}")(h)
            self.sow("intermediates", "stage_maps", h)  # kept only if a caller asks for it
        if part == "below":
            return h
        h = nn.relu(norm("final_norm")(h))
        self.sow("intermediates", "feature_map", h)
        features = global_average_pool(h)
        logits = nn.Dense(self.num_classes, kernel_init=torch_uniform, name="head")(features)
        return logits, features
