import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ddb_jax.diffusion import guidance


def test_examples_are_dropped_one_by_one():
    labels = jnp.arange(4000) % 5
    dropped = guidance.drop_labels(jax.random.key(0), labels, 5, 0.1, "example")
    is_null = np.asarray(dropped) == 5
    # 400 expected, standard deviation sqrt(4000 * 0.1 * 0.9) = 19.
    assert abs(is_null.sum() - 400) < 80
    np.testing.assert_array_equal(np.asarray(dropped)[~is_null], np.asarray(labels)[~is_null])
    assert dropped.dtype == jnp.int32


def test_the_whole_batch_is_dropped_or_kept():
    labels = jnp.array([0, 1, 2, 1])
    drop = jax.jit(jax.vmap(lambda key: guidance.drop_labels(key, labels, 3, 0.25, "batch")))
    batches = np.asarray(drop(jax.random.split(jax.random.key(1), 1000)))
    is_null = batches == 3
    assert np.all(is_null.all(axis=1) | ~is_null.any(axis=1))
    # 250 expected, standard deviation sqrt(1000 * 0.25 * 0.75) = 14.
    assert abs(is_null[:, 0].sum() - 250) < 60
    for batch in batches[~is_null[:, 0]]:
        np.testing.assert_array_equal(batch, labels)


@pytest.mark.parametrize("unit", ["example", "batch"])
def test_rates_zero_and_one(unit):
    labels = jnp.array([0, 1, 2])
    kept = guidance.drop_labels(jax.random.key(0), labels, 3, 0.0, unit)
    np.testing.assert_array_equal(kept, [0, 1, 2])
    gone = guidance.drop_labels(jax.random.key(0), labels, 3, 1.0, unit)
    np.testing.assert_array_equal(gone, [3, 3, 3])


def test_bad_dropout_is_refused():
    labels = jnp.array([0])
    with pytest.raises(ValueError, match=r"'image'.*example, batch"):
        guidance.drop_labels(jax.random.key(0), labels, 1, 0.1, "image")
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        guidance.drop_labels(jax.random.key(0), labels, 1, 1.5, "example")


class Network:
    """x + 10 t + 100 label, counting the examples of each call."""

    def __init__(self):
        self.batches = []

    def __call__(self, x, t, labels):
        assert x.shape[0] == t.shape[0] == labels.shape[0]
        self.batches.append(x.shape[0])
        return x + (10 * t + 100 * labels).reshape(-1, 1, 1, 1)


X = jnp.array([0.5, -0.5]).reshape(2, 1, 1, 1)
T, LABELS = jnp.array([3, 4]), jnp.array([0, 2])
# With 7 classes the null label is 7.
CONDITIONAL = np.array([30.5, 239.5])
UNCONDITIONAL = np.array([730.5, 739.5])


@pytest.mark.parametrize(
    ("scale", "expected", "evaluated"),
    [
        (1.0, CONDITIONAL, 2),  # no guidance
        (0.0, UNCONDITIONAL, 2),
        (2.0, 2 * CONDITIONAL - UNCONDITIONAL, 4),  # (1 + w) cond - w uncond with w = 1
        (1.5, 1.5 * CONDITIONAL - 0.5 * UNCONDITIONAL, 4),
    ],
)
def test_guidance_scale(scale, expected, evaluated):
    network = Network()
    output = guidance.guided(network, scale, 7)(X, T, LABELS)
    assert output.shape == X.shape
    np.testing.assert_allclose(output.ravel(), expected, rtol=1e-6)
    assert network.batches == [evaluated]


def test_both_branches_stay_on_the_device_of_their_example():
    devices = jax.devices()[:8]
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,), devices=devices)
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    x = jnp.arange(16.0).reshape(16, 1, 1, 1)
    t, labels = jnp.arange(16), jnp.arange(16) % 7
    args = [jax.device_put(value, sharding) for value in (x, t, labels)]
    program = jax.jit(guidance.guided(Network(), 2.0, 7), out_shardings=sharding)
    compiled = program.lower(*args).compile()
    assert not re.search(r"all-(gather|to-all|reduce)|collective-permute", compiled.as_text())
    expected = 2 * (x.ravel() + 10 * t + 100 * labels) - (x.ravel() + 10 * t + 700)
    np.testing.assert_allclose(compiled(*args).ravel(), expected, rtol=1e-6)
