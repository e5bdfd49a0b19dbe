"""The table of classifier networks, and the one function that makes them by name."""

import difflib
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from ddb_jax.models.densenet import DENSENETS, DenseNet
from ddb_jax.models.efficientnet import EfficientNetLite
from ddb_jax.models.mlp import Mlp
from ddb_jax.models.resnet import NORMS, STEMS, make_resnet


def make_densenet(
    name: str, num_classes: int, *, width: int, stem: str, norm: str, dtype: Any, remat: bool
) -> DenseNet:
    """The network of that name in DENSENETS."""
    sizes = DENSENETS[name]
    return DenseNet(sizes, num_classes, width, stem=stem, norm=norm, dtype=dtype, remat=remat)


def make_mlp(num_classes: int, *, width: int, stem: str, norm: str, dtype: Any, remat: bool) -> Mlp:
    """The perceptron, which has neither stem nor norm nor blocks."""
    del stem, norm, remat
    return Mlp(num_classes, width, dtype)


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "resnet8": functools.partial(make_resnet, "resnet8"),
    "resnet20": functools.partial(make_resnet, "resnet20"),
    "resnet18": functools.partial(make_resnet, "resnet18"),
    "resnet34": functools.partial(make_resnet, "resnet34"),
    "resnet50": functools.partial(make_resnet, "resnet50"),
    "densenet121": functools.partial(make_densenet, "densenet121"),
    "efficientnet_lite0": EfficientNetLite,
    "mlp": make_mlp,
}


# What the names of the modules of the last block begin with: all layers at the lowest resolution.
LAST_BLOCK = {
    "resnet8": ("stage_2_",),
    "resnet20": ("stage_2_",),
    "resnet18": ("stage_3_",),
    "resnet34": ("stage_3_",),
    "resnet50": ("stage_3_",),
    "densenet121": ("block_3_", "final_norm"),
    "efficientnet_lite0": ("stage_5_", "stage_6_", "final_"),
}


def make_classifier(
    name: str,
    num_classes: int,
    *,
    width: int = 64,
    stem: str = "imagenet",
    norm: str = "batch",
    dtype: Any = jnp.float32,
    remat: bool = False,
) -> nn.Module:
    """The network of that name in NETWORKS.

    Its call is `module(x, train=...)`: images [B, H, W, 3] -> logits float32 [B, num_classes] and
    features float32 [B, F]; the parameters of the last layer lie under "head". Those of LAST_BLOCK
    can also be called in two parts, "below" and "above", and they sow "stage_maps", the maps
    [B, h, w, C] at the end of every stage, into "intermediates".

    resnet8 and resnet20 are the three-stage networks of the CIFAR literature (He et al. 2015, 4.2)
    with the shortcuts of the larger ResNets: a strided 1x1 convolution and norm where the shape
    changes (option B). He et al. and Nam et al. (2020) had option A there, without parameters.

    Args:
        name: One of NETWORKS.
        num_classes: K, at least 1.
        width: ResNets: channels of the first stage, 64 in the literature (resnet8, resnet20: 16).
            DenseNet: channels of the stem, even, 64 in the literature; the growth is its half.
            EfficientNet-Lite0: 64 is the published network, others are that share of it.
            MLP: hidden units, 100 in the literature.
        stem: "imagenet" or "cifar"; the MLP has none.
        norm: "batch" or "group"; the MLP has none.
        dtype: Of the computation; parameters, features and logits are float32.
        remat: Compute the inner values of a block (DenseNet: layer) again when its gradient is,
            instead of keeping them; the MLP has no blocks.

    Raises:
        ValueError: If the name is unknown (names the nearest) or an option has no such value.
    """
    if name not in NETWORKS:
        near = difflib.get_close_matches(name, NETWORKS, 1, 0.0)[0]
        raise ValueError(f"there is no network {name!r}; the nearest is {near!r}")
    for field, value, known in (("stem", stem, STEMS), ("norm", norm, NORMS)):
        if value not in known:
            raise ValueError(f"{field} is one of {known}, not {value!r}")
    for field, value in (("num_classes", num_classes), ("width", width)):
        if value < 1:
            raise ValueError(f"{field} of {name} is at least 1, not {value}")
    if name in DENSENETS and width % 2:
        raise ValueError(f"width of {name} is even (the growth is its half), not {width}")
    return NETWORKS[name](num_classes, width=width, stem=stem, norm=norm, dtype=dtype, remat=remat)
