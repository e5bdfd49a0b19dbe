"""The device mesh and how arrays are laid out on it.

Two axes: a batch is split over both, `data` and `fsdp`; the train state is split over `fsdp` and
repeated over `data` (fully sharded data parallelism, as in ZeRO, arXiv:1910.02054). With one device
along `fsdp`, the default, every device holds the whole state.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ddb_jax.training.compilation import jit

# Smaller arrays are repeated, because gathering them takes longer than it saves.
SMALLEST_SPLIT = 4096  # elements


def make_mesh(num_devices: int = 0, fsdp: int = 1) -> Mesh:
    """Mesh over the first `num_devices` devices, or all of them when 0.

    Args:
        num_devices: Number of devices of all processes together.
        fsdp: Devices that share one copy of the train state; divides the number of devices.
    """
    devices = jax.devices()[: num_devices or None]
    # Devices of one process follow one another, so that `fsdp` stays within a host where it can.
    # The default axis type is Explicit, under which gathers such as a class embedding of a
    # sharded label are ambiguous and refused.
    return jax.make_mesh(
        (len(devices) // fsdp, fsdp),
        ("data", "fsdp"),
        axis_types=(AxisType.Auto, AxisType.Auto),
        devices=devices,
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, P())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis is split over all devices."""
    return NamedSharding(mesh, P(("data", "fsdp")))


def state_shardings(mesh: Mesh, state: Any, smallest: int = SMALLEST_SPLIT) -> Any:
    """The sharding of every array of a train state: its longest divisible axis is split.

    Args:
        mesh: The devices.
        state: Arrays, or their shapes.
        smallest: Number of elements below which an array is repeated.
    """
    count = mesh.shape["fsdp"]

    def sharding(x: Any) -> NamedSharding:
        axes = [axis for axis in range(x.ndim) if x.shape[axis] % count == 0]
        if count == 1 or not axes or math.prod(x.shape) < smallest:
            return replicated(mesh)
        longest = max(axes, key=lambda axis: x.shape[axis])
        return NamedSharding(mesh, P(*([None] * longest), "fsdp"))

    return jax.tree.map(sharding, state)


def shard_batch(mesh: Mesh, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """Put this process's part of a batch on its devices as one global array per field."""
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, array)
        for name, array in batch.items()
    }


def put(sharding: NamedSharding, tree: Any) -> Any:
    """Global arrays under `sharding`, from arrays that every process holds whole."""
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def globally(x: Any) -> jax.Array:
        if isinstance(x, jax.Array) and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            data = globally(jax.random.key_data(x))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
        if isinstance(x, jax.Array) and not x.is_fully_addressable:
            return jax.device_put(x, sharding)
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    return jax.tree.map(globally, tree)


def fetch(mesh: Mesh, tree: Any) -> Any:
    """Whole arrays on every process's host; split arrays are gathered first."""
    return jax.device_get(jax.device_put(tree, replicated(mesh)))


def jit_over(
    mesh: Mesh, function: Callable, split: Sequence[bool]
) -> Callable[..., tuple[np.ndarray, ...]]:
    """`function` as one program over the mesh, from whole arrays to whole arrays on the host.

    Args:
        mesh: The devices.
        function: Takes arrays or trees of arrays.
        split: For every argument, whether its first axis is split over the devices (which then
            divide it) or every device gets the whole.
    """
    shardings = tuple(batch_sharding(mesh) if s else replicated(mesh) for s in split)
    compiled = jit(function, in_shardings=shardings, out_shardings=replicated(mesh))

    def call(*arguments: Any) -> Any:
        placed = [put(s, a) for s, a in zip(shardings, arguments, strict=True)]
        return jax.device_get(compiled(*placed))

    return call


def indivisible_batches(batch_sizes: Mapping[str, int], num_devices: int) -> list[str]:
    """One sentence for every batch size that the device count does not divide."""
    return [
        f"config.{field} is {size}, which {num_devices} devices do not divide;"
        f" the next that they do is {-(-size // num_devices) * num_devices}"
        for field, size in batch_sizes.items()
        if size % num_devices
    ]
