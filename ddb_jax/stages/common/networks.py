"""The networks that a classifier section of the config describes, and those built around them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ddb_jax.data.source import Source
from ddb_jax.models.classifiers import make_classifier
from ddb_jax.models.disentangled import Disentangled
from ddb_jax.models.projected import Projected
from ddb_jax.models.small_receptive_field import SmallReceptiveField

# On CPU a pass over so many pixels keeps its maps in the caches: 8 images at 128 px. Of
# EfficientNet-Lite0 it did 1.4 times as many images a second as one over 64.
PIXELS_IN_CACHE = 2**17

# From this side on, the first convolution of a small-receptive-field network is strided.
LARGE_SIDE = 64


class Kind(NamedTuple):
    """A kind of network.

    Attributes:
        make: (settings, num_outputs, side of the images) -> the module.
        classifiers: Names at the top of its variables under which those of a plain classifier lie;
            "" for the network itself.
    """

    make: Callable[[ConfigDict, int, int], Any]
    classifiers: tuple[str, ...]


def build_classifier(settings: ConfigDict, num_outputs: int) -> Any:
    """The network of a classifier section of the config."""
    return make_classifier(
        settings.network,
        num_outputs,
        width=settings.width,
        stem=settings.stem,
        norm=settings.norm,
        dtype=settings.dtype,
        remat=settings.remat,
    )


def _small_receptive_field(settings: ConfigDict, num_outputs: int, side: int) -> Any:
    size = {"kernel": 7, "stride": 4} if side >= LARGE_SIDE else {}
    return SmallReceptiveField(num_outputs, norm=settings.norm, dtype=settings.dtype, **size)


KINDS = {
    "classifier": Kind(lambda settings, n, side: build_classifier(settings, n), ("",)),
    "disentangled": Kind(
        lambda settings, n, side: Disentangled(lambda: build_classifier(settings, n), n),
        ("main_encoder", "biased_encoder"),
    ),
    "projected": Kind(
        lambda settings, n, side: Projected(lambda: build_classifier(settings, n)), ("classifier",)
    ),
    "small_receptive_field": Kind(_small_receptive_field, ()),
}


def build_network(kind: str, settings: ConfigDict, num_outputs: int, side: int) -> Any:
    """A network of KINDS; its call is that of a classifier, `module(x, train=...)`."""
    return KINDS[kind].make(settings, num_outputs, side)


def input_size(settings: ConfigDict, source: Source) -> int:
    """Side of the images that the network sees."""
    return settings.image_size or source.image_shape[0]


def small_batch(side: int) -> int:
    """Images of that side in one pass over a frozen network; any number gives the same result."""
    return max(1, PIXELS_IN_CACHE // side**2) if jax.default_backend() == "cpu" else 256


def init_variables(model: Any, key: jax.Array, image_size: int) -> Any:
    """Fresh parameters and batch statistics for images of that side; traceable."""
    return model.init(key, jnp.zeros((1, image_size, image_size, 3), jnp.float32), train=False)


def map_shape(settings: ConfigDict, num_outputs: int, side: int) -> tuple[int, int, int]:
    """(h, w, C) of the maps that the last block begins with, of images of that side."""
    model = build_classifier(settings, num_outputs)
    x = jnp.zeros((1, side, side, 3), jnp.float32)
    key = jax.random.key(0)
    maps, _ = jax.eval_shape(lambda: model.init_with_output(key, x, train=False, part="below"))
    return maps.shape[1:]


def with_classifier(kind: str, variables: Any, classifier: Any, *, keep_head: bool = False) -> Any:
    """The variables of a network with a plain classifier's in their place, where it holds some.

    With `keep_head` a plain classifier keeps its own last layer.
    """
    if "" in KINDS[kind].classifiers:
        if keep_head:
            params = {**classifier["params"], "head": variables["params"]["head"]}
            classifier = {**classifier, "params": params}
        return classifier
    return {
        part: {**values, **{name: classifier[part] for name in KINDS[kind].classifiers}}
        if part in classifier
        else values
        for part, values in variables.items()
    }
