"""What the training of a text-to-image model starts from: fresh networks, or a model on disk."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ddb_jax.runtime.errors import UserError
from ddb_jax.runtime.files import local_copy
from ddb_jax.runtime.processes import barrier
from ddb_jax.stages.context import Context
from ddb_jax.text_to_image import autoencoder, clip_text, model_folder, unet_condition
from ddb_jax.text_to_image.latent_diffusion import LatentDiffusion, load_model, published_schedule
from ddb_jax.text_to_image.layout import read_layout, read_model_json
from ddb_jax.text_to_image.published_config import check_sides
from ddb_jax.text_to_image.published_params import load_published_params
from ddb_jax.text_to_image.tokenizer import LENGTH, load_tokenizer, train_tokenizer


class Start(NamedTuple):
    """What training starts from.

    Attributes:
        model: Its parameters are those given: of all networks, or of the autoencoder.
        configs: Content of the model's JSON files, see `write_model`.
        tokenizer: Its folder.
        trained: Names of the networks that are trained; the others stay as they are.
    """

    model: LatentDiffusion
    configs: dict[str, dict[str, Any]]
    tokenizer: Path
    trained: tuple[str, ...]


def from_scratch(context: Context, texts: Sequence[str], tokenizer: Path) -> Start:
    """The config's networks, with the autoencoder of the stage before and a tokenizer of `texts`.

    Args:
        context: What the stage is given.
        texts: All captions.
        tokenizer: Folder that the tokenizer is written to.

    Raises:
        UserError: The tokenizer cannot be made.
    """
    sizes = context.config.train_text_to_image
    vae_folder = context.inputs["train_autoencoder"] / "vae"
    try:
        vocab_size = train_tokenizer(texts, tokenizer, sizes.vocab_size)
    except ValueError as error:
        raise UserError(f"config.train_text_to_image: {error}.") from error
    configs = {
        "model_index": model_folder.model_index(),
        "text_encoder": model_folder.text_encoder_config(sizes, vocab_size),
        "unet": model_folder.unet_config(sizes),
        "vae": read_model_json(vae_folder / "config.json"),
        "scheduler": model_folder.scheduler_config(sizes),
    }
    vae = autoencoder.from_config(configs["vae"])
    images = jax.ShapeDtypeStruct((1, sizes.image_size, sizes.image_size, 3), jnp.float32)
    abstract = jax.eval_shape(vae.init, jax.random.key(0), images)["params"]
    barrier("the tokenizer is written")
    with local_copy(vae_folder) as vae_files, local_copy(tokenizer) as tokenizer_files:
        vae_params = load_published_params(vae_files, abstract)
        tokenize = load_tokenizer(tokenizer_files)
    model = LatentDiffusion(
        clip_text.from_config(configs["text_encoder"]),
        unet_condition.from_config(configs["unet"]),
        vae,
        {"vae": vae_params},
        published_schedule(
            sizes.beta_schedule, sizes.num_timesteps, sizes.beta_start, sizes.beta_end
        ),
        sizes.prediction,
        tokenize,
    )
    return Start(model, configs, tokenizer, ("text_encoder", "unet"))


def from_folder(sizes: ConfigDict) -> Start:
    """The model in `start_from`, whose UNet is fine-tuned.

    Raises:
        UserError: It is not complete or of another kind, or the images' side does not fit it.
    """
    folder = Path(sizes.start_from).expanduser()
    model, layout = load_model(folder, jnp.float32), read_layout(folder)
    try:
        levels = len(model.vae.block_out_channels) + len(model.unet.block_out_channels) - 1
        check_sides(sizes.image_size, sizes.image_size, levels)
    except ValueError as error:
        raise UserError(
            f"config.train_text_to_image.image_size does not fit the model in {folder}: {error}."
        ) from error
    side = sizes.image_size // model.vae_factor
    configs = {
        "model_index": read_model_json(folder / "model_index.json"),
        "text_encoder": layout.text_encoder.config,
        "unet": layout.unet.config | {"sample_size": side},
        "vae": layout.vae.config | {"sample_size": sizes.image_size},
        "scheduler": read_model_json(folder / "scheduler" / "scheduler_config.json"),
    }
    model = model._replace(unet=model.unet.clone(sample_size=side))
    return Start(model, configs, layout.tokenizer, ("unet",))


def init_text_to_image_params(
    model: LatentDiffusion, key: jax.Array, latent_shape: tuple[int, ...]
) -> dict[str, Any]:
    """Fresh parameters of the text encoder and the UNet; traceable."""
    text_key, unet_key = jax.random.split(key)
    text = jnp.zeros((1, LENGTH, model.text_encoder.hidden_size), jnp.float32)
    x, t = jnp.zeros((1, *latent_shape), jnp.float32), jnp.zeros((1,), jnp.int32)
    text_encoder = model.text_encoder.init(text_key, jnp.zeros((1, LENGTH), jnp.int32))
    unet = model.unet.init(unet_key, x, t, text)
    return {"text_encoder": text_encoder["params"], "unet": unet["params"]}
