"""Small sizes that several configs share, and how a preset is chosen."""

import difflib
import os
from collections.abc import Callable

from ml_collections import ConfigDict


def published_images(c: ConfigDict) -> None:
    """A published set is taken as it is, as the loaders take it that its figures were made with."""
    c.data.background = "stored"
    c.data.allow_leaks = True  # a warning tells which test images are training images, too


def small_generator(c: ConfigDict) -> None:
    """A diffusion model of small coloured digits, trained in minutes on two CPU cores."""
    c.unet.channels = 16
    c.unet.channel_mults = (1, 2, 2)
    c.unet.num_res_blocks = 1
    c.unet.attention_resolutions = (4,)
    c.unet.dropout = 0.0
    c.unet.downsample = "conv"
    c.unet.upsample = "nearest"

    c.diffusion.image_size = 16
    # With eps prediction the same network learns the colours of its classes far more slowly.
    c.diffusion.prediction = "v"
    c.diffusion.min_snr_gamma = 5.0
    c.diffusion.ema_decay = 0.995
    c.diffusion.num_steps = 1_500
    c.diffusion.learning_rate = 3e-3
    c.diffusion.warmup_steps = 100
    c.diffusion.checkpoint_every = 500
    c.synthesis.num_steps = 10


def small_classifier(c: ConfigDict) -> None:
    """A classifier section for the same images: a ResNet-8."""
    c.network = "resnet8"
    c.width = 16
    c.stem = "cifar"
    c.max_shift = 2
    c.flip = False
    c.batch_size = 64
    c.learning_rate = 3e-3
    c.lr_schedule = "cosine"
    c.checkpoint_every = 250


def smoke(c: ConfigDict) -> None:
    """Every stage in a few minutes on two cores, with the set's own images."""
    c.name += "_smoke"
    c.unet.channels = 16
    c.unet.channel_mults = (1, 2, 2)
    c.unet.num_res_blocks = 1
    c.unet.attention_resolutions = (8,)
    c.diffusion.image_size = 32
    c.diffusion.num_steps = 100
    c.diffusion.warmup_steps = 10
    c.diffusion.log_every = 10
    c.diffusion.checkpoint_every = 50
    c.synthesis.images_per_class = 20
    c.synthesis.num_steps = 5
    c.synthesis.batch_size = 40
    c.synthesis.shard_size = 40
    c.measure_synthesis.probe_steps = 10
    c.amplifier.image_size = 0
    c.classifier.image_size = 64
    c.classifier.source_size = 0
    for section in (c.amplifier, c.classifier):
        section.network = "resnet8"
        section.width = 16
        section.weights = ""
        section.num_steps = 30
        section.batch_size = 32
        section.log_every = 10
        section.checkpoint_every = 10
    c.classifier.evaluate_every = 15
    c.reference.num_steps = 10


def by_devices(c: ConfigDict) -> str:
    """The preset for these devices, "gpu" or "cpu"; the config says why in `chosen`."""
    import jax  # here, since the devices can only be asked for once all processes have joined

    if jax.default_backend() != "cpu":
        kind = jax.devices()[0].device_kind
        c.chosen = (
            f"sizes of the preset gpu, for {jax.device_count()} x {kind}: DDB in full; for less"
            " take the preset cpu (no diffusion model) or ddb_cpu, as in --config=FILE.py:cpu"
        )
        return "gpu"
    c.chosen = (
        f"sizes of the preset cpu, for {os.cpu_count()} cores and no accelerator: no diffusion"
        " model, linear discriminant analysis of ImageNet features judges the images; for DDB take"
        " the preset ddb_cpu (an hour and more) or gpu (days here), as in --config=FILE.py:ddb_cpu"
    )
    return "cpu"


def apply_preset(
    config: ConfigDict, preset: str, presets: dict[str, Callable[[ConfigDict], None]]
) -> ConfigDict:
    """Change `config` by the preset named after the colon in --config=file.py:preset.

    Raises:
        ValueError: There is no such preset; names the nearest.
    """
    if preset:
        if preset not in presets:
            near = difflib.get_close_matches(preset, presets, 1, 0.0)
            hint = f"the nearest is {near[0]!r}" if near else "this config has none"
            raise ValueError(f"there is no preset {preset!r}; {hint}")
        presets[preset](config)
    return config
