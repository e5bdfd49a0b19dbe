"""Automatic feature reweighting against gradients written out in NumPy."""

from types import SimpleNamespace

import numpy as np
import pytest

from ddb_jax.debias import afr
from ddb_jax.debias.logistic_regression import Head

SETTINGS = SimpleNamespace(
    gamma=2.0,
    balance_classes=True,
    regularization=0.3,
    learning_rate=0.5,
    num_steps=4,
    max_gradient_norm=0.2,
)
RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(6, 3)).astype(np.float32)
LABELS = np.array([0, 0, 0, 1, 1, 3])  # class 2 is absent
PROBABILITY = np.array([0.9, 0.5, 0.1, 0.8, 1.0, 0.0])
HEAD = Head(*(RNG.normal(size=shape).astype(np.float32) for shape in ((3, 4), (4,))))


def with_settings(**changed):
    return SimpleNamespace(**{**vars(SETTINGS), **changed})


def fit(settings):
    return afr.fit(settings, FEATURES, LABELS, PROBABILITY, HEAD, 4)


def by_hand(settings, weight):
    kernel, bias = HEAD.kernel.astype(np.float64), HEAD.bias.astype(np.float64)
    norms = []
    for _ in range(settings.num_steps):
        e = np.exp(FEATURES @ kernel + bias)
        residual = weight[:, None] * (e / e.sum(axis=1, keepdims=True) - np.eye(4)[LABELS])
        of_kernel = FEATURES.T @ residual + 2 * settings.regularization * (kernel - HEAD.kernel)
        of_bias = residual.sum(axis=0) + 2 * settings.regularization * (bias - HEAD.bias)
        norm = np.sqrt((of_kernel**2).sum() + (of_bias**2).sum())
        norms.append(norm)
        factor = min(1.0, settings.max_gradient_norm / norm) if settings.max_gradient_norm else 1.0
        kernel = kernel - settings.learning_rate * factor * of_kernel
        bias = bias - settings.learning_rate * factor * of_bias
    return kernel, bias, norms


def weights_by_hand():
    weight = np.exp(-2 * PROBABILITY) / np.array([3, 3, 3, 2, 2, 1])
    return weight / weight.sum()


def test_weights():
    arguments = (PROBABILITY, LABELS, 4)
    weight = afr.example_weights(*arguments, gamma=2.0, balance_classes=True)
    np.testing.assert_allclose(weight, weights_by_hand(), rtol=1e-5)
    weight = afr.example_weights(*arguments, gamma=100.0, balance_classes=False)
    # All but the last two exponents, -10 and 0, vanish.
    small = 1 / (1 + np.exp(10))
    np.testing.assert_allclose(weight, [0, 0, small, 0, 0, 1 - small], atol=1e-7)
    weight = afr.example_weights(*arguments, gamma=0.0, balance_classes=True)
    np.testing.assert_allclose(weight, np.array([1, 1, 1, 1.5, 1.5, 3]) / 9, rtol=1e-5)


@pytest.mark.parametrize("max_gradient_norm", [0.2, 0.0, 100.0])
def test_steps(max_gradient_norm):
    settings = with_settings(max_gradient_norm=max_gradient_norm)
    kernel, bias, norms = by_hand(settings, weights_by_hand())
    assert max(norms) > 0.2  # the smallest limit is reached, the largest is not
    head = fit(settings)
    np.testing.assert_allclose(head.kernel, kernel, atol=1e-5)
    np.testing.assert_allclose(head.bias, bias, atol=1e-5)


def test_no_step_is_the_given_head():
    head = fit(with_settings(num_steps=0))
    np.testing.assert_array_equal(head.kernel, HEAD.kernel)
    np.testing.assert_array_equal(head.bias, HEAD.bias)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("gamma", -1.0),
        ("regularization", -0.1),
        ("learning_rate", 0.0),
        ("num_steps", -1),
        ("max_gradient_norm", -1.0),
    ],
)
def test_refused_settings(field, value):
    with pytest.raises(ValueError, match=f"{field} of AFR is {value}"):
        fit(with_settings(**{field: value}))


def test_refused_data():
    with pytest.raises(ValueError, match="6 examples, 5 labels"):
        afr.fit(SETTINGS, FEATURES, LABELS[:5], PROBABILITY, HEAD, 4)
    with pytest.raises(ValueError, match=r"0\.\.1"):
        afr.fit(SETTINGS, FEATURES, LABELS, PROBABILITY + 0.5, HEAD, 4)
    with pytest.raises(ValueError, match=r"shape \(3, 4\), but there are 3 features and 5"):
        afr.fit(SETTINGS, FEATURES, LABELS, PROBABILITY, HEAD, 5)
