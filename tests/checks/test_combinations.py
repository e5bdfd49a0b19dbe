"""Fields that are each in their range and do not fit together; all shipped configs do."""

import functools
import importlib
from pathlib import Path

import jax
import pytest
from flax.traverse_util import flatten_dict

from ddb_jax.checks.combinations import contradictions, doubts, unet_sides
from ddb_jax.checks.config import check_config
from ddb_jax.configs import base, digits
from ddb_jax.configs import presets as shared_presets
from ddb_jax.runtime.errors import UserError
from ddb_jax.stages.common.generator import build_unet, init_unet_params

FOLDER = Path(base.__file__).parent


def names_of_configs():
    found, presets = [], set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            shared_presets, "apply_preset", lambda c, preset, known: presets.update(known) or c
        )
        for path in sorted(FOLDER.glob("*.py")):
            module = importlib.import_module(f"ddb_jax.configs.{path.stem}")
            if hasattr(module, "get_config"):
                presets.clear()
                module.get_config()
                found += [(path.stem, preset) for preset in ("", *sorted(presets))]
    return found


@pytest.mark.parametrize(("name", "preset"), names_of_configs())
def test_shipped_configs_fit_together(name, preset):
    config = importlib.import_module(f"ddb_jax.configs.{name}").get_config(preset)
    assert contradictions(config) == []
    assert doubts(config) == []


def changed(fields):
    config = base.get_config()
    for name, value in fields.items():
        *sections, field = name.split(".")
        part = config
        for section in sections:
            part = part[section]
        part[field] = value
    return config


DIFFUBIAS = {"methods": ("diffubias",), "captioned.csv": "x.csv"}
REFUSED = {
    # openai/guided-diffusion#47: sides of the UNet, of which the list has none.
    "96": (
        {"diffusion.image_size": 96},
        "config.unet.attention_resolutions is (64, 32, 16, 8), and none of them is a side of the"
        " UNet at config.diffusion.image_size 96, whose levels have 96, 48, 24, 12: name some of"
        " these, or none with ()",
    ),
    "48": ({"diffusion.image_size": 48}, "whose levels have 48, 24, 12, 6: name some"),
    "56": ({"diffusion.image_size": 56}, "whose levels have 56, 28, 14, 7: name some"),
    "deep": ({"unet.attention_resolutions": (4,)}, "is (4,), and none of them is a side"),
    "dropout_0": (
        {"diffusion.label_dropout": 0.0},
        "config.synthesis.guidance_scale is 2.0, and config.diffusion.label_dropout is 0: guidance"
        " needs a model that was also trained without its condition; take 0.1 there, or 1 for"
        " config.synthesis.guidance_scale",
    ),
    "dropout_1": (
        {"diffusion.label_dropout": 1.0},
        "config.diffusion.label_dropout is 1: the model would never see its condition; 0.1 is"
        " usual",
    ),
    "captions_0": (
        DIFFUBIAS | {"train_text_to_image.caption_dropout": 0.0},
        "config.text_to_image.guidance_scale is 7.5, and config.train_text_to_image.caption_dropout"
        " is 0: guidance needs",
    ),
    "steps": (
        DIFFUBIAS | {"train_text_to_image.num_timesteps": 20},
        "config.text_to_image.num_steps is 28, and the model has"
        " config.train_text_to_image.num_timesteps, 20: take no more than these",
    ),
    "betas": (
        {"diffusion.beta_start": 0.5},
        "config.diffusion.beta_start is 0.5, more than config.diffusion.beta_end, 0.028: the noise"
        " would become less from step to step; exchange them",
    ),
    "text_betas": (
        DIFFUBIAS | {"train_text_to_image.beta_start": 0.5},
        "config.train_text_to_image.beta_start is 0.5, more than",
    ),
    "shift": (
        {"classifier.max_shift": 64},
        "config.classifier.max_shift is 64, and the images have 64 pixels: some crops would show"
        " nothing of them; take a few pixels, an eighth is usual",
    ),
    "amplifier_shift": (
        {"amplifier.max_shift": 70},
        "config.amplifier.max_shift is 70, and the images have 64 pixels",
    ),
    "judge_of_generated_images": (
        {"methods": ("erm", "ddb_ii+rebalanced", "ddb_i"), "amplifier.kind": "lda"},
        "config.amplifier.kind is 'lda', and ddb_ii+rebalanced of config.methods needs an amplifier"
        " that judges generated images: take 'network', or leave it out",
    ),
}
FITTING = {
    "none_on_purpose": {"diffusion.image_size": 96, "unet.attention_resolutions": ()},
    "some": {"diffusion.image_size": 128},
    "of_96": {"diffusion.image_size": 96, "unet.attention_resolutions": (24,)},
    "no_guidance": {"diffusion.label_dropout": 0.0, "synthesis.guidance_scale": 1.0},
    "cosine": {"diffusion.beta_start": 0.5, "diffusion.noise_schedule": "cosine"},
    "equal_betas": {"diffusion.beta_start": 0.028},
    "unused": {"train_text_to_image.caption_dropout": 0.0},
    "ddpm": DIFFUBIAS | {"train_text_to_image.num_timesteps": 20, "text_to_image.sampler": "ddpm"},
    "shift": {"classifier.max_shift": 8},
}
DOUBTED = {
    "warmup": (
        {"diffusion.num_steps": 10_000},
        "config.diffusion.warmup_steps is 10000, and config.diffusion.num_steps is 10000: training"
        " ends before the learning rate is config.diffusion.learning_rate; take a tenth of the"
        " steps",
    ),
    "reference_warmup": (
        {"classifier.warmup_steps": 600},
        "config.classifier.warmup_steps is 600, and config.reference.num_steps is 500: training",
    ),
    "probe_warmup": (
        {"amplifier.warmup_steps": 400},
        "config.amplifier.warmup_steps is 400, and config.measure_synthesis.probe_steps is 300:",
    ),
    "text_warmup": (
        DIFFUBIAS | {"train_text_to_image.autoencoder.num_steps": 50},
        "config.train_text_to_image.autoencoder.warmup_steps is 100, and",
    ),
    "evaluate": (
        {"classifier.evaluate_every": 9_000},
        "config.classifier.evaluate_every is 9000, more than config.classifier.num_steps, 5000:"
        " only the last step can be chosen",
    ),
    "swap": (
        {"methods": ("disent",), "disent.swap_after": 5_000},
        "config.disent.swap_after is 5000, and training ends after 5000 steps"
        " (config.classifier.num_steps): disent never swaps; take a fifth of them",
    ),
    "eta": (
        {"synthesis.eta": 0.5},
        "config.synthesis.eta is 0.5, which config.synthesis.sampler dpmpp_2m does not read: take"
        " 'ddim', or 0",
    ),
    "normalization": (
        {"classifier.weights": "r.pth"},
        "config.classifier.weights were trained on images normalised as 'imagenet', and"
        " config.classifier.normalization is 'symmetric': take 'imagenet'",
    ),
    "normalization_of_lite": (
        {
            "classifier.network": "efficientnet_lite0",
            "classifier.weights": "installed",
            "classifier.normalization": "imagenet",
        },
        "config.classifier.weights were trained on images normalised as 'lite', and"
        " config.classifier.normalization is 'imagenet': take 'lite'",
    ),
    "judge_of_random_features": (
        {"amplifier.kind": "lda"},
        "config.amplifier.kind is 'lda', and config.classifier.weights names no file:",
    ),
    "random_backbone": (
        {"classifier.trainable": "head"},
        "config.classifier trains its last layer alone, and config.classifier.weights names no"
        " file: the layers before it stay random; give weights, or take trainable 'all' and a"
        " backbone_lr_scale above 0",
    ),
    "still_backbone": (
        {"amplifier.backbone_lr_scale": 0.0},
        "config.amplifier trains its last layer alone, and",
    ),
    "source": (
        {"classifier.source_size": 32},
        "config.classifier.source_size is 32, less than config.classifier.image_size, 64: images"
        " are made small and then enlarged; take at least as many pixels, or 0",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_contradictions(case):
    fields, words = REFUSED[case]
    (said,) = contradictions(changed(fields))
    assert words in said
    assert not said.endswith(".")  # check_config joins them


@pytest.mark.parametrize("case", FITTING)
def test_what_fits(case):
    assert contradictions(changed(FITTING[case])) == []


@pytest.mark.parametrize("case", DOUBTED)
def test_doubts(case):
    fields, words = DOUBTED[case]
    assert contradictions(changed(fields)) == []
    (said,) = doubts(changed(fields))
    assert words in said


@pytest.mark.parametrize(("size", "levels"), [(32, 3), (48, 3), (56, 4)])
def test_the_sides_are_those_at_which_the_network_attends(size, levels):
    config = digits.get_config("smoke")
    config.unet.channels, config.unet.channel_mults = 8, (1,) * levels
    config.diffusion.image_size = size
    for level, side in enumerate(unet_sides(config)):
        config.unet.attention_resolutions = (side,)
        unet = build_unet(config, 2)
        build = functools.partial(init_unet_params, unet, jax.random.key(0), (size, size, 3))
        params = jax.eval_shape(build)
        modules = {path[0] for path in flatten_dict(params)}
        attending = {name for name in modules if "attention" in name} - {"mid_attention"}
        assert {name.rpartition("_attention")[0] for name in attending} == {f"down_{level}"}


def test_they_are_part_of_what_refuses_a_config(caplog):
    config = digits.get_config("smoke")
    config.num_devices = 1
    config.diffusion.num_steps = config.diffusion.warmup_steps = 4
    check_config(config)
    (record,) = caplog.records
    assert record.message.startswith("warning: config.diffusion.warmup_steps is 4, and config.")
    config.diffusion.image_size = 24
    with pytest.raises(UserError, match=r"none of them is a side of the UNet .* 24, 12, 6: name"):
        check_config(config)
