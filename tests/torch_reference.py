"""ResNets and DenseNets in plain PyTorch, with torchvision's arithmetic and names of tensors.

Written from the papers and from torchvision's state dicts; needs PyTorch, not torchvision.
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


def make(name, num_classes):
    """The network of that name, with random weights, biases and running statistics.

    The last norm of a residual branch is small and the biases are positive, as in a trained
    network. With norms of order one a deep network that normalises by the batch multiplies
    rounding errors: PyTorch's own float32 then departs from its float64 by 4e-5 in a ResNet-50.
    """
    if name == "densenet121":
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
        if isinstance(module, ResidualBlock):
            last = getattr(module, f"bn{module.count}")
            nn.init.uniform_(last.weight, 0.1, 0.3, generator=generator)
    return network
