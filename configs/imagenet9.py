"""ImageNet-9 (Bahng et al. 2020): nine super-classes of ImageNet, tested on ImageNet-A.

    python -m ddb_jax.main --config=configs/imagenet9.py --config.data.root=IMAGENET \
        --config.data.imagenet_a_root=IMAGENET_A

IMAGENET holds train/<WordNet id>/* and perhaps val/<WordNet id>/*, IMAGENET_A the folders of
ImageNet-A. `python -m ddb_jax.data.download imagenet9` says how to obtain them.

Published, average accuracy on ImageNet-A (Diffusing DeBias, table 3): ERM 30.30, DDB-I 39.80 +-
0.50, DDB-II 37.53 +- 0.82. Not yet run in full here. The classifier is trained from scratch, as
ReBias does. One GPU is needed; the cost is estimated and printed before it starts.
"""

from ml_collections import ConfigDict

from ddb_jax.configs import base, presets


def get_config(preset: str = "") -> ConfigDict:
    """The settings; preset "smoke" is a tiny run of every stage."""
    c = base.get_config()
    c.name = "imagenet9"
    c.methods = ("erm", "ddb_i", "ddb_i_error_set", "ddb_ii")
    c.data.name = "imagenet9"
    presets.published_images(c)
    c.data.imagenet_a_root = ""
    c.data.resize = "center_crop"

    # From scratch: ImageNet weights were fitted to these very images, with finer labels.
    base.from_imagenet(c.amplifier, "densenet121", "")
    c.amplifier.num_steps = 5_000
    c.classifier.image_size = 224
    c.classifier.source_size = 256
    c.classifier.normalization = "imagenet"
    c.classifier.random_resized_crop = 0.08
    c.classifier.learning_rate = 1e-3
    c.classifier.lr_schedule = "cosine"
    c.classifier.weight_decay = 1e-4
    c.classifier.num_steps = 50_000  # 117 passes over 54,600 images
    c.classifier.evaluate_every = 1_000
    return presets.apply_preset(c, preset, {"smoke": presets.smoke})
