"""Reads a text-to-image model in the folder layout of the diffusers library, without PyTorch.

A folder holds model_index.json and the parts text_encoder, unet and vae (config.json and
safetensors), scheduler (scheduler_config.json) and tokenizer.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ddb_jax.models.file_content import is_pointer, stand_in

PIPELINES = ("StableDiffusionPipeline",)
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
# Part -> classes with which it is read, and the stem of its files of weights.
CLASSES = {
    "text_encoder": ("CLIPTextModel",),
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "scheduler": (
        "DDIMScheduler",
        "DDPMScheduler",
        "DEISMultistepScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverSinglestepScheduler",
        "EulerAncestralDiscreteScheduler",
        "EulerDiscreteScheduler",
        "HeunDiscreteScheduler",
        "KDPM2AncestralDiscreteScheduler",
        "KDPM2DiscreteScheduler",
        "LMSDiscreteScheduler",
        "PNDMScheduler",
        "UniPCMultistepScheduler",
    ),
}
STEMS = {
    "text_encoder": "model",
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
}
# Full precision is preferred to half, and one file to several.
ENDINGS = (
    ".safetensors",
    ".safetensors.index.json",
    ".fp16.safetensors",
    ".safetensors.index.fp16.json",
)


class Part(NamedTuple):
    """A network of the folder: its config.json and the files with its weights."""

    config: dict[str, Any]
    files: tuple[Path, ...]


class NoiseScheduler(NamedTuple):
    """What a scheduler_config.json says of the noise; how many steps to take is the caller's."""

    class_name: str
    num_train_timesteps: int
    beta_start: float
    beta_end: float
    beta_schedule: str  # one of BETA_SCHEDULES
    prediction_type: str  # one of PREDICTION_TYPES
    steps_offset: int  # added to every timestep of a sampler
    set_alpha_to_one: bool  # the last step ends at alphas_cumprod 1 rather than alphas_cumprod[0]


class Layout(NamedTuple):
    """The parts of a folder."""

    text_encoder: Part
    unet: Part
    vae: Part
    scheduler: NoiseScheduler
    tokenizer: Path  # a folder


def read_layout(folder: Path | str) -> Layout:
    """The parts of a Stable Diffusion 1.x or 2.x folder; the weights themselves are not yet read.

    Raises:
        ValueError: If the folder lacks files (all of them are named), or asks for a class or a
            noise schedule that is not supported.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}: check the path")
    if (folder / "model_index.json").is_file():
        _check_classes(folder)
    files = {part: weight_files(folder / part, (stem,)) for part, stem in STEMS.items()}
    needed = [folder / "model_index.json", folder / "scheduler" / "scheduler_config.json"]
    needed += [p for part in files for p in (folder / part / "config.json", *files[part])]
    tokenizer = folder / "tokenizer"
    if not (tokenizer / "tokenizer.json").is_file():
        needed += [tokenizer / "vocab.json", tokenizer / "merges.txt"]
    missing = [str(path.relative_to(folder)) for path in needed if not path.is_file()]
    if missing:
        raise ValueError(
            f"{folder} is not a complete folder of the diffusers layout: it lacks "
            f"{', '.join(missing)} (weights are read as safetensors, whole, in shards or as fp16)"
        )
    return Layout(
        **{
            part: Part(read_model_json(folder / part / "config.json"), files[part])
            for part in files
        },
        scheduler=read_scheduler(folder / "scheduler" / "scheduler_config.json"),
        tokenizer=tokenizer,
    )


def _check_classes(folder: Path) -> None:
    """Raise ValueError if model_index.json names a class that is not supported."""
    index = read_model_json(folder / "model_index.json")
    given = {"_class_name": (index.get("_class_name"), PIPELINES)}
    for part, supported in CLASSES.items():
        library_and_class = index.get(part) or [None, None]
        given[part] = (library_and_class[-1], supported)
    refused = [
        f"{key} is {name} (supported: {', '.join(supported)})"
        for key, (name, supported) in given.items()
        if name not in supported
    ]
    if refused:
        raise ValueError(f"{folder / 'model_index.json'} is not supported: {'; '.join(refused)}")


def read_scheduler(path: Path) -> NoiseScheduler:
    """The noise schedule of a scheduler_config.json.

    Raises:
        ValueError: If the betas are not said, or a value is not supported.
    """
    config = read_model_json(path)
    required = ("_class_name", "num_train_timesteps", "beta_start", "beta_end", "beta_schedule")
    missing = [key for key in required if key not in config]
    if missing:
        raise ValueError(f"{path} does not say {', '.join(missing)}")
    scheduler = NoiseScheduler(
        *(config[key] for key in required),
        prediction_type=config.get("prediction_type", "epsilon"),
        steps_offset=config.get("steps_offset", 0),
        set_alpha_to_one=config.get("set_alpha_to_one", False),
    )
    for key, supported in (
        ("beta_schedule", BETA_SCHEDULES),
        ("prediction_type", PREDICTION_TYPES),
    ):
        if getattr(scheduler, key) not in supported:
            raise ValueError(
                f"{path} has {key} {getattr(scheduler, key)!r}; supported: {', '.join(supported)}"
            )
    for key in ("trained_betas", "rescale_betas_zero_snr"):
        if config.get(key):
            raise ValueError(f"{path} sets {key}, which is not supported")
    return scheduler


def read_model_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ValueError: If it holds something else.
    """
    other = stand_in(path)
    if other:
        raise ValueError(f"{path} {other}")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no JSON object")
    return value


def weight_files(
    folder: Path, stems: Sequence[str] = ("diffusion_pytorch_model", "model")
) -> tuple[Path, ...]:
    """The safetensors of a part, or those that its index of shards names; they may be missing.

    A file that git-lfs has not fetched is passed over where another one is there.

    Raises:
        ValueError: If the index cannot be read.
    """
    paths = [folder / f"{stem}{ending}" for ending in ENDINGS for stem in stems]
    there = [path for path in paths if path.is_file()]
    path = next((path for path in there if not is_pointer(path)), (there or paths)[0])
    if path.suffix != ".json":
        return (path,)
    shards = read_model_json(path).get("weight_map")
    if not isinstance(shards, dict):
        raise ValueError(f"{path} has no weight_map, which names the files of the tensors")
    return tuple(folder / name for name in sorted(set(shards.values())))
