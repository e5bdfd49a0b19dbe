"""ResNets and DenseNets in plain PyTorch, with torchvision's arithmetic and names of tensors.

Written from the papers and from torchvision's state dicts; needs PyTorch, not torchvision.
EfficientNet-Lite0 is written from the paper and the names in its state dict.
"""

from collections import OrderedDict

import torch
from torch import nn


def conv(inputs, outputs, size, stride=1):
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


class ResidualBlock(nn.Module):
    def __init__(self, inputs, features, stride, bottleneck):
        super().__init__()
        # (kernel size, stride, outputs) of the convolutions
        layers = [(3, stride, features), (3, 1, features)]
        if bottleneck:
            layers = [(1, 1, features), (3, stride, features), (1, 1, 4 * features)]
        self.count = len(layers)
        channels = inputs
        for i, (size, step, outputs) in enumerate(layers, 1):
            setattr(self, f"conv{i}", conv(channels, outputs, size, step))
            setattr(self, f"bn{i}", nn.BatchNorm2d(outputs))
            channels = outputs
        self.downsample = nn.Sequential()
        if stride != 1 or inputs != channels:
            self.downsample = nn.Sequential(
                conv(inputs, channels, 1, stride), nn.BatchNorm2d(channels)
            )

    def forward(self, x):
        h = x
        for i in range(1, self.count + 1):
            h = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(h))
            h = torch.relu(h) if i < self.count else h
        return torch.relu(h + self.downsample(x))


class ResNet(nn.Module):
    def __init__(self, sizes, bottleneck, num_classes):
        super().__init__()
        self.conv1, self.bn1 = conv(3, 64, 7, 2), nn.BatchNorm2d(64)
        channels = 64
        for stage, size in enumerate(sizes):
            features = 64 * 2**stage
            blocks = nn.Sequential()
            for i in range(size):
                stride = 2 if stage and not i else 1
                blocks.append(ResidualBlock(channels, features, stride, bottleneck))
                channels = features * (4 if bottleneck else 1)
            setattr(self, f"layer{stage + 1}", blocks)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x):
        h = torch.relu(self.bn1(self.conv1(x)))
        h = nn.functional.max_pool2d(h, 3, 2, 1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            h = stage(h)
        features = h.mean((2, 3))
        return self.fc(features), features


class DenseLayer(nn.Module):
    def __init__(self, inputs, growth):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), conv(inputs, 4 * growth, 1)
        self.norm2, self.conv2 = nn.BatchNorm2d(4 * growth), conv(4 * growth, growth, 3)

    def forward(self, x):
        h = self.conv1(torch.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(torch.relu(self.norm2(h)))], 1)


class DenseNet(nn.Module):
    def __init__(self, sizes, growth, stem, num_classes):
        super().__init__()
        parts = OrderedDict(
            conv0=conv(3, stem, 7, 2),
            norm0=nn.BatchNorm2d(stem),
            relu0=nn.ReLU(),
            pool0=nn.MaxPool2d(3, 2, 1),
        )
        channels = stem
        for block, size in enumerate(sizes, 1):
            layers = OrderedDict(
                (f"denselayer{i + 1}", DenseLayer(channels + i * growth, growth))
                for i in range(size)
            )
            parts[f"denseblock{block}"] = nn.Sequential(layers)
            channels += size * growth
            if block < len(sizes):
                transition = OrderedDict(
                    norm=nn.BatchNorm2d(channels),
                    relu=nn.ReLU(),
                    conv=conv(channels, channels // 2, 1),
                    pool=nn.AvgPool2d(2),
                )
                parts[f"transition{block}"] = nn.Sequential(transition)
                channels //= 2
        parts["norm5"] = nn.BatchNorm2d(channels)
        self.features = nn.Sequential(parts)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x):
        features = torch.relu(self.features(x)).mean((2, 3))
        return self.classifier(features), features


class SameConv(nn.Conv2d):
    """Padded as TensorFlow does: the odd pixel at the end."""

    def forward(self, x):
        k, s = self.kernel_size[0], self.stride[0]
        pad = []
        for side in (x.shape[3], x.shape[2]):
            total = max((-(-side // s) - 1) * s + k - side, 0)
            pad += [total // 2, total - total // 2]
        return super().forward(nn.functional.pad(x, pad))


def lite_norm(channels):
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class LiteBlock(nn.Module):
    def __init__(self, inputs, kernel, stride, growth, outputs):
        super().__init__()
        inner = inputs * growth
        if growth > 1:
            self._expand_conv = SameConv(inputs, inner, 1, bias=False)
            self._bn0 = lite_norm(inner)
        self._depthwise_conv = SameConv(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = lite_norm(inner)
        self._project_conv = SameConv(inner, outputs, 1, bias=False)
        self._bn2 = lite_norm(outputs)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x):
        h = x
        if hasattr(self, "_expand_conv"):
            h = nn.functional.relu6(self._bn0(self._expand_conv(h)))
        h = nn.functional.relu6(self._bn1(self._depthwise_conv(h)))
        h = self._bn2(self._project_conv(h))
        return x + h if self.shortcut else h


class EfficientNetLite(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self._conv_stem, self._bn0 = SameConv(3, 32, 3, 2, bias=False), lite_norm(32)
        blocks, channels = [], 32
        # blocks, kernel, stride, growth, outputs (Tan & Le 2019, table 1)
        for count, kernel, stride, growth, outputs in (
            (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80),
            (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320),
        ):  # fmt: skip
            for i in range(count):
                blocks.append(LiteBlock(channels, kernel, 1 if i else stride, growth, outputs))
                channels = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = SameConv(channels, 1280, 1, bias=False), lite_norm(1280)
        self._fc = nn.Linear(1280, num_classes)

    def forward(self, x):
        h = nn.functional.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            h = block(h)
        features = nn.functional.relu6(self._bn1(self._conv_head(h))).mean((2, 3))
        return self._fc(features), features


def make(name, num_classes):
    """The network of that name, with random weights, biases and running statistics.

    The last norm of a residual branch is small and the biases are positive, as in a trained
    network. With norms of order one a deep network that normalises by the batch multiplies
    rounding errors: PyTorch's own float32 then departs from its float64 by 4e-5 in a ResNet-50.
    """
    if name == "efficientnet_lite0":
        network = EfficientNetLite(num_classes)
    elif name == "densenet121":
        network = DenseNet((6, 12, 24, 16), 32, 64, num_classes)
    else:
        sizes = {"resnet18": (2, 2, 2, 2)}.get(name, (3, 4, 6, 3))
        network = ResNet(sizes, name == "resnet50", num_classes)
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, 0.5, 0.1, generator=generator)
            nn.init.normal_(module.running_mean, 0.0, 0.1, generator=generator)
            nn.init.uniform_(module.running_var, 0.5, 1.5, generator=generator)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.1, generator=generator)
            nn.init.normal_(module.bias, 0.5, 0.1, generator=generator)
    for module in network.modules():
        if isinstance(module, LiteBlock) and module.shortcut:
            nn.init.uniform_(module._bn2.weight, 0.1, 0.3, generator=generator)
        if isinstance(module, ResidualBlock):
            last = getattr(module, f"bn{module.count}")
            nn.init.uniform_(last.weight, 0.1, 0.3, generator=generator)
    return network
