"""What the benchmark programs share: what they are given, what they give back, taking turns."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from jax.sharding import Mesh
from ml_collections import ConfigDict

from ddb_jax.data.source import Source

T = TypeVar("T")


class Row(NamedTuple):
    """One figure.

    Attributes:
        case: What it is of.
        unit: Such as "images/s".
        values: One a round.
    """

    case: str
    unit: str
    values: list[float]


@dataclasses.dataclass(frozen=True, eq=False)  # hashed by identity, for functools.cache
class Bench:
    """What a program is given.

    Attributes:
        settings: The classifier section of the config.
        source: Training images at the classifier's size.
        num_classes: Number of classes.
        mesh: The devices.
        rounds: How often every figure is taken.
        steps: Training steps in one round.
    """

    settings: ConfigDict
    source: Source
    num_classes: int
    mesh: Mesh
    rounds: int
    steps: int


def in_turns(cases: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """What every case gives in every round; in turns, so that a drift of the machine hits all."""
    values: dict[str, list[T]] = {name: [] for name in cases}
    for number in range(rounds):
        for name in list(cases)[:: 1 if number % 2 == 0 else -1]:
            values[name].append(cases[name]())
    return values
