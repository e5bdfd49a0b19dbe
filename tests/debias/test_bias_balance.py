"""Bias balancing against shifts and losses worked by hand."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from ddb_jax.debias import bias_balance
from ddb_jax.debias.contract import TrainingSet

# Bias 0 goes with class 0 three times and with class 1 once; bias 1 with class 1 twice.
LABELS = np.array([0, 0, 0, 1, 1, 1])
BIAS = np.array([0, 0, 0, 0, 1, 1])
SETTINGS = SimpleNamespace(smoothing=1.0, strength=1.0)


def test_shift_is_the_smoothed_share_of_the_class_in_the_bias():
    table = bias_balance.log_class_given_bias(LABELS, BIAS, 2, smoothing=1.0)
    # (3 + 1) / 6, (1 + 1) / 6; (0 + 1) / 4, (2 + 1) / 4
    np.testing.assert_allclose(np.exp(table), [[2 / 3, 1 / 3], [1 / 4, 3 / 4]], rtol=1e-6)


def test_logits_are_shifted_by_the_given_bias_and_strength():
    training_set = TrainingSet(LABELS, 2, bias=BIAS)
    method = bias_balance.make(SimpleNamespace(smoothing=1.0, strength=2.0), training_set)
    batch = {"given_bias": jnp.array([1, 0])}
    adjusted = method.adjust_logits(jnp.array([[0.0, 0.0], [1.0, -1.0]]), batch)
    expected = [
        [2 * np.log(1 / 4), 2 * np.log(3 / 4)],
        [1 + 2 * np.log(2 / 3), -1 + 2 * np.log(1 / 3)],
    ]
    np.testing.assert_allclose(adjusted, expected, rtol=1e-5)


def test_a_network_that_knows_nothing_pays_the_entropy_of_the_bias():
    # Zero logits: the loss of (label 1, bias 0) is -log p(1 | 0) = log 3.
    method = bias_balance.make(SETTINGS, TrainingSet(LABELS, 2, bias=BIAS))
    adjusted = np.asarray(method.adjust_logits(jnp.zeros((1, 2)), {"given_bias": jnp.array([0])}))
    loss = np.log(np.exp(adjusted).sum()) - adjusted[0, 1]
    np.testing.assert_allclose(loss, np.log(3.0), rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "bias", "sentence"),
    [
        (SETTINGS, None, "needs the bias"),
        (SETTINGS, np.array([0, 0, 0, 0, 1, -1]), "needs the bias"),
        (SimpleNamespace(smoothing=0.0, strength=1.0), BIAS, "smoothing"),
    ],
)
def test_refused(settings, bias, sentence):
    with pytest.raises(ValueError, match=sentence):
        bias_balance.make(settings, TrainingSet(LABELS, 2, bias=bias))
