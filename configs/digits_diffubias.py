"""Coloured digits with images drawn against the bias: by DiffuBias, and by DDB's own model.

    pip install -e '.[text_to_image]'
    python -m ddb_jax.main --config=configs/digits_diffubias.py

A fifth of the digits becomes a captioned set in every colour, on which a small latent diffusion
model is trained: a stand-in for the pretrained model of the paper. It takes 10 minutes on two
CPU cores.

Expected accuracy on conflicting test images, over seeds 0, 1, 2 (docs/results.md): ERM 9.2 +- 5.5,
LfF 2.7 +- 1.5, DiffuBias 40.4 +- 2.4, without its text filter 37.0 +- 1.6, rebalanced 75.0 +- 2.9.
"""

from ml_collections import ConfigDict

from ddb_jax.configs import digits, presets


def get_config(preset: str = "") -> ConfigDict:
    """The settings; preset "smoke" is a tiny run of every stage."""
    c = digits.get_config("smoke" if preset == "smoke" else "")
    c.name = "digits_diffubias"
    c.methods = ("erm", "lff", "diffubias", "diffubias_unfiltered", "rebalanced")
    c.data.reference_share = 0.2
    c.extraction.k = 8  # of about 86 images a class, of which 4 conflict; 100 would be all
    c.captioned.vague_share = 0.25  # with 0, every caption has a frequent word

    t = c.train_text_to_image
    t.text_layers = 1
    t.autoencoder_channels = (16, 32, 64)
    t.autoencoder.num_steps = 500
    t.autoencoder.learning_rate = 2e-3
    t.kl_weight = 1e-3
    t.unet_channels = (64,)
    t.diffusion.num_steps = 1_250
    t.diffusion.learning_rate = 2e-3
    c.amplifier.compare = False
    c.gate.copy_neighbours = 10  # fewer than 90 training images share a digit and its colour
    c.text_to_image.num_steps = 10
    c.text_to_image.guidance_scale = 3.0
    c.text_to_image.dtype = "float32"
    c.text_to_image.batch_size = 200
    return presets.apply_preset(c, preset, {"smoke": _smoke})


def _smoke(c: ConfigDict) -> None:
    """Every stage in about a minute; its numbers mean nothing."""
    c.name = "digits_diffubias_smoke"
    c.classifier.plain_selection = "last"
    c.extraction.k = 2
    c.text_filter.allow_empty_classes = True
    c.generated.ratio = 0.2
    c.text_to_image.num_steps = 2
    c.text_to_image.batch_size = 40
    c.gate.labels = False
    c.train_text_to_image.text_layers = 1
    c.train_text_to_image.autoencoder_channels = (8, 8)
    c.train_text_to_image.unet_channels = (8, 8)
    for section in (c.train_text_to_image.autoencoder, c.train_text_to_image.diffusion):
        section.num_steps = 10
        section.warmup_steps = 2
        section.log_every = 5
