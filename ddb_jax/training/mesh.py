"""The device mesh: batches are split over its one axis `data`, the train state is replicated."""

from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


def make_mesh(num_devices: int = 0) -> Mesh:
    """Mesh over the first `num_devices` devices, or all of them when 0."""
    devices = jax.devices()[: num_devices or None]
    # The default axis type is Explicit, under which gathers such as a class embedding of a
    # sharded label are ambiguous and refused.
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, P())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis is split over the devices."""
    return NamedSharding(mesh, P("data"))


def shard_batch(mesh: Mesh, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """Put this process's part of a batch on its devices as one global array per field."""
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, array)
        for name, array in batch.items()
    }


def indivisible_batches(batch_sizes: Mapping[str, int], num_devices: int) -> list[str]:
    """One sentence for every batch size that the device count does not divide."""
    return [
        f"config.{field} is {size}, which {num_devices} devices do not divide;"
        f" the next that they do is {-(-size // num_devices) * num_devices}"
        for field, size in batch_sizes.items()
        if size % num_devices
    ]
