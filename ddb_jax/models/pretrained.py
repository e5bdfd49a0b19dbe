"""ImageNet weights from state dicts with torchvision's names, as variables of our networks."""

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from ddb_jax.models.file_content import stand_in
from ddb_jax.models.restricted_pickle import RefusedPickle
from ddb_jax.models.state_dict import read_npz, read_pth, read_safetensors


class Pretrained(NamedTuple):
    """Weights from torchvision: address, and ImageNet top-1 accuracy in percent."""

    url: str
    top_1: float


# torchvision's IMAGENET1K_V1.
PRETRAINED = {
    "resnet18": Pretrained("https://download.pytorch.org/models/resnet18-f37072fd.pth", 69.758),
    "resnet34": Pretrained("https://download.pytorch.org/models/resnet34-b627a593.pth", 73.314),
    "resnet50": Pretrained("https://download.pytorch.org/models/resnet50-0676ba61.pth", 76.130),
    "densenet121": Pretrained(
        "https://download.pytorch.org/models/densenet121-a639ec97.pth", 74.434
    ),
}
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
OUTER_NAMES = {
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
        known = ", ".join(w.url.rsplit("/", 1)[1] for w in PRETRAINED.values())
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


def torchvision_name(network: str, path: tuple[str, ...]) -> str:
    """torchvision's name of the variable at `path`, such as ("params", "stem_conv", "kernel").

    ("params", "stage_0_block_1", "conv_2", "kernel") of a ResNet is layer1.1.conv2.weight.
    """
    _, module, *inner, leaf = path
    parts = module.split("_")
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


def listed(kind: str, entries: list[str]) -> str:
    """The count of the entries and the first few of them: 2 missing (a, b)."""
    more = ", ..." if len(entries) > LISTED else ""
    return f"{len(entries):,} {kind} ({', '.join(entries[:LISTED])}{more})"


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
        raise FileNotFoundError(
            f"there is no file {path} of weights for {name}; "
            f"torchvision's is {PRETRAINED[name].url}"
        )
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
            "torchvision's need stem='imagenet', norm='batch' and width 64"
        )

    values = dict(ours)
    for n, p in paths.items():
        if n not in fresh:
            tensor = theirs[n].transpose((2, 3, 1, 0) if theirs[n].ndim == 4 else None)
            values[p] = np.ascontiguousarray(tensor, ours[p].dtype)
    notes = (f"read {len(paths) - len(fresh):,} tensors of {path}",)
    if fresh:
        k = f"{OUTER_NAMES[name]['head']}.bias"
        notes += (
            f"the head has {shapes[k][0]:,} classes and the file {theirs[k].shape[0]:,}: "
            "it keeps its fresh weights",
        )
    return unflatten_dict(values), notes
