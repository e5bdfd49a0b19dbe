"""Whole samples against diffusers' StableDiffusionPipeline, on tiny random models that it saves."""

import warnings

import jax
import numpy as np
import pytest
from diffusers_reference import import_diffusers, jit, relative_error, save_randomised, to_torch

from ddb_jax.configs import base
from ddb_jax.text_to_image.latent_diffusion import encode_texts, load_model
from ddb_jax.text_to_image.latent_sampling import sample_images, sample_side, sampler_table
from ddb_jax.text_to_image.tokenizer import train_tokenizer
from ddb_jax.training.mesh import make_mesh

PROMPTS = ("a green seven on black", "A RED three, on black! " * 20)
NEGATIVE = "a blurred seven"
STEPS, SCALE = 10, 3.0
UNET = {
    "block_out_channels": (16, 32),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_size": 8,
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
VAE = {
    "block_out_channels": (8, 16),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "latent_channels": 4,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
}
# What tells the two families apart.
FAMILIES = {
    "1.x": {
        "unet": {"attention_head_dim": 2, "cross_attention_dim": 12},
        "text": {"hidden_size": 12, "num_hidden_layers": 2, "hidden_act": "quick_gelu"},
        "pad_token": "<|endoftext|>",
    },
    "2.x": {
        "unet": {
            "attention_head_dim": (2, 4),
            "cross_attention_dim": 16,
            "use_linear_projection": True,
            "upcast_attention": True,
        },
        "text": {"hidden_size": 16, "num_hidden_layers": 3, "hidden_act": "gelu"},
        "pad_token": "!",
    },
}


@pytest.fixture(scope="module", params=FAMILIES)
def saved(request, tmp_path_factory):
    """The folder of a pipeline that diffusers wrote, and the pipeline."""
    diffusers = import_diffusers()
    transformers = pytest.importorskip("transformers", reason="the text encoder is transformers'")
    family, folder = FAMILIES[request.param], tmp_path_factory.mktemp("model")
    trained = tmp_path_factory.mktemp("tokenizer")
    vocab_size = train_tokenizer(PROMPTS, trained)
    text_config = transformers.CLIPTextConfig(
        vocab_size=vocab_size,
        intermediate_size=24,
        num_attention_heads=2,
        bos_token_id=vocab_size - 2,
        eos_token_id=vocab_size - 1,
        **family["text"],
    )
    with warnings.catch_warnings(action="ignore"):
        tokenizer = transformers.CLIPTokenizer.from_pretrained(
            trained, pad_token=family["pad_token"]
        )
        pipeline = diffusers.StableDiffusionPipeline(
            text_encoder=transformers.CLIPTextModel(text_config),
            tokenizer=tokenizer,
            unet=diffusers.UNet2DConditionModel(**UNET, **family["unet"]),
            vae=diffusers.AutoencoderKL(**VAE),
            scheduler=diffusers.DDIMScheduler(
                beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        for name in ("text_encoder", "unet", "vae"):
            save_randomised(getattr(pipeline, name), folder / name)
        pipeline.save_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return folder, pipeline, diffusers


def reference_images(pipeline, noise):
    """Float images before they are clipped, PyTorch [B, 3, H, W]."""
    import torch

    with warnings.catch_warnings(action="ignore"), torch.no_grad():
        latents = pipeline(
            list(PROMPTS),
            negative_prompt=[NEGATIVE] * len(PROMPTS),
            num_inference_steps=STEPS,
            guidance_scale=SCALE,
            latents=to_torch(noise),
            output_type="latent",
        ).images
        return pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample


def our_images(folder, sampler):
    """The same of ours, NumPy [B, H, W, 3], and the noise that they begin with."""
    model = load_model(folder, "float32")
    settings = base.get_config().text_to_image
    settings.update({"sampler": sampler, "num_steps": STEPS, "spacing": "uniform"})
    table, side = sampler_table(model, settings), sample_side(model, 0)
    contexts = encode_texts(model, [*PROMPTS, NEGATIVE], make_mesh(1))
    keys = jax.vmap(lambda n: jax.random.fold_in(jax.random.key(1), n))(np.arange(len(PROMPTS)))

    @jit
    def draw(params, contexts):
        positions = np.arange(len(PROMPTS), dtype=np.int32)
        return sample_images(model, params, table, SCALE, keys, positions, contexts, side)

    first = [jax.random.normal(jax.random.fold_in(key, 0), (8, 8, 4)) for key in keys]
    return np.asarray(draw(model.params, contexts)), np.stack(first)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("sampler", "prediction_type"),
    [("ddim", "epsilon"), ("ddim", "v_prediction"), ("dpmpp_2m", "v_prediction")],
)
def test_a_guided_sample_of_ten_steps(saved, sampler, prediction_type):
    folder, pipeline, diffusers = saved
    noise = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
        "prediction_type": prediction_type,
        "timestep_spacing": "trailing",
    }
    if sampler == "ddim":
        scheduler = diffusers.DDIMScheduler(
            **noise, clip_sample=False, set_alpha_to_one=True, steps_offset=0
        )
    else:
        scheduler = diffusers.DPMSolverMultistepScheduler(
            **noise, algorithm_type="dpmsolver++", solver_order=2, final_sigmas_type="zero"
        )
    scheduler.save_pretrained(folder / "scheduler")
    pipeline.scheduler = scheduler
    ours, first = our_images(folder, sampler)
    reference = reference_images(pipeline, first)
    assert ours.std() > 0.05
    assert relative_error(ours, reference) <= 1e-4
