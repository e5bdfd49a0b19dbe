"""Shared parts of the benchmark programs: their inputs, their results, and taking turns."""

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ddb_jax.benchmark import machine
from ddb_jax.benchmark.peer.client import Peer
from ddb_jax.data.source import Source

T = TypeVar("T")


class BenchmarkRow(NamedTuple):
    """One figure.

    Attributes:
        case: What it is.
        unit: Such as "images/s".
        values: One a round, or one alone.
        of: What network at what size it is of, where a program has several.
        foreign: For each value the share of the cores that other processes used meanwhile; empty
            where it is not known or does not matter.
    """

    case: str
    unit: str
    values: list[float]
    of: str = ""
    foreign: Sequence[float] = ()

    @property
    def busy(self) -> bool:
        """Whether other processes used so much that the figure is unreliable."""
        return bool(self.foreign) and statistics.median(self.foreign) > machine.BUSY


@dataclasses.dataclass(frozen=True, eq=False)  # hashed by identity, for functools.cache
class Bench:
    """What a program is given.

    Attributes:
        config: The resolved config.
        source: Training images at the classifier's size.
        num_classes: Number of classes.
        mesh: The devices.
        rounds: How often every figure is taken.
        steps: Training steps, or network evaluations, in one round.
        peer: PyTorch in a process of its own; None for no comparison.
    """

    config: ConfigDict
    source: Source
    num_classes: int
    mesh: Mesh
    rounds: int
    steps: int
    peer: Peer | None = None

    @property
    def settings(self) -> ConfigDict:
        """The classifier section of the config."""
        return self.config.classifier

    def images(self, number: int, side: int) -> dict[str, np.ndarray]:
        """Noise in the place of pictures, and labels: {"image": uint8 [N, S, S, 3], "label"}."""
        rng = np.random.default_rng(0)
        return {
            "image": rng.integers(0, 256, (number, side, side, 3), np.uint8),
            "label": rng.integers(0, self.num_classes, number, np.int32),
        }


class Turns(NamedTuple, Generic[T]):
    """What the cases gave.

    Attributes:
        values: By case, one a round.
        cpu: By case, seconds of processor time of every turn.
        foreign: For every round, the share of the cores that other processes used; empty if the
            machine does not report it.
    """

    values: dict[str, list[T]]
    cpu: dict[str, list[float]]
    foreign: list[float]


def in_turns(
    cases: Mapping[str, Callable[[], T]], rounds: int, helpers: Sequence[int] = ()
) -> Turns[T]:
    """The value of every case in every round; cases take turns, so a drift affects all equally.

    `helpers` are numbers of processes whose processor time counts as this one's.
    """
    turns = Turns({name: [] for name in cases}, {name: [] for name in cases}, [])
    for number in range(rounds):
        before = begin = machine.read(helpers)
        for name in list(cases)[:: 1 if number % 2 == 0 else -1]:
            turns.values[name].append(cases[name]())
            now = machine.read(helpers)
            turns.cpu[name].append(now.own - before.own)
            before = now
        share = machine.foreign_share(begin, before)
        if share is not None:
            turns.foreign.append(share)
    return turns
