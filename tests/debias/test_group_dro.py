"""GroupDRO's update worked by hand."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from ddb_jax.debias import group_dro
from ddb_jax.debias.contract import TrainingSet

LABELS = np.array([0, 0, 1, 1])
SETTINGS = SimpleNamespace(step_size=0.5, adjustment=0.0, sampling="group_balanced")


def _make(sizes, **changes):
    settings = SimpleNamespace(**{**vars(SETTINGS), **changes})
    return group_dro.make(settings, TrainingSet(LABELS, 2, group_sizes=np.array(sizes)))


def test_two_group_step_by_hand():
    method = _make([90, 10])
    losses, groups = jnp.array([1.0, 3.0, 4.0]), jnp.array([0, 0, 1])
    # L = (2, 4); q = (e^1, e^2) / (e^1 + e^2) from equal weights; then once more.
    q = np.array([1 / (1 + np.e), np.e / (1 + np.e)])
    loss, state, metrics = method.loss(losses, method.init_state(), {"group": groups})
    np.testing.assert_allclose(loss, 2 * q[0] + 4 * q[1], rtol=1e-6)
    np.testing.assert_allclose(np.exp(state["log_q"]), q, rtol=1e-6)
    assert metrics["worst_group_loss"] == 4.0
    np.testing.assert_allclose(metrics["largest_group_weight"], q[1], rtol=1e-6)

    q = np.array([1 / (1 + np.e**2), np.e**2 / (1 + np.e**2)])
    _, state, _ = method.loss(losses, state, {"group": groups})
    np.testing.assert_allclose(np.exp(state["log_q"]), q, rtol=1e-6)


def test_gradient_is_the_weight_over_the_groups_count():
    method = _make([90, 10])
    batch = {"group": jnp.array([0, 0, 1])}
    gradient = jax.grad(lambda x: method.loss(x, method.init_state(), batch)[0])(
        jnp.array([1.0, 3.0, 4.0])
    )
    light, heavy = 1 / (1 + np.e), np.e / (1 + np.e)
    np.testing.assert_allclose(gradient, [light / 2, light / 2, heavy], rtol=1e-6)


def test_adjustment_moves_the_weights_but_not_the_loss():
    method = _make([4, 16], adjustment=2.0)  # C / sqrt(n) = (1, 0.5)
    groups = jnp.array([0, 1])
    loss, state, _ = method.loss(jnp.array([1.0, 1.0]), method.init_state(), {"group": groups})
    unnormalised = np.exp([0.5 * (1 + 1), 0.5 * (1 + 0.5)])
    np.testing.assert_allclose(np.exp(state["log_q"]), unnormalised / unnormalised.sum(), rtol=1e-6)
    np.testing.assert_allclose(loss, 1.0, rtol=1e-6)


@pytest.mark.parametrize("adjustment", [0.0, 2.0])
def test_absent_group_has_no_loss_and_no_adjustment(adjustment):
    method = _make([4, 16, 1], adjustment=adjustment)
    groups = jnp.array([0, 0])
    loss, state, _ = method.loss(jnp.array([1.0, 3.0]), method.init_state(), {"group": groups})
    unnormalised = np.exp([0.5 * (2 + adjustment / 2), 0.0, 0.0])
    q = unnormalised / unnormalised.sum()
    np.testing.assert_allclose(np.exp(state["log_q"]), q, rtol=1e-6)
    np.testing.assert_allclose(loss, 2 * q[0], rtol=1e-6)


def test_a_weight_recovers_from_far_below_the_smallest_float():
    method = _make([5, 5])
    state = {"log_q": jnp.array([0.0, -200.0])}
    _, state, _ = method.loss(jnp.array([0.0, 800.0]), state, {"group": jnp.array([0, 1])})
    np.testing.assert_allclose(np.exp(state["log_q"]), [0.0, 1.0], atol=1e-6)


def test_eight_devices_give_the_same_step():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    rng = np.random.default_rng(0)
    losses, groups = rng.uniform(0, 3, 16).astype(np.float32), rng.integers(0, 3, 16)
    method = _make([5, 5, 6])
    step = jax.jit(lambda loss, state, group: method.loss(loss, state, {"group": group}))
    split = NamedSharding(mesh, P("data"))
    loss, state, _ = step(
        jax.device_put(losses, split), method.init_state(), jax.device_put(groups, split)
    )
    means = np.array([losses[groups == group].mean() for group in range(3)])
    q = np.exp(0.5 * means) / np.exp(0.5 * means).sum()
    np.testing.assert_allclose(loss, q @ means, rtol=1e-5)
    np.testing.assert_allclose(np.exp(state["log_q"]), q, rtol=1e-5)


@pytest.mark.parametrize(
    ("sizes", "changes", "message"),
    [
        ([], {}, "needs groups"),
        ([3, 0], {}, "group 1 is empty"),
        ([3, 1], {"step_size": -1.0}, "must not be negative"),
        ([3, 1], {"sampling": "balanced"}, "'balanced'"),
    ],
)
def test_bad_settings_are_refused(sizes, changes, message):
    with pytest.raises(ValueError, match=message):
        _make(sizes, **changes)
