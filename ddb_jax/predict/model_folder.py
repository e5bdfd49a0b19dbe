"""A trained classifier as a folder: `model.json`, `weights.safetensors` and a model card.

ResNets, DenseNet and EfficientNet-Lite0 have torchvision's names and shapes in the weights file (of
the last, those of its PyTorch port), so that PyTorch loads it without code of ours.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from ddb_jax.data.images.decode import Rules
from ddb_jax.models.pretrained import OUTER_NAMES, from_torch, to_torch, torchvision_name
from ddb_jax.models.safetensors_file import as_safetensors, open_tensors
from ddb_jax.runtime.errors import UserError
from ddb_jax.runtime.files import (
    DamagedFile,
    local_copy,
    make_folder,
    read_json,
    remove,
    write_atomically,
    write_json,
)
from ddb_jax.stages.common.networks import build_network, init_variables

FORMAT = 1  # increase it when `model.json` changes
RECORD, WEIGHTS, CARD = "model.json", "weights.safetensors", "README.md"
# Fields of a classifier section that its network is built from.
NETWORK_FIELDS = ("network", "width", "stem", "norm", "dtype", "remat")


@dataclass(frozen=True)
class ModelRecord:
    """What `model.json` holds, beside the weights all that a prediction needs.

    Attributes:
        format: FORMAT of the program that wrote it.
        dataset: Name of the data set.
        method: The debiasing method.
        seed: The run's.
        kind: Of the network, one of networks.KINDS.
        network: The NETWORK_FIELDS.
        class_names: Name of every output.
        decoding: The fields of `Rules` by which images are decoded.
        input_size: Side in pixels that the network sees; larger images are cropped at the centre.
        normalization: Name in NORMALIZATIONS.
        selection: The rule that chose the step.
        fingerprint: Of the task that trained it.
        version: Of ddb_jax.
    """

    format: int
    dataset: str
    method: str
    seed: int
    kind: str
    network: dict[str, Any]
    class_names: tuple[str, ...]
    decoding: dict[str, Any]
    input_size: int
    normalization: str
    selection: str
    fingerprint: str
    version: str

    @property
    def rules(self) -> Rules:
        """How images are decoded."""
        return Rules(**self.decoding)

    def build(self) -> Any:
        """The network, as a Flax module."""
        settings = ConfigDict(self.network)
        return build_network(self.kind, settings, len(self.class_names), self.input_size)

    def shapes(self) -> dict[str, Any]:
        """The network's variables, as shapes."""
        model, size = self.build(), self.input_size
        return jax.eval_shape(lambda: init_variables(model, jax.random.key(0), size))


def write_model(folder: Path, record: ModelRecord, variables: Mapping[str, Any], card: str) -> None:
    """Write the three files; `model.json` comes last, so that a folder with it is whole.

    Args:
        folder: Made if missing.
        record: Of the model.
        variables: {"params", "batch_stats"}, arrays.
        card: The text of the model card.
    """
    make_folder(folder)
    remove(folder / RECORD)
    tensors = {
        name: to_torch(np.asarray(value)) if _of_torchvision(record) else np.asarray(value)
        for name, value in _named(record, variables).items()
    }
    write_atomically(folder / WEIGHTS, as_safetensors(tensors))
    write_atomically(folder / CARD, card)
    write_json(folder / RECORD, dataclasses.asdict(record))


def read_record(folder: Path) -> ModelRecord:
    """The record of a model folder.

    Raises:
        UserError: There is none, it is damaged, or of another version.
    """
    path = folder / RECORD
    if not path.exists():
        raise UserError(
            f"{folder} holds no {RECORD}: give the work directory of a finished run, or its model/."
        )
    try:
        known = read_json(path)
        if known.get("format") != FORMAT:
            raise UserError(
                f"{path} was written by ddb_jax {known.get('version', 'of an unknown version')} in"
                f" format {known.get('format')}, and this one reads format {FORMAT}: use the"
                " version that wrote it, or run the same command again."
            )
        names = tuple(known.pop("class_names"))
        return ModelRecord(**known, class_names=names)
    except (KeyError, TypeError, AttributeError, DamagedFile) as error:
        raise UserError(f"{path} is damaged ({error}): run the same command again.") from None


def read_variables(folder: Path, record: ModelRecord) -> dict[str, Any]:
    """The variables that `write_model` wrote, NumPy arrays.

    Raises:
        UserError: The weights are missing, damaged or of another network.
    """
    path = folder / WEIGHTS
    shapes = flatten_dict(record.shapes())
    names = _named(record, record.shapes())
    try:
        if not path.is_file():
            raise ValueError("it is missing")
        with local_copy(path) as local, open_tensors(local) as tensors:
            found = {name: tensors.read(name) for name in tensors.names()}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): run the same command again.") from None
    if _of_torchvision(record):
        found = {name: from_torch(value) for name, value in found.items()}
    wrong = [n for n in {*names, *found} if n not in names or n not in found]
    wrong += [n for n in names if n in found and found[n].shape != names[n].shape]
    if wrong:
        raise UserError(
            f"{path} is not of the network that {RECORD} describes, for example {min(wrong)!r}"
            " does not fit: the two are of different runs."
        )
    places = zip(_names(record, shapes), shapes, strict=True)
    return unflatten_dict(
        {place: np.ascontiguousarray(found[name], shapes[place].dtype) for name, place in places}
    )


def _of_torchvision(record: ModelRecord) -> bool:
    return record.kind == "classifier" and record.network["network"] in OUTER_NAMES


def _names(record: ModelRecord, paths: Mapping[tuple[str, ...], Any]) -> list[str]:
    if _of_torchvision(record):
        return [torchvision_name(record.network["network"], path) for path in paths]
    return ["/".join(path) for path in paths]


def _named(record: ModelRecord, variables: Mapping[str, Any]) -> dict[str, Any]:
    """The variables by their names in the file."""
    flat = flatten_dict(variables)
    return dict(zip(_names(record, flat), flat.values(), strict=True))
