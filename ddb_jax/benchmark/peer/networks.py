"""PyTorch twins of the project's UNet and ResNets, for images [B, C, H, W].

Every layer has the name that it has in the project's tree of parameters, so that `load` can copy
weights across. They are written as one writes PyTorch: its own convolutions, norms and attention.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

RESNETS = {
    "resnet8": ((1, 1, 1), "basic"),
    "resnet20": ((3, 3, 3), "basic"),
    "resnet18": ((2, 2, 2, 2), "basic"),
    "resnet34": ((3, 4, 6, 3), "basic"),
    "resnet50": ((3, 4, 6, 3), "bottleneck"),
}


def group_norm(channels: int) -> nn.GroupNorm:
    """At most 32 groups, of at least 4 channels each."""
    most = max(1, min(32, channels // 4))
    return nn.GroupNorm(max(g for g in range(1, most + 1) if channels % g == 0), channels)


def conv(inputs: int, outputs: int, size: int = 3, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    """A convolution that keeps the sides, but for the stride."""
    return nn.Conv2d(inputs, outputs, size, stride, (size - 1) // 2, bias=bias)


class Mlp(nn.Module):
    """Linear, SiLU, Linear."""

    def __init__(self, inputs: int, features: int) -> None:
        super().__init__()
        self.Dense_0, self.Dense_1 = nn.Linear(inputs, features), nn.Linear(features, features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, I] -> [B, features]."""
        return self.Dense_1(F.silu(self.Dense_0(x)))


class ResBlock(nn.Module):
    """Two convolutions with a residual, and two conditions between them."""

    def __init__(self, inputs: int, features: int, condition: int, dropout: float) -> None:
        super().__init__()
        self.norm_1, self.conv_1 = group_norm(inputs), conv(inputs, features)
        self.time, self.label = nn.Linear(condition, features), nn.Linear(condition, features)
        self.norm_2, self.conv_2 = group_norm(features), conv(features, features)
        self.dropout = nn.Dropout(dropout)
        self.shortcut = conv(inputs, features, 1) if inputs != features else None

    def forward(self, x: torch.Tensor, time: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """[B, I, H, W], [B, E], [B, E] -> [B, features, H, W]."""
        h = self.conv_1(F.silu(self.norm_1(x)))
        h = h + (self.time(F.silu(time)) + self.label(F.silu(label)))[:, :, None, None]
        h = self.conv_2(self.dropout(F.silu(self.norm_2(h))))
        return h + (x if self.shortcut is None else self.shortcut(x))


class Attention(nn.Module):
    """Self-attention over the pixels, with a residual."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads, self.norm = heads, group_norm(channels)
        self.q, self.k, self.v, self.out = (nn.Linear(channels, channels) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        h = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = (
            layer(h).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + self.out(h).transpose(1, 2).reshape(x.shape)


class Downsample(nn.Module):
    """Strided convolutions: 3x3, and 5x5 in the paper's form."""

    def __init__(self, channels: int, form: str) -> None:
        super().__init__()
        self.conv_3 = conv(channels, channels, 3, 2)
        self.conv_5 = conv(channels, channels, 5, 2) if form == "paper" else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> [B, C, H/2, W/2]."""
        y = self.conv_3(x)
        return y if self.conv_5 is None else y + self.conv_5(x)


class Upsample(nn.Module):
    """A transposed convolution, or the nearest pixel; then a convolution."""

    def __init__(self, channels: int, form: str) -> None:
        super().__init__()
        self.transposed = None
        if form == "paper":
            self.transposed = nn.ConvTranspose2d(channels, channels, 5, 2, 2, 1)
        self.conv = conv(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> [B, C, 2H, 2W]."""
        if self.transposed is None:
            return self.conv(F.interpolate(x, scale_factor=2))
        return self.conv(self.transposed(x))


class UNet(nn.Module):
    """The class-conditional UNet; the settings are those of the config's `unet` section."""

    def __init__(
        self, settings: Mapping[str, Any], side: int, num_classes: int, steps: int
    ) -> None:
        super().__init__()
        s, base = settings, settings["channels"]
        condition = 4 * base
        self.channels, self.levels = base, list(enumerate(s["channel_mults"]))
        self.num_blocks = s["num_res_blocks"]
        self.time_table = nn.Embedding(steps, base) if s["trainable_time_table"] else None
        self.label_table = nn.Embedding(num_classes + 1, base)
        self.time_mlp, self.label_mlp = Mlp(base, condition), Mlp(base, condition)
        self.stem = conv(3, base)
        skips, h = [base], base

        def block(name: str, inputs: int, features: int) -> int:
            self.add_module(name, ResBlock(inputs, features, condition, s["dropout"]))
            return features

        for level, mult in self.levels:
            for i in range(self.num_blocks):
                h = block(f"down_{level}_block_{i}", h, base * mult)
                if side in s["attention_resolutions"]:
                    self.add_module(f"down_{level}_attention_{i}", Attention(h, s["num_heads"]))
                skips.append(h)
            if level < len(self.levels) - 1:
                self.add_module(f"down_{level}_downsample", Downsample(h, s["downsample"]))
                skips.append(h)
                side //= 2
        self.mid_block_0 = ResBlock(h, h, condition, s["dropout"])
        self.mid_attention = Attention(h, s["num_heads"])
        self.mid_block_1 = ResBlock(h, h, condition, s["dropout"])
        for level, mult in reversed(self.levels):
            for i in range(self.num_blocks + 1):
                h = block(f"up_{level}_block_{i}", h + skips.pop(), base * mult)
            if level > 0:
                self.add_module(f"up_{level}_upsample", Upsample(h, s["upsample"]))
        self.head_norm, self.head = group_norm(h), conv(h, 3)

    def time_embedding(self, t: torch.Tensor) -> torch.Tensor:
        """Sines and cosines in turns, or the trained table: [B] -> [B, channels]."""
        if self.time_table is not None:
            return self.time_table(t)
        exponents = torch.arange(0, self.channels, 2, device=t.device) / self.channels
        angles = t.float()[:, None] * torch.exp(-math.log(10000) * exponents)
        return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)

    def forward(self, x: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """x_t [B, 3, H, W], t [B], labels [B] -> [B, 3, H, W]."""
        layers = dict(self.named_children())
        time = self.time_mlp(self.time_embedding(t))
        label = self.label_mlp(self.label_table(labels))
        h = self.stem(x)
        skips = [h]
        for level, _ in self.levels:
            for i in range(self.num_blocks):
                h = layers[f"down_{level}_block_{i}"](h, time, label)
                if f"down_{level}_attention_{i}" in layers:
                    h = layers[f"down_{level}_attention_{i}"](h)
                skips.append(h)
            if level < len(self.levels) - 1:
                h = layers[f"down_{level}_downsample"](h)
                skips.append(h)
        h = self.mid_block_0(h, time, label)
        h = self.mid_block_1(self.mid_attention(h), time, label)
        for level, _ in reversed(self.levels):
            for i in range(self.num_blocks + 1):
                h = layers[f"up_{level}_block_{i}"](torch.cat([h, skips.pop()], 1), time, label)
            if level > 0:
                h = layers[f"up_{level}_upsample"](h)
        return self.head(F.silu(self.head_norm(h)))


class ResidualBlock(nn.Module):
    """A basic or a bottleneck block; the stride is on its first 3x3 convolution."""

    def __init__(self, inputs: int, features: int, stride: int, kind: str, norm: Any) -> None:
        super().__init__()
        layers = [(3, stride, features), (3, 1, features)]  # kernel, stride, channels
        if kind == "bottleneck":
            layers = [(1, 1, features), (3, stride, features), (1, 1, 4 * features)]
        self.count, channels = len(layers), inputs
        for i, (size, step, outputs) in enumerate(layers, 1):
            self.add_module(f"conv_{i}", conv(channels, outputs, size, step, bias=False))
            self.add_module(f"norm_{i}", norm(outputs))
            channels = outputs
        self.outputs, self.shortcut_conv = channels, None
        if stride != 1 or inputs != channels:
            self.shortcut_conv = conv(inputs, channels, 1, stride, bias=False)
            self.shortcut_norm = norm(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, I, H, W] -> [B, O, H/stride, W/stride]."""
        h = x
        for i in range(1, self.count + 1):
            h = getattr(self, f"norm_{i}")(getattr(self, f"conv_{i}")(h))
            h = F.relu(h) if i < self.count else h
        if self.shortcut_conv is not None:
            x = self.shortcut_norm(self.shortcut_conv(x))
        return F.relu(h + x)


class ResNet(nn.Module):
    """A ResNet; the settings are those of a classifier section of the config."""

    def __init__(self, settings: Mapping[str, Any], num_classes: int) -> None:
        super().__init__()
        (sizes, kind), width = RESNETS[settings["network"]], settings["width"]
        norm = group_norm if settings["norm"] == "group" else nn.BatchNorm2d
        self.large = settings["stem"] == "imagenet"
        self.stem_conv = conv(3, width, *((7, 2) if self.large else (3, 1)), bias=False)
        self.stem_norm, channels = norm(width), width
        blocks = []
        for stage, size in enumerate(sizes):
            for i in range(size):
                stride = 2 if stage > 0 and i == 0 else 1
                block = ResidualBlock(channels, width * 2**stage, stride, kind, norm)
                self.add_module(f"stage_{stage}_block_{i}", block)
                blocks.append(f"stage_{stage}_block_{i}")
                channels = block.outputs
        self.blocks, self.head = blocks, nn.Linear(channels, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] -> logits [B, num_classes]."""
        h = F.relu(self.stem_norm(self.stem_conv(x)))
        if self.large:
            h = F.max_pool2d(h, 3, 2, 1)
        for name in self.blocks:
            h = getattr(self, name)(h)
        return self.head(h.mean((2, 3)))


# Our name of an array -> that of the tensor.
TENSORS = {
    "kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias",
    "mean": "running_mean", "var": "running_var",
}  # fmt: skip


def load(network: nn.Module, weights: Mapping[str, np.ndarray]) -> int:
    """Copy the project's weights, by the names of layers with dots; returns their number.

    Raises:
        ValueError: The two do not have the same arrays in the same shapes.
    """
    state = network.state_dict()
    left = {name for name in state if not name.endswith("num_batches_tracked")}
    for name, array in weights.items():
        layer, kind = name.rsplit(".", 1)
        target = f"{layer}.{TENSORS[kind]}"
        if kind == "kernel":
            # HWIO to OIHW, or to IOHW where the convolution is transposed; IO to OI.
            transposed = isinstance(network.get_submodule(layer), nn.ConvTranspose2d)
            axes = {2: (1, 0), 4: (2, 3, 0, 1) if transposed else (3, 2, 0, 1)}[array.ndim]
            array = array.transpose(axes)
        if target not in left or tuple(state[target].shape) != array.shape:
            raise ValueError(f"it has no {target} of shape {array.shape}")
        state[target].copy_(torch.from_numpy(array.copy()))
        left.remove(target)
    if left:
        raise ValueError(f"its {min(left)} has no counterpart")
    return sum(p.numel() for p in network.parameters())
