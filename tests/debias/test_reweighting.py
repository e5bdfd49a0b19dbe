"""Plain training, and groups that weigh the same by sampling or by weight: values by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddb_jax.data.input_pipeline import train_batches
from ddb_jax.data.source import ArraySource
from ddb_jax.debias import erm
from ddb_jax.debias.contract import TrainingSet

# Groups of 6, 2 and 4 of 12 examples: 12 / (3 * 6), 12 / (3 * 2), 12 / (3 * 4).
SIZES = np.array([6, 2, 4])
WEIGHTS = [2 / 3, 2.0, 1.0]
GROUPS = np.array([0, 1, 0, 2, 0, 2, 0, 1, 2, 0, 2, 0])
LABELS = np.zeros(12, np.int32)


def reweighting():
    return erm.make_reweighting(None, TrainingSet(LABELS, 1, group_sizes=SIZES))


def test_weights():
    found = erm.group_weights(SIZES)
    np.testing.assert_allclose(found, WEIGHTS, rtol=1e-6)
    assert found.dtype == np.float32
    np.testing.assert_allclose(erm.group_weights(np.array([5, 5])), [1.0, 1.0])


def test_loss_of_a_batch():
    """(2/3 * 3 + 2 * 0.5 + 1 * 4 + 2 * 1) / 4, over the batch's size whatever it holds."""
    method, losses = reweighting(), jnp.array([3.0, 0.5, 4.0, 1.0])
    batch = {"group": jnp.array([0, 1, 2, 1])}
    loss, state, metrics = method.loss(losses, method.init_state(), batch)
    np.testing.assert_allclose(loss, 9 / 4, rtol=1e-6)
    assert (state, metrics) == ({}, {})
    slope = jax.grad(lambda x: method.loss(x, {}, batch)[0])(losses)
    np.testing.assert_allclose(slope, [1 / 6, 1 / 2, 1 / 4, 1 / 2], rtol=1e-6)


def test_over_an_epoch_it_is_the_mean_of_the_groups_means():
    losses = np.arange(12, dtype=np.float32) + 10 * (GROUPS == 1)
    found = reweighting().loss(jnp.asarray(losses), {}, {"group": jnp.asarray(GROUPS)})[0]
    expected = np.mean([losses[GROUPS == group].mean() for group in range(3)])
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert abs(expected - losses.mean()) > 0.05


def test_reweighting_draws_uniformly_and_reads_the_group():
    method = reweighting()
    assert (method.columns, method.sampling) == (("group",), "uniform")
    with pytest.raises(ValueError, match="reweighting needs groups"):
        erm.make_reweighting(None, TrainingSet(LABELS, 1))


@pytest.mark.parametrize(
    ("make", "sampling"), [(erm.make, "uniform"), (erm.make_resampling, "group_balanced")]
)
def test_the_others_take_the_mean(make, sampling):
    method = make(None, TrainingSet(LABELS, 1, group_sizes=SIZES))
    loss, state, metrics = method.loss(jnp.array([1.0, 2.0, 6.0]), method.init_state(), {})
    assert (float(loss), state, metrics) == (3.0, {}, {})
    assert (method.columns, method.sampling) == ((), sampling)


def test_resampled_batches_hold_every_group_alike():
    """In three batches of 12 every group stands 12 times: its 6, 2 or 4 images 2, 6 or 3 times."""
    source = ArraySource(np.zeros((12, 1, 1, 3), np.uint8), LABELS, LABELS)
    batches = train_batches(source, batch_size=12, seed=0, start_step=0, num_steps=3, groups=GROUPS)
    indices = [batch["index"] for batch in batches]
    assert all(np.bincount(GROUPS[index]).tolist() == [4, 4, 4] for index in indices)
    times = np.bincount(np.concatenate(indices))
    assert times.tolist() == [{0: 2, 1: 6, 2: 3}[group] for group in GROUPS]
