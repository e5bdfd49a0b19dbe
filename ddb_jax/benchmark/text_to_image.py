"""Drawing with the config's text-to-image model, or one of the sizes that it would train."""

from typing import Any

import jax
import numpy as np

from ddb_jax.benchmark.bench import Bench
from ddb_jax.benchmark.programs import Program
from ddb_jax.runtime.errors import UserError
from ddb_jax.text_to_image import autoencoder, clip_text, model_folder, unet_condition
from ddb_jax.text_to_image.latent_diffusion import PREDICTIONS, LatentDiffusion, published_schedule
from ddb_jax.text_to_image.latent_sampling import sample_images, sample_side, sampler_table
from ddb_jax.text_to_image.layout import read_layout
from ddb_jax.text_to_image.tokenizer import LENGTH
from ddb_jax.training.compilation import jit
from ddb_jax.training.mesh import batch_sharding, replicated
from ddb_jax.training.rng import stream


def text_to_image(bench: Bench) -> list[Program]:
    """Guided latents and their decoding, by the config's sampler at all of its steps."""
    settings = bench.config.text_to_image
    model = build_model(bench)
    table, side = sampler_table(model, settings), sample_side(model, settings.image_size)
    batch_size, scale = settings.batch_size, settings.guidance_scale
    small = side // model.vae_factor
    width = model.unet.cross_attention_dim
    latents = np.zeros((1, small, small, model.vae.latent_channels), np.float32)
    rng = np.random.default_rng(0)
    contexts = rng.standard_normal((batch_size + 1, LENGTH, width), np.float32)
    whole, split = replicated(bench.mesh), batch_sharding(bench.mesh)

    def init() -> dict[str, Any]:
        key, zero = stream(0, "benchmark/init"), np.zeros(1, np.int32)
        image = np.zeros((1, side, side, 3), np.float32)
        vae = model.vae.init(key, image)["params"]
        return {
            "unet": model.unet.init(key, latents, zero, contexts[:1])["params"],
            "vae": {name: vae[name] for name in ("decoder", "post_quant_conv")},
        }

    def weights(array: jax.ShapeDtypeStruct) -> jax.Array:
        values = 0.02 * rng.standard_normal(array.shape, np.float32)
        return jax.device_put(values.astype(settings.dtype), whole)

    def draw(params: Any, keys: Any, positions: Any, contexts: Any) -> Any:
        return sample_images(model, params, table, scale, keys, positions, contexts, side)

    keys = jax.random.split(stream(0, "benchmark/sample"), batch_size)
    positions = np.arange(batch_size, dtype=np.int32)
    steps = len(table.timesteps)
    return [
        Program(
            f"{settings.sampler}, {steps:,} evaluations: {settings.folder or 'of the config'},"
            f" guidance {scale:g}, {side} px, {batch_size} images, {settings.dtype}",
            jit(draw),
            (
                jax.tree.map(weights, jax.eval_shape(init)),
                *jax.device_put((keys, positions), split),
                jax.device_put(contexts.astype(settings.dtype), whole),
            ),
            batch_size,
            settings.dtype,
            evaluations=(steps, steps),
            loops=True,
        )
    ]


def build_model(bench: Bench) -> LatentDiffusion:
    """The networks of `text_to_image.folder`, or of the sizes of `train_text_to_image`; no weights.

    Raises:
        UserError: The folder is not complete or of another kind, or the sizes do not fit together.
    """
    settings, sizes = bench.config.text_to_image, bench.config.train_text_to_image
    folder = settings.folder or sizes.start_from
    if not folder:
        model_folder.check_sizes(sizes)
    try:
        if folder:
            layout = read_layout(folder)
            parts = (layout.text_encoder.config, layout.unet.config, layout.vae.config)
            noise = layout.scheduler
            name, count = noise.beta_schedule, noise.num_train_timesteps
            prediction = PREDICTIONS[noise.prediction_type]
        else:
            parts = (
                model_folder.text_encoder_config(sizes, sizes.vocab_size),
                model_folder.unet_config(sizes),
                model_folder.autoencoder_config(sizes),
            )
            noise, name, count = sizes, sizes.beta_schedule, sizes.num_timesteps
            prediction = sizes.prediction
        makers = (clip_text.from_config, unet_condition.from_config, autoencoder.from_config)
        modules = [make(part, settings.dtype) for make, part in zip(makers, parts, strict=True)]
        schedule = published_schedule(name, count, noise.beta_start, noise.beta_end)
    except (OSError, KeyError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise UserError(f"the text-to-image model in {folder} cannot be used: {reason}.") from error
    return LatentDiffusion(*modules, {}, schedule, prediction, lambda texts: np.zeros(0))
