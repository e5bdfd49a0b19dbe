"""Coloured digits: scikit-learn's 1,797 handwritten digits, whose colour gives the class away.

    python -m ddb_jax.main --config=configs/digits.py

95% of the training images of a class share its colour; test colours are independent of the class.
Nothing is downloaded. On two CPU cores it takes about 4 minutes and 1.4 GB.

Expected accuracy on conflicting test images, over seeds 0, 1, 2 (docs/results.md): ERM 6.6 +- 5.3,
DDB-I 58.4 +- 2.7, DDB-II 57.5 +- 2.6, GroupDRO with true groups 56.2 +- 3.6.
"""

from ml_collections import ConfigDict

from ddb_jax.configs import base, presets


def get_config(preset: str = "") -> ConfigDict:
    """The settings; preset "smoke" is a tiny run of every stage."""
    c = base.get_config()
    c.name = "digits"

    c.data.name = "digits"
    c.data.aligned_share = 0.95  # of train and validation; 0.1 is no bias
    c.data.colour_jitter = 0.03  # deviation per channel, of 1
    c.data.validation_share = 0.2
    c.data.test_share = 0.25
    c.data.reference_share = 0.0  # of all digits, kept for a captioned set: digits_diffubias.py

    presets.small_generator(c)
    c.diffusion.log_every = 50
    c.synthesis.images_per_class = 100
    c.synthesis.shard_size = 200

    c.classifier.image_size = 16
    for section in (c.amplifier, c.classifier):
        presets.small_classifier(section)
        section.num_steps = 500
        section.log_every = 50
    c.amplifier.compare = True
    c.amplifier.label_smoothing = 0.05
    c.classifier.evaluate_every = 50
    c.disent.swap_after = 100
    c.reference.num_steps = 100
    c.classifier.plain_selection = "worst_pseudo_group"  # one rule for all without bias labels

    return presets.apply_preset(c, preset, {"smoke": _smoke})


def _smoke(c: ConfigDict) -> None:
    """Every stage in about a minute; its numbers mean nothing."""
    c.name = "digits_smoke"
    c.unet.channels = 8
    c.diffusion.num_steps = 20
    c.diffusion.log_every = 5
    c.diffusion.checkpoint_every = 10
    c.diffusion.warmup_steps = 5
    c.synthesis.images_per_class = 8
    c.synthesis.num_steps = 4
    c.synthesis.batch_size = 40
    c.synthesis.shard_size = 40
    c.measure_synthesis.probe_steps = 10
    for section in (c.amplifier, c.classifier):
        section.width = 8
        section.num_steps = 20
        section.log_every = 5
        section.checkpoint_every = 10
    c.classifier.evaluate_every = 10
    c.reference.num_steps = 10
