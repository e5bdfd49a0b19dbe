"""Parameters of our networks from tensors with their published names, and back, without PyTorch.

The published name of a tensor is the path of our parameter, with list indices joined to the name
before them by an underscore: down_blocks.0.resnets.1.conv1.weight is
params["down_blocks_0"]["resnets_1"]["conv1"]["kernel"].
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

from ddb_jax.models.pretrained import listed
from ddb_jax.models.safetensors_file import FLOATS, FLOATS_8, Tensors, open_tensors
from ddb_jax.runtime.files import make_folder, write_through
from ddb_jax.text_to_image.layout import weight_files

LEAF_NAMES = {"kernel": "weight", "scale": "weight", "embedding": "weight"}
# Modules whose published names end in a number after an underscore, which is no list index.
NUMBERED = ("linear_1", "linear_2")
# Constants that older versions of the libraries saved along with the weights.
IGNORED = ("embeddings.position_ids",)

Rename = Callable[[Iterable[str]], Mapping[str, str]]


def published_name(path: Sequence[str]) -> str:
    """The name of the parameter at `path`: ("layers_0", "fc1", "kernel") is layers.0.fc1.weight."""
    *modules, leaf = path
    names = [m if m in NUMBERED else re.sub(r"_(?=\d+(_\d+)*$)", ".", m) for m in modules]
    return ".".join((*names, LEAF_NAMES.get(leaf, leaf)))


def _axes(path: Sequence[str], ndim: int) -> tuple[int, ...]:
    """The axes of ours in published order: OI and OIHW for kernels, which are IO and HWIO here."""
    if path[-1] != "kernel" or ndim < 2:
        return tuple(range(ndim))
    return (ndim - 1, ndim - 2, *range(ndim - 2))


def published_names(params: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Published name -> published shape of every leaf of `params` (arrays or their shapes)."""
    return {
        published_name(path): tuple(leaf.shape[axis] for axis in _axes(path, len(leaf.shape)))
        for path, leaf in flatten_dict(params).items()
    }


def load_published_params(
    source: Path | str | Sequence[Path],
    abstract_params: Mapping[str, Any],
    dtype: Any = np.float32,
    rename: Rename | None = None,
) -> dict[str, Any]:
    """The parameters of a network from published safetensors, as NumPy arrays.

    Args:
        source: The folder of a part, a file, or the files of a `Part`.
        abstract_params: The tree of parameters or of their shapes, as jax.eval_shape gives it.
        dtype: That of the result, whatever the files have.
        rename: From the names in the files to each one's name today.

    Raises:
        ValueError: If a file cannot be read, or the tensors are not exactly those of
            `abstract_params`; names those that are missing, left over or of another shape.
    """
    with ExitStack() as stack:
        found = _find(source, abstract_params, rename, stack)
        values = {}
        for path, leaf in flatten_dict(abstract_params).items():
            file, published = found[published_name(path)]
            back = np.argsort(_axes(path, len(leaf.shape)))
            values[path] = np.array(file.read(published).transpose(back), dtype, order="C")
    return unflatten_dict(values)


def check_params(
    source: Path | str | Sequence[Path],
    abstract_params: Mapping[str, Any],
    rename: Rename | None = None,
) -> None:
    """Look whether `load_published_params` can do its work, by the headers of the files alone.

    Raises:
        ValueError: As `load_published_params`.
    """
    with ExitStack() as stack:
        _find(source, abstract_params, rename, stack)


def _find(
    source: Path | str | Sequence[Path],
    abstract_params: Mapping[str, Any],
    rename: Rename | None,
    stack: ExitStack,
) -> dict[str, tuple[Tensors, str]]:
    """Published name of every parameter -> its file, which `stack` closes, and its name there."""
    if isinstance(source, (str, Path)):
        source = weight_files(Path(source)) if Path(source).is_dir() else (Path(source),)
    shapes, where = published_names(abstract_params), {}
    for path in source:
        file = stack.enter_context(open_tensors(path))
        where |= {name: file for name in file.names() if not name.endswith(IGNORED)}
    today = rename(where) if rename else {name: name for name in where}
    found = {today[name]: (file, name) for name, file in where.items()}
    misshaped, not_floats = {}, {}
    for name in shapes.keys() & found.keys():
        file, published = found[name]
        shape, dtype = file.shape(published), file.dtype(published)
        if shape != shapes[name]:
            misshaped[name] = f"{name} is {list(shape)}, not {list(shapes[name])}"
        if dtype not in (*FLOATS, *FLOATS_8):
            not_floats[name] = f"{name} is {dtype}"
    faults = (
        ("missing", sorted(shapes.keys() - found.keys())),
        ("left over", sorted(found.keys() - shapes.keys())),
        ("of another shape", [misshaped[name] for name in sorted(misshaped)]),
        ("not floating-point", [not_floats[name] for name in sorted(not_floats)]),
    )
    if any(entries for _, entries in faults):
        hint = "; quantised weights are not read" if not_floats else ""
        raise ValueError(
            f"the weights in {Path(source[0]).parent} are not those of this network: of the "
            f"tensors {', '.join(listed(*fault) for fault in faults if fault[1])}{hint}"
        )
    return found


def save_params(path: Path, params: Mapping[str, Any]) -> None:
    """Write `params` to a safetensors file under their published names and in published order."""
    tensors = {}
    for keys, leaf in flatten_dict(params).items():
        axes = _axes(keys, np.ndim(leaf))
        tensors[published_name(keys)] = np.ascontiguousarray(np.asarray(leaf).transpose(axes))

    def write(local: Path) -> None:
        # PyTorch's libraries refuse a file that does not say whose order of axes it has.
        safetensors.numpy.save_file(tensors, local, metadata={"format": "pt"})

    make_folder(path.parent)
    write_through(path, write)
