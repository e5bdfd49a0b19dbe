"""Checks of accumulate, remat and dtype against the devices."""

import logging
from collections.abc import Iterable

import jax
from ml_collections import ConfigDict

from ddb_jax.models.densenet import DENSENETS
from ddb_jax.models.resnet import RESNETS
from ddb_jax.training.precision import bfloat16_problem, bfloat16_warning

log = logging.getLogger("ddb_jax")


def indivisible_parts(config: ConfigDict, num_devices: int) -> list[str]:
    """Error messages for batches that cannot be cut into `accumulate` equal parts per device.

    Batches that do not divide over the devices are reported elsewhere.
    """
    problems = []
    for name in ("diffusion", "amplifier", "classifier"):
        count, size = config[name].accumulate, config[name].batch_size
        pieces = count * num_devices
        if count > 1 and size % pieces and not size % num_devices:
            problems.append(
                f"config.{name}.batch_size is {size}, which config.{name}.accumulate, {count}, on"
                f" {num_devices} device{'s do' if num_devices > 1 else ' does'} not divide;"
                f" the next that they do is {-(-size // pieces) * pieces}"
            )
    return problems


def unusable_remat(config: ConfigDict) -> list[str]:
    """Error messages for `remat` on networks without blocks."""
    return [
        f"config.{name}.remat is True, and the network {config[name].network} has no blocks to"
        " rematerialise: take False"
        for name in ("amplifier", "classifier")
        if config[name].remat and config[name].network not in (*RESNETS, *DENSENETS)
    ]


def unusable_bfloat16(config: ConfigDict, drawn: Iterable[str], device: jax.Device) -> list[str]:
    """An error message if the device cannot compute in it; logs a warning if it is slow.

    Args:
        config: Its `dtype` fields are read.
        drawn: Sections used for drawing images from captions.
        device: One of the devices in use.
    """
    names = ["unet", "amplifier", "classifier"]
    names += [name for name in drawn if name == "text_to_image"]
    fields = [f"{name}.dtype" for name in names if config[name].dtype == "bfloat16"]
    warning = bfloat16_warning(fields, device)
    if warning:
        log.warning("warning: %s", warning)
    problem = bfloat16_problem(fields, device)
    return [problem] if problem else []
