"""The mesh: what lies where on eight emulated devices, and checkpoints that change their number."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from ddb_jax.runtime.stop import StopFlag
from ddb_jax.training import train_state
from ddb_jax.training.checkpoint import Checkpoints, abstract_like
from ddb_jax.training.fit import Schedule, fit
from ddb_jax.training.mesh import (
    batch_sharding,
    fetch,
    jit_over,
    make_mesh,
    put,
    replicated,
    shard_batch,
    state_shardings,
)


def bytes_on_each_device(tree):
    held = dict.fromkeys(jax.devices(), 0)
    for leaf in jax.tree.leaves(tree):
        for shard in leaf.addressable_shards:
            held[shard.device] += shard.data.nbytes
    return list(held.values())


def test_axes():
    assert dict(make_mesh().shape) == {"data": 8, "fsdp": 1}
    mesh = make_mesh(4, 2)
    assert dict(mesh.shape) == {"data": 2, "fsdp": 2}
    # Devices that share a copy of the state follow one another, as those of one host do.
    assert [[d.id for d in row] for row in mesh.devices] == [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((3, 3, 16, 32), P(None, None, None, "fsdp")),
        ((3, 3, 32, 16), P(None, None, "fsdp")),
        ((64, 64), P("fsdp")),  # the first of equals
        ((6, 1022), P()),  # 4 divides neither 6 nor 1,022
        ((7, 1024), P(None, "fsdp")),
        ((4095,), P()),  # odd
        ((4092,), P()),  # too small
        ((), P()),
    ],
)
def test_the_longest_axis_that_divides_is_split(shape, expected):
    mesh = make_mesh(8, 4)
    sharding = state_shardings(mesh, jax.ShapeDtypeStruct(shape, jnp.float32))
    assert sharding.is_equivalent_to(jax.NamedSharding(mesh, expected), len(shape))


def test_a_batch_is_split_over_both_axes():
    mesh = make_mesh(8, 4)
    batch = shard_batch(mesh, {"x": np.arange(16.0, dtype=np.float32)})["x"]
    assert [s.data.tolist() for s in batch.addressable_shards] == [
        [2.0 * i, 2.0 * i + 1] for i in range(8)
    ]


def test_put_and_fetch_and_keys():
    mesh = make_mesh(8, 2)
    tree = {"x": np.arange(8.0), "key": jax.random.key(3)}
    split = put(batch_sharding(mesh), {"x": tree["x"]})["x"]
    assert split.addressable_shards[5].data.tolist() == [5.0]
    np.testing.assert_array_equal(fetch(mesh, split), tree["x"])
    key = put(replicated(mesh), tree)["key"]
    assert jax.random.uniform(key) == jax.random.uniform(jax.random.key(3))


def test_jit_over_takes_and_gives_whole_arrays():
    mesh = make_mesh(8, 2)
    x = np.arange(24.0, dtype=np.float32).reshape(8, 3)
    run = jit_over(mesh, lambda w, x: (x @ w, jnp.sum(x)), (False, True))
    product, total = run(np.array([1.0, 10.0, 100.0], np.float32), x)
    assert isinstance(product, np.ndarray)
    np.testing.assert_array_equal(product, [210.0 + 333.0 * i for i in range(8)])
    assert total == 276.0


WIDTH = 64
OPTIMIZER = optax.adam(0.01)


def linear_problem(folder, mesh, num_steps):
    """Least squares of a 64 x 64 matrix by Adam, from a fixed start; the trained state."""

    def init():
        w = jax.random.normal(jax.random.key(0), (WIDTH, WIDTH))
        return train_state.create({"params": {"w": w, "b": jnp.zeros(WIDTH)}}, OPTIMIZER, ema=True)

    def step(state, batch, scale):
        def loss_fn(params):
            return scale * jnp.mean((batch["x"] @ params["w"] + params["b"]) ** 2)

        loss, gradients = jax.value_and_grad(loss_fn)(state.params)
        return train_state.apply_gradients(state, gradients, OPTIMIZER, ema_decay=0.9), {
            "loss": loss
        }

    def batches(start):
        for i in range(start, num_steps):
            x = np.random.default_rng(i).normal(size=(8, WIDTH))
            yield {"x": x.astype(np.float32)}

    return fit(
        init,
        step,
        batches,
        Schedule(num_steps, log_every=2, checkpoint_every=2),
        title="test",
        folder=folder,
        mesh=mesh,
        stop=StopFlag(),
        step_arguments=(np.float32(0.5),),
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Four steps on one device, as NumPy arrays."""
    return jax.device_get(linear_problem(tmp_path_factory.mktemp("one"), make_mesh(1), 4))


def assert_close(state, plain):
    for a, b in zip(jax.tree.leaves(jax.device_get(state)), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fsdp", [1, 4, 8])
def test_a_split_state_trains_as_a_whole_one(tmp_path, plain, fsdp):
    state = linear_problem(tmp_path, make_mesh(8, fsdp), 4)
    assert_close(state, plain)
    # Weights, their average and Adam's two moments are 64 x 64; what is small is whole everywhere:
    # four vectors of 64, the step and Adam's count. All float32 or int32.
    assert bytes_on_each_device(state) == [4 * (4 * WIDTH * WIDTH // fsdp + 4 * WIDTH + 2)] * 8


@pytest.mark.parametrize(("devices", "fsdp"), [(1, 1), (2, 2), (4, 2), (8, 1)])
def test_a_checkpoint_of_eight_devices_goes_on_on_others(tmp_path, plain, devices, fsdp):
    linear_problem(tmp_path, make_mesh(8, 4), 2)
    mesh = make_mesh(devices, fsdp)
    state = linear_problem(tmp_path, mesh, 4)
    assert_close(state, plain)
    assert len(state.params["w"].addressable_shards) == devices
    assert state.params["w"].addressable_shards[0].data.size == WIDTH * WIDTH // fsdp


def test_restored_arrays_are_bit_equal(tmp_path):
    eight = make_mesh(8, 8)
    tree = {"w": np.random.default_rng(0).normal(size=(64, 80)).astype(np.float32)}
    saved = jax.device_put(tree, state_shardings(eight, tree))
    assert bytes_on_each_device(saved) == [4 * 64 * 10] * 8
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(1, saved)
    checkpoints.close()
    for devices in (1, 2, 4):
        mesh = make_mesh(devices, devices)
        checkpoints = Checkpoints(tmp_path / "checkpoints")
        _, restored = checkpoints.restore(abstract_like(tree, state_shardings(mesh, tree)))
        checkpoints.close()
        np.testing.assert_array_equal(np.asarray(restored["w"]), tree["w"])
        assert bytes_on_each_device(restored)[:devices] == [4 * 64 * 80 // devices] * devices
