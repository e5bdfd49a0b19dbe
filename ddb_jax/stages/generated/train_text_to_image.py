"""Stage: train a latent text-to-image model on the captioned images, or fine-tune a given one.

Writes `checkpoints/`, `metrics.jsonl`, `tensorboard/`, `samples.png` and `model/`, the whole model
in the diffusers layout.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from ddb_jax.data.input_pipeline import train_batches
from ddb_jax.data.source import Example, Source
from ddb_jax.diffusion.gaussian import denoising_loss, noise_batch
from ddb_jax.runtime.processes import this_process
from ddb_jax.stages.common.contact_sheet import save_grid
from ddb_jax.stages.common.picture_names import picture_names
from ddb_jax.stages.context import Context
from ddb_jax.stages.generated.text_to_image_start import (
    from_folder,
    from_scratch,
    init_text_to_image_params,
)
from ddb_jax.text_to_image import model_folder
from ddb_jax.text_to_image.captioned_set import load_captioned
from ddb_jax.text_to_image.latent_diffusion import LatentDiffusion, encode_texts
from ddb_jax.text_to_image.latent_sampling import make_latent_sampler
from ddb_jax.text_to_image.latents import encode_images
from ddb_jax.training import train_state
from ddb_jax.training.fit import Schedule, fit
from ddb_jax.training.mesh import fetch
from ddb_jax.training.optimizer import make_optimizer
from ddb_jax.training.rng import data_seed, stream
from ddb_jax.training.train_state import TrainState

# Of samples.png: captions, and images of each.
SHOWN, PER_CAPTION = 16, 8
SAMPLES = {
    "sampler": "dpmpp_2m",
    "num_steps": 20,
    "spacing": "",
    "eta": 0.0,
    "guidance_scale": 4.0,
    "image_size": 0,
}


class _Numbers(Source):
    """Examples that hold only their index; their data are columns of a batch."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def gather(self, indices: np.ndarray) -> Example:
        """The numbers themselves."""
        return {"index": np.asarray(indices, np.int32)}


def text_to_image_loss(
    model: LatentDiffusion,
    params: Mapping[str, Any],
    key: jax.Array,
    latents: jax.Array,
    tokens: jax.Array,
    no_text: np.ndarray,
    settings: ConfigDict,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The denoising loss of latents given their captions, some of which are dropped for guidance.

    Args:
        model: Its modules, schedule and prediction are used.
        params: "text_encoder" and "unet" -> parameters.
        key: Random key of timesteps, noise and dropped captions.
        latents: float32 [B, s, s, L], of unit deviation.
        tokens: int32 [B, 77], those of the captions.
        no_text: int32 [77], those of the empty caption, which stands for a dropped one.
        settings: The config's `train_text_to_image` section.
    """
    count = len(tokens)
    encode = model.text_encoder.apply
    contexts = encode({"params": params["text_encoder"]}, tokens)
    empty = encode({"params": params["text_encoder"]}, jnp.asarray(no_text)[None])

    def apply_fn(x: jax.Array, t: jax.Array, labels: jax.Array) -> jax.Array:
        """An example's label is its number in the batch, or `count` where its caption is dropped.

        This avoids a lookup, which on several devices would send all texts to each.
        """
        context = jnp.where((labels < count)[:, None, None], contexts, empty)
        return model.unet.apply({"params": params["unet"]}, x, t, context)

    batch = noise_batch(
        model.schedule,
        key,
        latents,
        jnp.arange(count, dtype=jnp.int32),
        num_classes=count,
        prediction=model.prediction,
        label_dropout=settings.caption_dropout,
        min_snr_gamma=settings.min_snr_gamma,
    )
    return denoising_loss(apply_fn, batch)


def run(context: Context) -> dict[str, Any]:
    """Train the UNet, with the text encoder where both are new; then write and show the model."""
    sizes = context.config.train_text_to_image
    settings = sizes.diffusion
    if not sizes.start_from:
        model_folder.check_sizes(sizes)
    captioned = load_captioned(context.config, sizes.image_size)
    texts = tuple(dict.fromkeys(captioned.captions))
    folder = context.folder / "model"
    if sizes.start_from:
        start = from_folder(sizes)
    else:
        start = from_scratch(context, texts, folder / "tokenizer")
    model = start.model
    latents = model.vae.scaling_factor * encode_images(
        model.vae, model.params["vae"], captioned.images, settings.batch_size, context.mesh
    )
    position = {text: i for i, text in enumerate(texts)}
    numbers = np.array([position[text] for text in captioned.captions], np.int32)
    tokens, no_text = model.tokenize(texts)[numbers], model.tokenize([""])[0]
    optimizer = make_optimizer(settings)
    given = {name: model.params[name] for name in start.trained if name in model.params}
    frozen = {name: model.params[name] for name in ("text_encoder",) if name not in start.trained}

    def init(key: jax.Array, given: Mapping[str, Any]) -> TrainState:
        params = given or init_text_to_image_params(model, key, latents.shape[1:])
        return train_state.create({"params": params}, optimizer, ema=sizes.ema_decay > 0)

    def train_step(
        state: TrainState,
        batch: dict[str, jax.Array],
        noise_key: jax.Array,
        frozen: Mapping[str, Any],
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(noise_key, state.step)

        def loss_fn(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
            params = {**frozen, **params}
            return text_to_image_loss(
                model, params, key, batch["latents"], batch["tokens"], no_text, sizes
            )

        (_, metrics), gradients = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        metrics["grad_norm"] = optax.tree.norm(gradients)
        state = train_state.apply_gradients(state, gradients, optimizer, ema_decay=sizes.ema_decay)
        return state, metrics

    state = fit(
        init,
        train_step,
        lambda start: train_batches(
            _Numbers(len(latents)),
            batch_size=settings.batch_size,
            seed=data_seed(context.seed, "train_text_to_image"),
            start_step=start,
            num_steps=settings.num_steps,
            **this_process(),
            columns={"latents": latents, "tokens": tokens},
        ),
        Schedule(settings.num_steps, settings.log_every, settings.checkpoint_every),
        title=context.name,
        folder=context.folder,
        mesh=context.mesh,
        stop=context.stop,
        init_arguments=(stream(context.seed, "train_text_to_image/init"), given),
        step_arguments=(stream(context.seed, "train_text_to_image/noise"), frozen),
    )
    trained = fetch(context.mesh, state.ema_params or state.params)
    model = model._replace(params={**model.params, **trained})
    model_folder.write_model(folder, start.configs, model.params, start.tokenizer)
    _sample_grid(context, model, texts)
    return {
        "images": len(latents),
        "captions": len(texts),
        "parameters": sum(x.size for x in jax.tree.leaves(trained)),
    }


def _sample_grid(context: Context, model: LatentDiffusion, texts: Sequence[str]) -> None:
    """Images of a few captions, drawn by seed from the distinct ones."""
    rng = np.random.default_rng(data_seed(context.seed, "train_text_to_image/samples"))
    shown = [texts[i] for i in np.sort(rng.permutation(len(texts))[:SHOWN])]
    steps = min(SAMPLES["num_steps"], model.schedule.num_timesteps)
    draw = make_latent_sampler(model, ConfigDict({**SAMPLES, "num_steps": steps}), context.mesh)
    contexts = encode_texts(model, [*shown, ""], context.mesh)
    count = len(shown) * PER_CAPTION
    numbers = np.arange(count + -count % context.mesh.size, dtype=np.int32)
    rows = np.minimum(numbers // PER_CAPTION, len(shown) - 1)
    images, _ = draw(
        stream(context.seed, "train_text_to_image/samples"),
        numbers,
        np.concatenate([contexts[rows], contexts[-1:]]),
    )
    images = images[:count].reshape(len(shown), PER_CAPTION, *images.shape[1:])
    save_grid(context.folder / "samples.png", list(images), picture_names(shown, "caption", 100))
