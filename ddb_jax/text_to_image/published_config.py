"""Reads the config.json of a published network, and rejects options ours does not support."""

import dataclasses
from collections.abc import Mapping
from typing import Any

Supported = Mapping[str, tuple]


def read_config(
    config: Mapping[str, Any], network: type, supported: Supported, ignored: tuple[str, ...]
) -> dict[str, Any]:
    """The fields of `network` that `config` sets; lists become tuples.

    Args:
        config: A config.json of the diffusers library. Keys that begin with "_" are remarks.
        network: A dataclass whose fields have the names of the options.
        supported: Options that are no fields -> the values for which the network is right.
        ignored: Options that change nothing, whatever their value.

    Raises:
        ValueError: Naming every option that asks for something else. An option unknown here is
            taken as switched off if it is None or False.
    """
    names = {field.name for field in dataclasses.fields(network)} - {"parent", "name", "dtype"}
    values, refused = {}, []
    for name, value in config.items():
        value = tuple(value) if isinstance(value, list) else value
        if name.startswith("_") or name in ignored:
            continue
        if name in supported or name not in names:
            known = supported.get(name, (None, False))
            if value not in known:
                refused.append(f"{name} = {value!r} (only {' or '.join(map(repr, known))})")
        else:
            values[name] = value
    if refused:
        raise ValueError(f"{network.__name__} does not support {'; '.join(refused)}")
    return values


def check_block_types(
    option: str, given: tuple[str, ...], known: tuple[str, ...], levels: int
) -> None:
    """Raise ValueError unless `given` has a known block type for each level."""
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(f"{option} has {', '.join(unknown)}; supported are {', '.join(known)}")
    if len(given) != levels:
        raise ValueError(f"{option} needs {levels} types, one a level, not {len(given)}")


def check_norm_groups(channels: tuple[int, ...], groups: int) -> None:
    """Raise ValueError unless `groups` divides the channels of each level."""
    if any(count % groups for count in channels):
        raise ValueError(
            f"norm_num_groups = {groups} does not divide each of block_out_channels = {channels}"
        )


def check_sides(height: int, width: int, levels: int) -> None:
    """Raise ValueError unless the sides can be halved at every level but the last."""
    factor = 2 ** (levels - 1)
    if height % factor or width % factor:
        raise ValueError(f"{levels} levels need sides divisible by {factor}, not {height}x{width}")
