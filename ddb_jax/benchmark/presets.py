"""Sizes of networks that the benchmark knows by name, for which no data set is needed."""

from typing import Any, NamedTuple

from ml_collections import ConfigDict


class Size(NamedTuple):
    """Networks of one size.

    Attributes:
        programs: Names of those that run at it.
        fields: Values of config fields.
        num_classes: Number of classes.
        source_size: Side of the images that the classifier is fed.
    """

    programs: tuple[str, ...]
    fields: dict[str, Any]
    num_classes: int
    source_size: int


OF_UNET = ("diffusion_train", "sampling")
OF_CLASSIFIER = ("classifier_train", "lff_train", "scoring")
OF_DATA = ("input_pipeline", "training", "augmentation")


def _unet(side: int, batch_size: int, **unet: Any) -> dict[str, Any]:
    """The fields of a diffusion model, trained and sampled from by so many images."""
    return {
        "diffusion.image_size": side,
        "diffusion.batch_size": batch_size,
        "synthesis.batch_size": batch_size,
        "synthesis.guidance_scale": 2.0,
        **{f"unet.{name}": value for name, value in unet.items()},
    }


def _classifier(side: int, batch_size: int, network: str, dtype: str) -> dict[str, Any]:
    """The fields of a classifier, and of an amplifier of the same kind."""
    section = {
        "network": network,
        "width": 64,
        "stem": "imagenet",
        "norm": "batch",
        "dtype": dtype,
        "weights": "",
        "trainable": "all",
        "image_size": side,
        "max_shift": 0,
        "random_resized_crop": 0.0,
        "batch_size": batch_size,
    }
    return {
        "diffusion.image_size": side,
        "classifier.source_size": 0,
        **{f"{name}.{k}": v for name in ("classifier", "amplifier") for k, v in section.items()},
    }


_SMALL_UNET = {
    "channels": 64,
    "channel_mults": (1, 2, 2),
    "num_res_blocks": 2,
    "attention_resolutions": (16,),
    "num_heads": 1,
    "dropout": 0.0,
    "downsample": "conv",
    "upsample": "nearest",
    "trainable_time_table": False,
    "dtype": "float32",
}
_PAPER_UNET = {
    "channels": 128,
    "channel_mults": (1, 2, 2, 2),
    "num_res_blocks": 2,
    "attention_resolutions": (64, 32, 16, 8),
    "num_heads": 1,
    "dropout": 0.15,
    "downsample": "paper",
    "upsample": "paper",
    "trainable_time_table": True,
    "dtype": "float32",
}
_HALF = _PAPER_UNET | {"dtype": "bfloat16"}

PRESETS: dict[str, tuple[Size, ...]] = {
    # What two CPU cores train in hours.
    "cpu": (
        Size(OF_UNET, _unet(32, 32, **_SMALL_UNET), 2, 32),
        Size(OF_CLASSIFIER, _classifier(32, 128, "resnet18", "float32"), 10, 32),
        Size((*OF_CLASSIFIER, *OF_DATA), _classifier(64, 64, "resnet18", "float32"), 10, 64),
    ),
    # Diffusing DeBias (arXiv 2502.09564): its UNet with 1,000 timesteps, and BAR's ResNet-18.
    "paper": (
        Size(OF_UNET, _unet(64, 32, **_PAPER_UNET) | {"diffusion.num_timesteps": 1000}, 2, 64),
        Size((*OF_CLASSIFIER, *OF_DATA), _classifier(224, 128, "resnet18", "float32"), 6, 224),
    ),
    # The same at half precision, and a larger classifier.
    "gpu": (
        Size(OF_UNET, _unet(64, 32, **_HALF), 2, 64),
        Size(OF_UNET, _unet(64, 256, **_HALF), 2, 64),
        Size((*OF_CLASSIFIER, *OF_DATA), _classifier(224, 128, "resnet50", "bfloat16"), 6, 224),
    ),
}


def sized(config: ConfigDict, size: Size, given: set[str]) -> ConfigDict:
    """A copy of the config at that size.

    Args:
        config: As the command line gave it.
        size: Key of PRESETS.
        given: Fields set on the command line, which keep their value.
    """
    config = config.copy_and_resolve_references()
    config.unlock()
    fields = {name: value for name, value in size.fields.items() if name not in given}
    config.update_from_flattened_dict(fields)
    return config.lock()
