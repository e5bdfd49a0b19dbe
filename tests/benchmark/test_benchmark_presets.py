"""The benchmark's presets: sizes that agree with the papers' networks, and need no data set."""

import math

import jax
import pytest

from ddb_jax.benchmark import __main__ as command
from ddb_jax.benchmark import presets
from ddb_jax.benchmark.__main__ import main
from ddb_jax.configs import base
from ddb_jax.stages.common.generator import build_unet, init_unet_params
from ddb_jax.stages.common.networks import build_classifier, init_variables


def unet_parameters(base_channels, mults, blocks, classes, attends, paper):
    """Of the UNet, counted by hand; `attends` of its levels have attention after every block."""

    def conv(i, o, k=3):
        return k * k * i * o + o

    def dense(i, o):
        return i * o + o

    def block(i, o):
        condition = 2 * dense(4 * base_channels, o)
        return (
            2 * i + 2 * o + conv(i, o) + conv(o, o) + condition + (conv(i, o, 1) if i != o else 0)
        )

    def attention(c):
        return 2 * c + 4 * dense(c, c)

    mlp = dense(base_channels, 4 * base_channels) + dense(4 * base_channels, 4 * base_channels)
    total = 2 * mlp + (classes + 1) * base_channels + (1000 * base_channels if paper else 0)
    total += conv(3, base_channels)
    skips, h = [base_channels], base_channels
    for level, mult in enumerate(mults):
        for _ in range(blocks):
            total += block(h, base_channels * mult) + (
                attention(base_channels * mult) if level in attends else 0
            )
            h = base_channels * mult
            skips.append(h)
        if level < len(mults) - 1:
            total += conv(h, h) + (conv(h, h, 5) if paper else 0)
            skips.append(h)
    total += 2 * block(h, h) + attention(h)
    for level, mult in reversed(list(enumerate(mults))):
        for _ in range(blocks + 1):
            total += block(h + skips.pop(), base_channels * mult)
            h = base_channels * mult
        if level:
            total += conv(h, h) + (conv(h, h, 5) if paper else 0)
    return total + 2 * h + conv(h, 3)


def parameters(tree):
    return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("preset", "expected", "by_hand"),
    [
        ("cpu", 6_832_899, (64, (1, 2, 2), 2, 2, {1}, False)),
        # The parameters of the paper's code, with its trained table of sinusoids.
        ("paper", 47_763_587, (128, (1, 2, 2, 2), 2, 2, {0, 1, 2, 3}, True)),
    ],
)
def test_parameters_of_the_presets_unets(preset, expected, by_hand):
    size = presets.PRESETS[preset][0]
    config = presets.sized(base.get_config(), size, set())
    side = config.diffusion.image_size
    unet = build_unet(config, size.num_classes)
    params = jax.eval_shape(lambda: init_unet_params(unet, jax.random.key(0), (side, side, 3)))
    assert parameters(params) == expected == unet_parameters(*by_hand)


def test_parameters_of_the_presets_resnets():
    # torchvision's ResNet-18 and ResNet-50 without their heads.
    backbones = {"resnet18": (11_176_512, 512), "resnet50": (23_508_032, 2048)}
    for sizes in presets.PRESETS.values():
        for size in sizes:
            if "classifier.network" in size.fields:
                config = presets.sized(base.get_config(), size, set()).classifier
                model = build_classifier(config, size.num_classes)
                tree = jax.eval_shape(
                    lambda m=model, c=config: init_variables(m, jax.random.key(0), c.image_size)
                )
                backbone, width = backbones[config.network]
                assert parameters(tree["params"]) == backbone + (width + 1) * size.num_classes
    small = presets.PRESETS["cpu"][1]
    assert small.num_classes == 10 and 11_176_512 + 513 * 10 == 11_181_642


def test_a_preset_needs_no_data_set_and_gives_way_to_flags(monkeypatch, capsys):
    size = presets.Size(("training", "input_pipeline"), {"classifier.image_size": 8}, 3, 8)
    other = presets.Size(("diffusion_train",), {}, 3, 8)
    monkeypatch.setattr(command, "PRESETS", {"small": (other, size)})
    monkeypatch.setattr(command, "NUM_IMAGES", 40)
    flags = ["--preset=small", "--programs=input_pipeline", "--rounds=1"]
    assert main([*flags, "--config.classifier.batch_size=7"]) == 0
    printed = capsys.readouterr().out
    assert "40 of noise, 64 px and 40 of noise, 8 px" in printed
    assert printed.count("from memory, 0 threads") == 1

    config = base.get_config()
    config.classifier.image_size = 16
    assert presets.sized(config, size, {"classifier.image_size"}).classifier.image_size == 16
    assert presets.sized(config, size, set()).classifier.image_size == 8
