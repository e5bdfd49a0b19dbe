"""A classifier that sees a few pixels at a time, so that it can learn colour and texture alone.

ReBias (Bahng et al., ICML 2020) learns to be independent of such a network.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ddb_jax.models.layers import BatchNorm, Conv, GroupNorm, global_average_pool, torch_uniform
from ddb_jax.models.resnet import NORMS, kaiming_normal


class SmallReceptiveField(nn.Module):
    """Four convolutions of width, 2, 4 and 8 times width channels, average pooling, and the head.

    The first convolution has `kernel` and `stride`, the others are 1x1: a place of the last map
    sees `kernel` x `kernel` pixels, and the pooled features only how often each such patch is in
    the image. kernel=1 is the biased network of the ReBias code on Biased-MNIST, width 16; on
    ImageNet it had a BagNet, for which a larger kernel and stride stand in.

    With norm="batch" the collection "batch_stats" is updated in training. norm="group" lets every
    place know the mean and variance of the whole image's maps. Parameters are float32, and so are
    the head and the features, whatever `dtype` is.
    """

    num_classes: int
    width: int = 16
    kernel: int = 1
    stride: int = 1
    norm: str = "batch"  # or "group"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
        """Logits float32 [B, num_classes] and the pooled features float32 [B, 8 * width].

        Images [B, H, W, C] of any size.

        Raises:
            ValueError: If norm is unknown, or width, kernel or stride is below 1.
        """
        if self.norm not in NORMS:
            raise ValueError(f"norm is one of {NORMS}, not {self.norm!r}")
        for field in ("width", "kernel", "stride"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} is at least 1, not {getattr(self, field)}")
        conv = functools.partial(Conv, use_bias=False, kernel_init=kaiming_normal, dtype=self.dtype)
        h = x
        for i in range(4):
            kernel, stride = (self.kernel, self.stride) if i == 0 else (1, 1)
            h = conv(self.width * 2**i, kernel_size=kernel, stride=stride, name=f"conv_{i}")(h)
            if self.norm == "group":
                h = GroupNorm(dtype=self.dtype, name=f"norm_{i}")(h)
            else:
                h = BatchNorm(dtype=self.dtype, name=f"norm_{i}")(h, train=train)
            h = nn.relu(h)
        features = global_average_pool(h)
        logits = nn.Dense(self.num_classes, kernel_init=torch_uniform, name="head")(features)
        return logits, features
