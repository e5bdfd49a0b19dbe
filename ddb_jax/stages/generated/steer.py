"""Stage: DDB's own diffusion model draws images against the bias, without captions or bias labels.

Every class is drawn while the model is steered away from what the bias amplifier expects of it.
`check_generated` then keeps the images that the amplifier rejects. Writes what
`write_sampled_set` does, and `contact_sheet.png`. Image number i is drawn from (seed, i) alone, and
from the same noise however the model is steered.
"""

from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ddb_jax.data.preprocessing import to_input
from ddb_jax.diffusion.steering import extrapolated, log_odds_against, steered
from ddb_jax.runtime.files import read_json
from ddb_jax.stages.common.classifier_training import load_network
from ddb_jax.stages.common.contact_sheet import save_grid
from ddb_jax.stages.common.generator import (
    MakeModel,
    build_noise_schedule,
    guided_unet,
    load_unet_params,
    make_image_sampler,
)
from ddb_jax.stages.common.images_per_class import images_per_class, labels_in_turn
from ddb_jax.stages.common.networks import build_classifier, input_size
from ddb_jax.stages.common.picture_names import picture_names
from ddb_jax.stages.common.sampled_set import write_sampled_set
from ddb_jax.stages.context import Context
from ddb_jax.training.rng import stream


def run(context: Context) -> dict[str, Any]:
    """Draw as many images of every class as `generated.ratio` asks for.

    `options["by"]` is how the model is steered: by the "gradient" of the amplifier, by its
    "difference" to the model that train_balanced_diffusion has fine-tuned, or by "none".
    """
    config, num_classes, by = context.config, context.num_classes, context.options["by"]
    settings, synthesis = config.steering, config.synthesis
    image_shape = context.dataset.train.image_shape
    make_model, weights, details = _model(context, by)
    sample = make_image_sampler(config, num_classes, image_shape, context.mesh, make_model)
    key = stream(context.seed, "steer")
    labels = labels_in_turn(images_per_class(context))
    total = len(labels)
    source, _ = write_sampled_set(
        context,
        lambda numbers: sample(weights, key, numbers, labels[np.minimum(numbers, total - 1)]),
        labels,
        image_shape=image_shape,
        batch_size=synthesis.batch_size,
        shard_size=synthesis.shard_size,
        manifest={
            "steered_by": by,
            **details,
            "diffusion_model": _fingerprint(context, "train_diffusion"),
            "sampler": synthesis.sampler,
            "network_evaluations": (
                config.diffusion.num_timesteps
                if synthesis.sampler == "ddpm"
                else synthesis.num_steps
            ),
            "guidance_scale": _guidance_scale(settings, by),
        },
    )
    rows = [source.images[source.labels == i][:16] for i in range(num_classes)]
    names = picture_names(context.dataset.class_names)
    save_grid(context.folder / "contact_sheet.png", rows, names)
    return {"images": total}


def _model(context: Context, by: str) -> tuple[MakeModel, Any, dict[str, Any]]:
    """The model to sample from, its weights, and its entries in the manifest."""
    config, settings = context.config, context.config.steering
    generator = guided_unet(config, context.num_classes, _guidance_scale(settings, by))
    params = load_unet_params(context, context.inputs["train_diffusion"])
    if by == "none":
        return generator, params, {}
    if by == "difference":
        balanced = load_unet_params(context, context.inputs["train_balanced_diffusion"])
        scale = settings.difference_scale
        return (
            lambda weights: extrapolated(generator(weights[0]), generator(weights[1]), scale),
            (params, balanced),
            {
                "scale": scale,
                "balanced_diffusion_model": _fingerprint(context, "train_balanced_diffusion"),
            },
        )
    assert by == "gradient", by
    log_odds, amplifier = _rejection(context)
    schedule, scale = build_noise_schedule(config), settings.gradient_scale

    def make_model(weights: Any) -> Any:
        return steered(
            generator(weights[0]),
            lambda x_start, labels: log_odds(weights[1], x_start, labels),
            schedule,
            scale,
            prediction=config.diffusion.prediction,
            clip_x_start=config.synthesis.clip_x_start,
        )

    details = {"scale": scale, "amplifier": _fingerprint(context, "train_amplifier")}
    return make_model, (params, amplifier), details


def _guidance_scale(settings: ConfigDict, by: str) -> float:
    return settings.rejection_guidance_scale if by == "none" else settings.guidance_scale


def _rejection(context: Context) -> tuple[Any, Any]:
    """(weights, x_start, labels) -> log-odds that the amplifier sees another class; its weights."""
    settings = context.config.amplifier
    size = input_size(settings, context.dataset.train)
    amplifier = build_classifier(settings, context.num_classes)
    weights = load_network(context, amplifier, context.inputs["train_amplifier"], size)

    def log_odds(weights: Any, x_start: jax.Array, labels: jax.Array) -> jax.Array:
        pixels = 127.5 * (x_start + 1.0)  # those that the image will have, before rounding
        x = to_input(pixels, size, settings.normalization)
        return log_odds_against(amplifier.apply(weights, x, train=False)[0], labels)

    return log_odds, weights


def _fingerprint(context: Context, name: str) -> str:
    return read_json(context.inputs[name] / "done.json")["fingerprint"]
