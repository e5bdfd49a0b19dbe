"""Biased FFHQ (Lee et al. 2021; larger shares: BiasEnsemble): age, biased by gender.

    python -m ddb_jax.main --config=configs/bffhq.py --config.data.root=data/bffhq

--config.data.pct is 0.5pct, 1pct, 2pct or 5pct. The set is fetched by hand: `python -m
ddb_jax.data.download bffhq` says how. The test split is reported whole
(`average_accuracy`) and on its 500 conflicting images (`conflicting_accuracy`).

Published at 0.5% (Diffusing DeBias, table 3; average, conflicting): ERM -, 60.13 +- 0.46; DDB-I
81.27 +- 0.88, 74.67 +- 2.37; DDB-II 83.15 +- 1.76, 70.93 +- 0.14. Not yet run in full here. One GPU
is needed; the cost is estimated and printed before it starts.
"""

from ml_collections import ConfigDict

from ddb_jax.configs import base, presets


def get_config(preset: str = "") -> ConfigDict:
    """The settings; preset "smoke" is a tiny run of every stage."""
    c = base.get_config()
    c.name = "bffhq"
    c.data.name = "bffhq"
    presets.published_images(c)
    c.data.pct = "0.5pct"

    base.from_imagenet(c.amplifier, "densenet121", "data/weights/densenet121-a639ec97.pth")
    c.amplifier.num_steps = 2_000
    base.from_imagenet(c.classifier, "resnet18", "data/weights/resnet18-f37072fd.pth")
    c.classifier.max_shift = 4
    c.classifier.num_steps = 5_000
    c.classifier.evaluate_every = 250
    return presets.apply_preset(c, preset, {"smoke": presets.smoke})
