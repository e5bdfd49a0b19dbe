"""What every stage is given: the config, the data, its seed and folders, the devices."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from ddb_jax.data.source import Dataset
from ddb_jax.runtime.errors import Interrupted
from ddb_jax.runtime.stop import StopFlag


@dataclass(frozen=True)
class Context:
    """One stage's surroundings.

    Attributes:
        config: The resolved config of the run.
        dataset: The real images, at the classifier's size.
        generator_dataset: The same at the size that the diffusion model draws.
        mesh: The devices.
        stop: Set when the run was asked to stop.
        name: The stage's name, such as "seed_0/train_classifier/erm"; also its place in workdir.
        seed: Seeds every draw of the stage.
        folder: Where the stage writes.
        inputs: Finished folders of the stages it reads from, by stage name.
        options: What distinguishes two uses of one stage, such as the debiasing method.
    """

    config: ConfigDict
    dataset: Dataset
    generator_dataset: Dataset
    mesh: Mesh
    stop: StopFlag
    name: str
    seed: int
    folder: Path
    inputs: dict[str, Path]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        """Number of classes of the dataset."""
        return len(self.dataset.class_names)

    def leave_if_stopped(self, done: str) -> None:
        """Raise Interrupted when the run was asked to stop; `done` says what is saved."""
        if self.stop:
            raise Interrupted(
                f"{self.name} stopped: {done}; the same command goes on from there.",
                128 + self.stop.signal,
            )
