"""What a stage is given: its part of the config, the data, its seed and folders, the devices."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from ddb_jax.data.source import Dataset
from ddb_jax.runtime.errors import Interrupted
from ddb_jax.runtime.stop import StopFlag


class DeclaredConfig(ConfigDict):
    """The config fields that a stage declared in `stages/table.py`; reading another one raises."""

    def __getitem__(self, key: str) -> Any:
        """The field. Raises KeyError, and AttributeError for config.NAME, if it is undeclared."""
        if key not in self:
            raise KeyError(
                f"config field {key!r} is not declared in the stage's row of stages/table.py"
            )
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """The field; a default would hide an undeclared read, so there is none."""
        del default
        return self[key]


def declared_config(config: ConfigDict, names: Iterable[str]) -> DeclaredConfig:
    """A copy of the config that holds these sections and dotted fields alone."""
    config, result = config.copy_and_resolve_references(), DeclaredConfig()
    for name in sorted(names):  # a section comes before its fields
        *sections, last = name.split(".")
        source, target = config, result
        for section in sections:
            source = source[section]
            if section not in target:
                target[section] = DeclaredConfig()
            target = target[section]
        if last not in target:
            target[last] = source[last]
    return result


@dataclass(frozen=True)
class Context:
    """What one stage is given.

    Attributes:
        config: The resolved config, limited to what the stage's row in `stages/table.py` declares.
        dataset: The real images, at the size that the row names.
        mesh: The devices.
        stop: Set when the run is asked to stop.
        name: The task's name, such as "seed_0/train_classifier/erm"; also its place in workdir.
        seed: Seeds every random draw of the stage.
        folder: Where the stage writes.
        inputs: Finished folders that it reads from, by the role they play for this stage. Often the
            role is the name of the stage that wrote the folder.
        options: What distinguishes two uses of one stage, such as the debiasing method.
        generator_dataset: The images at the generator's size, for the report alone, which shows
            them beside the others.
    """

    config: ConfigDict
    dataset: Dataset
    mesh: Mesh
    stop: StopFlag
    name: str
    seed: int
    folder: Path
    inputs: dict[str, Path]
    options: dict[str, Any] = field(default_factory=dict)
    generator_dataset: Dataset | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes of the dataset."""
        return len(self.dataset.class_names)

    def leave_if_stopped(self, done: str) -> None:
        """Raise Interrupted if the run was asked to stop; `done` says what is saved."""
        if self.stop:
            raise Interrupted(
                f"{self.name} stopped: {done}; run the same command to resume.",
                128 + self.stop.signal,
            )
