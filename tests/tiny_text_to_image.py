"""A random text-to-image model on disk, in the diffusers layout, written without PyTorch."""

import json

import jax
import jax.numpy as jnp
import numpy as np
from diffusers_reference import random_params

from ddb_jax.text_to_image import autoencoder, clip_text, unet_condition
from ddb_jax.text_to_image.published_params import save_params
from ddb_jax.text_to_image.tokenizer import train_tokenizer

CAPTIONS = ("a green seven on black", "a red three on black", "the digit seven, in blue")
MODEL_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": [None, None],
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 20,
    "beta_start": 0.01,
    "beta_end": 0.2,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
}
TEXT_ENCODER = {
    "vocab_size": 600,
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
UNET = {
    "attention_head_dim": 2,
    "block_out_channels": [8],
    "cross_attention_dim": 8,
    "down_block_types": ["CrossAttnDownBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_size": 4,
    "up_block_types": ["CrossAttnUpBlock2D"],
}
VAE = {
    "block_out_channels": [4, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "latent_channels": 4,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "scaling_factor": 0.5,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
}


def write_model(folder, *, scheduler=None, unet=None, change_params=None):
    """Write one that draws 8x8 images.

    `scheduler` and `unet` are what else is in those files. `change_params` is called with the
    parameters, "text_encoder", "unet" and "vae", before they are written.
    """
    train_tokenizer(CAPTIONS, folder / "tokenizer", 600)
    configs = {"text_encoder": TEXT_ENCODER, "unet": UNET | (unet or {}), "vae": VAE}
    text_encoder, unet, vae = (
        source.from_config(configs[name])
        for name, source in (
            ("text_encoder", clip_text),
            ("unet", unet_condition),
            ("vae", autoencoder),
        )
    )
    key, ids = jax.random.key(0), jnp.zeros((1, 77), jnp.int32)
    text = jnp.zeros((1, 77, TEXT_ENCODER["hidden_size"]))
    params = {
        "text_encoder": jax.eval_shape(text_encoder.init, key, ids)["params"],
        "unet": jax.eval_shape(
            unet.init, key, jnp.zeros((1, 4, 4, 4)), jnp.zeros(1, jnp.int32), text
        )["params"],
        "vae": jax.eval_shape(vae.init, key, jnp.zeros((1, 8, 8, 3)))["params"],
    }
    params = random_params(params)
    # As far as an untrained encoder tells texts apart, let the tokens do so.
    embeddings = params["text_encoder"]["text_model"]["embeddings"]
    embeddings["token_embedding"]["embedding"] *= 5
    if change_params:
        change_params(params)
    for name in params:
        _write(folder / name / "config.json", configs[name])
        stem = "model" if name == "text_encoder" else "diffusion_pytorch_model"
        save_params(folder / name / f"{stem}.safetensors", params[name])
    _write(folder / "model_index.json", MODEL_INDEX)
    _write(folder / "scheduler" / "scheduler_config.json", SCHEDULER | (scheduler or {}))
    return params


def nan_in_decoder(params):
    """A change of parameters that leaves no image finite."""
    params["vae"]["decoder"]["conv_out"]["bias"][0] = np.nan


def _write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
