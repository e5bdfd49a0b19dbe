"""A text-to-image model of the config's sizes, and any model as a folder in the diffusers layout.

What config.json files say is the diffusers and transformers libraries' own vocabulary, so that
they load the folder as they load a published one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ddb_jax.runtime.errors import UserError, first_line, write_failure
from ddb_jax.runtime.files import copy_tree, make_folder, write_json
from ddb_jax.text_to_image import autoencoder, clip_text, unet_condition
from ddb_jax.text_to_image.layout import PIPELINES, STEMS
from ddb_jax.text_to_image.published_config import check_sides
from ddb_jax.text_to_image.published_params import save_params
from ddb_jax.text_to_image.tokenizer import LENGTH

CLASS_NAMES = {
    "scheduler": ("diffusers", "DDIMScheduler"),
    "text_encoder": ("transformers", "CLIPTextModel"),
    "tokenizer": ("transformers", "CLIPTokenizer"),
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
}
# Optional parts of a pipeline that no model here has.
NO_CHECKER = {
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
}
PREDICTION_TYPES = {"eps": "epsilon", "v": "v_prediction"}


def model_index() -> dict[str, Any]:
    """model_index.json of a model of the config's sizes."""
    parts = {part: list(names) for part, names in CLASS_NAMES.items()}
    return {"_class_name": PIPELINES[0], **parts}


def autoencoder_config(settings: ConfigDict, scaling_factor: float = 1.0) -> dict[str, Any]:
    """vae/config.json of the config's `train_text_to_image` section."""
    channels = list(settings.autoencoder_channels)
    return {
        "_class_name": CLASS_NAMES["vae"][1],
        "act_fn": "silu",
        "block_out_channels": channels,
        "down_block_types": ["DownEncoderBlock2D"] * len(channels),
        "in_channels": 3,
        "latent_channels": settings.latent_channels,
        "layers_per_block": settings.autoencoder_blocks,
        "norm_num_groups": settings.norm_num_groups,
        "out_channels": 3,
        "sample_size": settings.image_size,
        "scaling_factor": scaling_factor,
        "up_block_types": ["UpDecoderBlock2D"] * len(channels),
    }


def text_encoder_config(settings: ConfigDict, vocab_size: int) -> dict[str, Any]:
    """text_encoder/config.json of the same; START and END are the last two tokens."""
    return {
        "architectures": [CLASS_NAMES["text_encoder"][1]],
        "bos_token_id": vocab_size - 2,
        "eos_token_id": vocab_size - 1,
        "hidden_act": "quick_gelu",
        "hidden_size": settings.text_width,
        "intermediate_size": 4 * settings.text_width,
        "max_position_embeddings": LENGTH,
        "model_type": "clip_text_model",
        "num_attention_heads": settings.text_heads,
        "num_hidden_layers": settings.text_layers,
        "pad_token_id": vocab_size - 1,
        "vocab_size": vocab_size,
    }


def unet_config(settings: ConfigDict) -> dict[str, Any]:
    """unet/config.json of the same; every level attends to the text."""
    channels = list(settings.unet_channels)
    return {
        "_class_name": CLASS_NAMES["unet"][1],
        "attention_head_dim": settings.unet_heads,  # their name for the number of heads
        "block_out_channels": channels,
        "cross_attention_dim": settings.text_width,
        "down_block_types": ["CrossAttnDownBlock2D"] * len(channels),
        "in_channels": settings.latent_channels,
        "layers_per_block": settings.unet_blocks,
        "norm_num_groups": settings.norm_num_groups,
        "out_channels": settings.latent_channels,
        "sample_size": settings.image_size // 2 ** (len(settings.autoencoder_channels) - 1),
        "up_block_types": ["CrossAttnUpBlock2D"] * len(channels),
        "use_linear_projection": True,
    }


def scheduler_config(settings: ConfigDict) -> dict[str, Any]:
    """scheduler/scheduler_config.json of the same; diffusers then steps as our ddim does."""
    return {
        "_class_name": CLASS_NAMES["scheduler"][1],
        "beta_end": settings.beta_end,
        "beta_schedule": settings.beta_schedule,
        "beta_start": settings.beta_start,
        "clip_sample": False,
        "num_train_timesteps": settings.num_timesteps,
        "prediction_type": PREDICTION_TYPES[settings.prediction],
        "set_alpha_to_one": True,
        "steps_offset": 1,  # "trailing" does not read it; a pipeline warns of any other
        "timestep_spacing": "trailing",
    }


def check_sizes(settings: ConfigDict) -> None:
    """Refuse sizes of the config's `train_text_to_image` section that do not fit together.

    Raises:
        UserError: The sentence names the first that does not.
    """
    try:
        vae = autoencoder.from_config(autoencoder_config(settings))
        unet = unet_condition.from_config(unet_config(settings))
        clip_text.from_config(text_encoder_config(settings, settings.vocab_size))
        if settings.text_width % settings.text_heads:
            raise ValueError(
                f"text_heads = {settings.text_heads} does not divide"
                f" text_width = {settings.text_width}"
            )
        # The autoencoder's last level and the UNet's first are one.
        levels = len(vae.block_out_channels) + len(unet.block_out_channels) - 1
        check_sides(settings.image_size, settings.image_size, levels)
    except ValueError as error:
        raise UserError(f"config.train_text_to_image: {error}.") from error


def write_part(folder: Path, part: str, config: Mapping[str, Any], params: Any) -> None:
    """Write config.json and the weights of one network of the layout to `folder`.

    Args:
        folder: Made if missing.
        part: "text_encoder", "unet" or "vae".
        config: Config of the network.
        params: Its parameters.

    Raises:
        UserError: The disk is full.
    """
    try:
        make_folder(folder)
        write_json(folder / "config.json", dict(config))
        save_params(folder / f"{STEMS[part]}.safetensors", params)
    except OSError as error:
        reason, fix = write_failure(error) or (first_line(error), "make room")
        raise UserError(
            f"the weights could not be written to {folder} ({reason}); {fix} and run again."
        ) from error


def write_model(
    folder: Path,
    configs: Mapping[str, Mapping[str, Any]],
    params: Mapping[str, Any],
    tokenizer: Path,
) -> None:
    """Write a whole model.

    Args:
        folder: Made if missing.
        configs: Content of model_index.json and of the config files of the three networks and of
            the scheduler, under "model_index", "text_encoder", "unet", "vae" and "scheduler".
        params: Parameters of the three networks.
        tokenizer: A folder with a tokenizer's files; may be the model's own.

    Raises:
        UserError: The disk is full.
    """
    for part in STEMS:
        write_part(folder / part, part, configs[part], params[part])
    make_folder(folder / "scheduler")
    write_json(folder / "scheduler" / "scheduler_config.json", dict(configs["scheduler"]))
    if tokenizer != folder / "tokenizer":
        copy_tree(tokenizer, folder / "tokenizer")
    write_json(folder / "model_index.json", dict(configs["model_index"]) | NO_CHECKER)
