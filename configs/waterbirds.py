"""Waterbirds (Sagawa et al. 2020): the kind of bird, biased by the background.

    python -m ddb_jax.data.download waterbirds
    python -m ddb_jax.main --config=configs/waterbirds.py --config.data.root=data/waterbirds

Compare `worst_group_accuracy`. The "average" of the papers is weighted by the training groups:
`train_weighted_accuracy`. The plain average is `average_accuracy`.

Published worst-group accuracy (Diffusing DeBias, table 1): ERM 62.60 +- 0.30, GroupDRO 91.40 +-
1.10, DDB-I 90.81 +- 0.68, DDB-II 91.56 +- 0.15. Not yet run in full here. The target's optimiser
and passes are those of GroupDRO's released command, but images are scaled to 224 px whole, where it
takes the central 224 of 256. One GPU is needed; the cost is estimated and printed before it starts.
"""

from ml_collections import ConfigDict

from ddb_jax.configs import base, presets


def get_config(preset: str = "") -> ConfigDict:
    """The settings; preset "smoke" is a tiny run of every stage."""
    c = base.get_config()
    c.name = "waterbirds"
    c.data.name = "waterbirds"
    presets.published_images(c)

    base.from_imagenet(c.amplifier, "densenet121", "data/weights/densenet121-a639ec97.pth")
    c.amplifier.num_steps = 2_000
    base.from_imagenet(c.classifier, "resnet50", "data/weights/resnet50-0676ba61.pth")
    c.classifier.flip = False
    c.classifier.optimizer = "sgd"
    c.classifier.learning_rate = 1e-3
    c.classifier.weight_decay = 1e-4
    c.classifier.num_steps = 11_250  # 300 passes
    c.classifier.evaluate_every = 250
    return presets.apply_preset(c, preset, {"smoke": presets.smoke})
