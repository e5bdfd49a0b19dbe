"""Folders in the diffusers layout: what is read of them, and what is refused in which words."""

import json

import pytest

from ddb_jax.text_to_image.layout import NoiseScheduler, read_layout, weight_files

# What model_index.json and scheduler_config.json say in Stable Diffusion 1.5 and 2.1.
MODEL_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.6.0",
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
SCHEDULER_1_5 = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}
SCHEDULER_2_1 = SCHEDULER_1_5 | {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}

FILES = {
    "model_index.json": MODEL_INDEX,
    "scheduler/scheduler_config.json": SCHEDULER_1_5,
    "text_encoder/config.json": {"hidden_size": 768},
    "text_encoder/model.safetensors": "",
    "tokenizer/merges.txt": "",
    "tokenizer/vocab.json": {},
    "unet/config.json": {"in_channels": 4},
    "unet/diffusion_pytorch_model.safetensors": "",
    "vae/config.json": {"latent_channels": 4},
    "vae/diffusion_pytorch_model.safetensors": "",
}


def write(folder, **changes):
    """The files of FILES but for `changes`, by name; None leaves one out."""
    for name, content in (FILES | changes).items():
        if content is not None:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_a_whole_folder(tmp_path):
    layout = read_layout(write(tmp_path))
    assert layout.text_encoder.config == {"hidden_size": 768}
    assert layout.text_encoder.files == (tmp_path / "text_encoder" / "model.safetensors",)
    assert layout.unet.config == {"in_channels": 4}
    assert layout.unet.files == (tmp_path / "unet" / "diffusion_pytorch_model.safetensors",)
    assert layout.vae.config == {"latent_channels": 4}
    assert layout.vae.files == (tmp_path / "vae" / "diffusion_pytorch_model.safetensors",)
    assert layout.tokenizer == tmp_path / "tokenizer"
    assert layout.scheduler == NoiseScheduler(
        class_name="PNDMScheduler",
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="epsilon",
        steps_offset=1,
        set_alpha_to_one=False,
    )


def test_the_prediction_type_of_2_1(tmp_path):
    changes = {"scheduler/scheduler_config.json": SCHEDULER_2_1}
    scheduler = read_layout(write(tmp_path, **changes)).scheduler
    assert (scheduler.class_name, scheduler.prediction_type) == ("DDIMScheduler", "v_prediction")


def test_a_tokenizer_may_be_one_file(tmp_path):
    changes = {f"tokenizer/{name}": None for name in ("merges.txt", "vocab.json")}
    read_layout(write(tmp_path, **changes, **{"tokenizer/tokenizer.json": {}}))


def test_everything_that_is_missing_is_named_at_once(tmp_path):
    gone = [name for name in FILES if name not in ("model_index.json", "unet/config.json")]
    with pytest.raises(ValueError) as error:
        read_layout(write(tmp_path, **dict.fromkeys(gone)))
    message = str(error.value)
    assert all(name in message for name in gone)
    assert "unet/config.json" not in message and "model_index.json" not in message
    assert "\n" not in message


def test_an_empty_folder_and_none(tmp_path):
    with pytest.raises(ValueError, match=r"lacks model_index\.json, scheduler/.*, vae/"):
        read_layout(tmp_path)
    with pytest.raises(ValueError, match=r"there is no folder .*elsewhere"):
        read_layout(tmp_path / "elsewhere")


def shards(variant):
    """Two shards and their index, as the libraries name them with and without a variant."""
    dot, stem = f".{variant}" if variant else "", "unet/diffusion_pytorch_model"
    names = [f"{stem}{dot}-0000{i}-of-00002.safetensors" for i in (1, 2)]
    first, second = (name.removeprefix("unet/") for name in names)
    index = {"weight_map": {"a.weight": second, "b.weight": first, "c.weight": second}}
    return names, {f"{stem}.safetensors.index{dot}.json": index}


@pytest.mark.parametrize("variant", ["", "fp16"])
def test_shards(tmp_path, variant):
    names, index = shards(variant)
    changes = {"unet/diffusion_pytorch_model.safetensors": None, **index, names[0]: ""}
    with pytest.raises(ValueError, match=f"it lacks {names[1]} \\("):
        read_layout(write(tmp_path, **changes))
    (tmp_path / names[1]).touch()
    assert read_layout(tmp_path).unet.files == tuple(tmp_path / name for name in names)


def test_an_index_without_a_map(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ValueError, match="has no weight_map"):
        weight_files(tmp_path)


def test_half_precision_is_read_only_where_there_is_no_other(tmp_path):
    half = "vae/diffusion_pytorch_model.fp16.safetensors"
    write(tmp_path, **{half: ""})
    whole = tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
    assert read_layout(tmp_path).vae.files == (whole,)
    whole.unlink()
    assert read_layout(tmp_path).vae.files == (tmp_path / half,)


@pytest.mark.parametrize(
    ("key", "value", "supported"),
    [
        ("_class_name", "StableDiffusionXLPipeline", "StableDiffusionPipeline"),
        ("text_encoder", ["transformers", "T5EncoderModel"], "CLIPTextModel"),
        ("unet", ["diffusers", "UNet3DConditionModel"], "UNet2DConditionModel"),
        ("vae", ["diffusers", "AutoencoderTiny"], "AutoencoderKL"),
        ("scheduler", ["diffusers", "FlowMatchEulerDiscreteScheduler"], "DDIMScheduler, .*PNDM"),
        ("tokenizer", None, "CLIPTokenizer"),
    ],
)
def test_classes_that_are_not_supported(tmp_path, key, value, supported):
    changes = {"model_index.json": MODEL_INDEX | {key: value}}
    given = value[1] if isinstance(value, list) else value
    with pytest.raises(ValueError, match=rf"{key} is {given} \(supported: {supported}"):
        read_layout(write(tmp_path, **changes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta_schedule": "sigmoid"}, "beta_schedule 'sigmoid'; supported: linear, scaled_linear"),
        ({"prediction_type": "flow"}, "prediction_type 'flow'; supported: epsilon, v_prediction"),
        ({"rescale_betas_zero_snr": True}, "sets rescale_betas_zero_snr"),
        ({"trained_betas": [0.1, 0.2]}, "sets trained_betas"),
    ],
)
def test_noise_that_is_not_supported(tmp_path, change, message):
    changes = {"scheduler/scheduler_config.json": SCHEDULER_1_5 | change}
    with pytest.raises(ValueError, match=message):
        read_layout(write(tmp_path, **changes))


def test_betas_are_never_guessed(tmp_path):
    config = {k: v for k, v in SCHEDULER_1_5.items() if not k.startswith("beta_s")}
    with pytest.raises(ValueError, match="does not say beta_start, beta_schedule"):
        read_layout(write(tmp_path, **{"scheduler/scheduler_config.json": config}))


@pytest.mark.parametrize("content", ["{", "[]"])
def test_damaged_json(tmp_path, content):
    with pytest.raises(ValueError, match=r"unet/config\.json (is not a JSON file|holds no JSON)"):
        read_layout(write(tmp_path, **{"unet/config.json": content}))


@pytest.mark.parity
@pytest.mark.parametrize("variant", [None, "fp16"])
def test_a_folder_that_diffusers_writes(tmp_path, variant):
    """In shards, and as fp16; nothing of it is downloaded."""
    pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers", exc_type=ImportError)
    transformers = pytest.importorskip("transformers", exc_type=ImportError)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "vocab_size": 40}
    layers = {"num_hidden_layers": 1, "num_attention_heads": 1}
    ids = {"bos_token_id": 1, "eos_token_id": 2}
    text_config = transformers.CLIPTextConfig(**sizes, **layers, **ids)
    blocks = {"block_out_channels": (8,), "norm_num_groups": 4, "layers_per_block": 1}
    pipeline = diffusers.StableDiffusionPipeline(
        text_encoder=transformers.CLIPTextModel(text_config),
        tokenizer=transformers.CLIPTokenizer(),
        unet=diffusers.UNet2DConditionModel(
            **blocks,
            down_block_types=("CrossAttnDownBlock2D",),
            up_block_types=("CrossAttnUpBlock2D",),
            cross_attention_dim=8,
            attention_head_dim=1,
        ),
        vae=diffusers.AutoencoderKL(**blocks),
        scheduler=diffusers.EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type="v_prediction",
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(tmp_path, variant=variant, max_shard_size="40KB")

    layout = read_layout(tmp_path)
    assert layout.text_encoder.config["hidden_size"] == 8
    assert layout.unet.config["cross_attention_dim"] == 8
    assert layout.vae.config["scaling_factor"] == 0.18215
    assert layout.scheduler[1:7] == (1000, 0.00085, 0.012, "scaled_linear", "v_prediction", 1)
    for part in ("text_encoder", "unet", "vae"):
        written = set((tmp_path / part).glob("*.safetensors"))
        assert set(getattr(layout, part).files) == written
    assert len(layout.unet.files) > 1
