"""Recipe II's weights by hand, and its memory against a plain NumPy run of LfF's rule."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from ddb_jax.debias import loss_memory as difficulty
from ddb_jax.debias import relative_difficulty
from ddb_jax.debias.contract import TrainingSet

LABELS = np.array([0, 0, 0, 1, 1, 1, 1, 1])
AMPLIFIER_LOSS = np.array([0.1, 0.2, 4.0, 0.3, 0.1, 2.0, 0.5, 0.1], np.float32)
TRAINING_SET = TrainingSet(LABELS, 2, amplifier_loss=AMPLIFIER_LOSS)


def _make(ema=0.0, class_normalize=False, normalize_weights=False, training_set=TRAINING_SET):
    settings = SimpleNamespace(
        ema=ema, class_normalize=class_normalize, normalize_weights=normalize_weights
    )
    return relative_difficulty.make(settings, training_set)


def _batch(index):
    return {
        "index": jnp.asarray(index),
        "label": jnp.asarray(LABELS[index]),
        "amplifier_loss": jnp.asarray(AMPLIFIER_LOSS[index]),
    }


def test_weights_by_hand():
    method = _make()
    assert method.init_state() == {}
    index = np.array([0, 2, 3])  # amplifier losses 0.1, 4, 0.3
    losses = jnp.array([0.3, 1.0, 0.0])  # weights 0.1/0.4, 4/5, 0.3/0.3
    loss, state, metrics = method.loss(losses, {}, _batch(index))
    np.testing.assert_allclose(loss, (0.25 * 0.3 + 0.8 * 1.0 + 1.0 * 0.0) / 3, rtol=1e-5)
    np.testing.assert_allclose(metrics["mean_weight"], (0.25 + 0.8 + 1.0) / 3, rtol=1e-5)
    assert state == {}


def test_weights_are_constants_for_the_gradient():
    gradient = jax.grad(lambda x: _make().loss(x, {}, _batch(np.array([0, 2])))[0])(
        jnp.array([0.3, 1.0])
    )
    np.testing.assert_allclose(gradient, [0.25 / 2, 0.8 / 2], rtol=1e-5)


def test_normalized_weights_have_mean_one():
    method = _make(normalize_weights=True)
    losses = jnp.array([0.3, 1.0])  # weights 0.25, 0.8 of mean 0.525
    loss, _, _ = method.loss(losses, {}, _batch(np.array([0, 2])))
    np.testing.assert_allclose(loss, (0.25 * 0.3 + 0.8 * 1.0) / (2 * 0.525), rtol=1e-5)


def test_two_losses_of_zero_give_weight_zero():
    weight = difficulty.relative_difficulty(jnp.zeros(1), jnp.zeros(1))
    np.testing.assert_array_equal(weight, [0.0])


def test_class_scale_by_hand():
    method = _make(class_normalize=True)
    index = np.array([0, 1, 3])
    # Amplifier: 0.1/4, 0.2/4, 0.3/2. Model: class 0 has maximum 0.4, class 1 0.6.
    loss, _, _ = method.loss(jnp.array([0.4, 0.1, 0.6]), method.init_state(), _batch(index))
    weights = np.array([0.025 / (0.025 + 1), 0.05 / (0.05 + 0.25), 0.15 / (0.15 + 1)])
    np.testing.assert_allclose(loss, np.mean(weights * [0.4, 0.1, 0.6]), rtol=1e-5)


def _reference(steps, ema, class_normalize):
    """LfF's weights, example by example, as its paper and released code have them."""
    memory, results = {}, []
    for index, losses in steps:
        for i, loss in zip(index, losses, strict=True):
            memory[i] = ema * memory[i] + (1 - ema) * loss if i in memory else loss
        weights = []
        for i in index:
            own, amplifier = memory[i], AMPLIFIER_LOSS[i]
            if class_normalize:
                own /= max(m for j, m in memory.items() if LABELS[j] == LABELS[i])
                amplifier /= max(AMPLIFIER_LOSS[LABELS == LABELS[i]])
            weights.append(amplifier / (amplifier + own))
        results.append(np.mean(np.array(weights) * losses))
    return results, memory


@pytest.mark.parametrize(("ema", "class_normalize"), [(0.7, True), (0.7, False), (0.0, True)])
def test_memory_over_three_steps(ema, class_normalize):
    # Class 1's first maximum is example 5; it falls at the second step, and the maximum with it.
    steps = [
        (np.array([0, 2, 5, 4]), np.array([0.5, 2.0, 3.0, 0.4])),
        (np.array([5, 2, 1, 6]), np.array([0.2, 1.0, 0.9, 0.7])),
        (np.array([3, 4, 0, 5]), np.array([1.1, 0.3, 0.6, 0.1])),
    ]
    expected, expected_memory = _reference(steps, ema, class_normalize)
    method = _make(ema=ema, class_normalize=class_normalize)
    step, state = jax.jit(method.loss), method.init_state()
    for (index, losses), value in zip(steps, expected, strict=True):
        loss, state, _ = step(jnp.asarray(losses, jnp.float32), state, _batch(index))
        np.testing.assert_allclose(loss, value, rtol=1e-5)
    memory = [expected_memory.get(i, difficulty.NOT_SEEN) for i in range(len(LABELS))]
    np.testing.assert_allclose(state["loss_memory"], memory, rtol=1e-5)


def test_eight_devices_give_the_same_loss_and_memory():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    split, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
    index = np.array([7, 3, 0, 5, 1, 6, 2, 4])
    steps = [(index, np.linspace(0.1, 1.5, 8)), (index[::-1].copy(), np.linspace(0.2, 2.0, 8))]
    expected, expected_memory = _reference(steps, 0.7, True)
    method = _make(ema=0.7, class_normalize=True)
    step = jax.jit(method.loss, donate_argnums=1)
    state = jax.device_put(method.init_state(), whole)
    for (positions, losses), value in zip(steps, expected, strict=True):
        losses = jax.device_put(losses.astype(np.float32), split)
        loss, state, _ = step(losses, state, jax.device_put(_batch(positions), split))
        np.testing.assert_allclose(loss, value, rtol=1e-5)
    memory = [expected_memory[i] for i in range(8)]
    np.testing.assert_allclose(state["loss_memory"], memory, rtol=1e-5)


@pytest.mark.parametrize(
    ("ema", "amplifier_loss", "message"),
    [
        (1.0, AMPLIFIER_LOSS, "must lie in"),
        (0.0, None, "needs the bias amplifier"),
        (0.0, AMPLIFIER_LOSS[:3], "3 amplifier losses for 8 examples"),
        (0.0, np.where(np.arange(8) == 5, np.nan, AMPLIFIER_LOSS), "example 5 is nan"),
    ],
)
def test_bad_settings_are_refused(ema, amplifier_loss, message):
    training_set = TrainingSet(LABELS, 2, amplifier_loss=amplifier_loss)
    with pytest.raises(ValueError, match=message):
        _make(ema=ema, training_set=training_set)
