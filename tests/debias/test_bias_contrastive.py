"""BiasCon and SoftCon against loops over all views, written from the loss's definition."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddb_jax.debias import bias_contrastive
from ddb_jax.debias.contract import TrainingSet

SETTINGS = SimpleNamespace(temperature=0.07, ce_weight=0.5)
LABELS = np.array([0, 1, 0, 0, 1, 2])
BIAS = np.array([0, 1, 1, 0, 1, 2])  # class 1 has one bias, class 2 one image: no positives
RNG = np.random.default_rng(0)
X, SECOND_X = RNG.normal(size=(2, 6, 1, 2, 3))
BIAS_FEATURES = RNG.normal(size=(6, 4))
# A linear classifier of six classes and a linear projection of the six pixel values.
WEIGHTS, PROJECTION = RNG.normal(size=(6, 6)), RNG.normal(size=(6, 4))


def by_loops(labels, unlike, weights, projection):
    """The loss of all 2B views; `unlike` is [B, B]."""
    image = [i for i in range(len(labels)) for _ in range(2)]
    flat = np.array([v[i].ravel() for i in range(len(labels)) for v in (X, SECOND_X)])
    z = flat @ projection
    z /= np.sqrt((z**2).sum(axis=1, keepdims=True))
    total_ce, total_contrastive = 0.0, 0.0
    for a in range(len(image)):
        logits = flat[a] @ weights
        total_ce += np.log(np.sum(np.exp(logits))) - logits[labels[image[a]]]
        others = [b for b in range(len(image)) if b != a]
        normaliser = sum(np.exp(z[a] @ z[b] / 0.07) for b in others)
        numerator = denominator = 0.0
        for b in others:
            if labels[image[a]] == labels[image[b]] and image[a] != image[b]:
                weight = unlike[image[a], image[b]]
                numerator += weight * np.log(np.exp(z[a] @ z[b] / 0.07) / normaliser)
                denominator += weight
        if denominator > 0:
            total_contrastive -= numerator / denominator
    return (0.5 * total_ce + total_contrastive) / len(image)


def linear_network(weights, projection):
    def network(name, images, method):
        assert (name, method) == ("main", "project")
        flat = images.reshape(len(images), -1)
        z = flat @ projection
        return flat @ weights, z / jnp.linalg.norm(z, axis=1, keepdims=True)

    return network


@functools.cache
def program(make):
    """The loss, its metrics and gradients; one compilation serves all batches of one size."""
    everything = TrainingSet(LABELS, 6, bias=BIAS, bias_features=BIAS_FEATURES)
    method = make(SETTINGS, everything)

    def loss(weights, projection, batch):
        value, state, metrics = method.loss(linear_network(weights, projection), {}, batch, None)
        assert state == {}
        return value, metrics

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))


def value_and_gradients(make, labels, column):
    batch = {
        "x": X[: len(labels)].astype(np.float32),
        "second_x": SECOND_X[: len(labels)].astype(np.float32),
        "label": labels,
        "given_bias": column,
        "bias_features": column,
    }
    return program(make)(WEIGHTS.astype(np.float32), PROJECTION.astype(np.float32), batch)


def slope(function, point, direction, step=1e-6):
    return (function(point + step * direction) - function(point - step * direction)) / (2 * step)


def check(make, labels, unlike, column):
    (value, metrics), (of_weights, of_projection) = value_and_gradients(make, labels, column)
    np.testing.assert_allclose(value, by_loops(labels, unlike, WEIGHTS, PROJECTION), rtol=1e-5)
    for got, at, function in (
        (of_weights, WEIGHTS, lambda w: by_loops(labels, unlike, w, PROJECTION)),
        (of_projection, PROJECTION, lambda p: by_loops(labels, unlike, WEIGHTS, p)),
    ):
        direction = np.random.default_rng(1).normal(size=at.shape)
        np.testing.assert_allclose(
            np.sum(got * direction), slope(function, at, direction), rtol=1e-3, atol=1e-4
        )
    return metrics


def cosine(a, b):
    return sum(a * b) / np.sqrt(sum(a * a) * sum(b * b))


def test_biascon():
    make = bias_contrastive.make_biascon
    method = make(SETTINGS, TrainingSet(LABELS, 6, bias=BIAS))
    assert method.views == 2
    assert method.networks == {"main": ("projected", 1.0)}
    assert method.columns == ("given_bias",)
    metrics = check(make, LABELS, (BIAS[:, None] != BIAS).astype(float), BIAS)
    # Images 0, 2 and 3 have positives.
    np.testing.assert_allclose(metrics["with_positives"], 3 / 6)
    flat = np.stack([X, SECOND_X], axis=1).reshape(12, 6)
    right = np.argmax(flat @ WEIGHTS, axis=1) == np.repeat(LABELS, 2)
    np.testing.assert_allclose(metrics["train_accuracy"], right.mean())


def test_softcon():
    make = bias_contrastive.make_softcon
    method = make(SETTINGS, TrainingSet(LABELS, 6, bias_features=BIAS_FEATURES))
    assert method.views == 2
    assert method.columns == ("bias_features",)
    unlike = np.array([[1 - cosine(a, b) for b in BIAS_FEATURES] for a in BIAS_FEATURES])
    metrics = check(make, LABELS, unlike, BIAS_FEATURES.astype(np.float32))
    np.testing.assert_allclose(metrics["with_positives"], 5 / 6)  # all but the lonely class's


def test_dissimilarity_of_like_and_empty_features():
    """Parallel vectors differ by nothing, not by a rounding error; zeros are unlike everything."""
    features = jnp.asarray([[0.1, 0.2, 0.3], [0.7, 1.4, 2.1], [-1, -2, -3], [0, 0, 0]], jnp.float32)
    expected = [[0, 0, 2, 1], [0, 0, 2, 1], [2, 2, 0, 1], [1, 1, 1, 0]]
    got = bias_contrastive.dissimilarity(features)
    np.testing.assert_allclose(got, expected, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(got) == 0, np.array(expected) == 0)


@pytest.mark.parametrize("labels", [np.zeros(6, int), np.arange(6), np.array([2])])
def test_without_positives_only_cross_entropy_is_left(labels):
    """One bias alone, a class apiece, one image alone: nothing to contrast, and no NaN."""
    alike, none = np.ones(len(labels), int), np.zeros((len(labels),) * 2)
    result = value_and_gradients(bias_contrastive.make_biascon, labels, alike)
    (value, metrics), (_, of_projection) = result
    np.testing.assert_allclose(value, by_loops(labels, none, WEIGHTS, PROJECTION), rtol=1e-5)
    assert metrics["contrastive_loss"] == 0
    np.testing.assert_array_equal(of_projection, 0)


def test_alike_bias_features_leave_nothing_to_contrast():
    labels, features = np.zeros(6, int), np.full((6, 4), 0.3, np.float32)
    result = value_and_gradients(bias_contrastive.make_softcon, labels, features)
    (_, metrics), (_, of_projection) = result
    assert metrics["contrastive_loss"] == 0
    np.testing.assert_array_equal(of_projection, 0)


@pytest.mark.parametrize(("field", "value"), [("temperature", 0.0), ("ce_weight", -1.0)])
def test_refused_settings(field, value):
    settings = SimpleNamespace(**{**vars(SETTINGS), field: value})
    with pytest.raises(ValueError, match=f"{field} of BiasCon is {value}"):
        bias_contrastive.make_biascon(settings, TrainingSet(LABELS, 6, bias=BIAS))


def test_refused_without_bias():
    with pytest.raises(ValueError, match="bias of every image"):
        bias_contrastive.make_biascon(SETTINGS, TrainingSet(LABELS, 6))
    with pytest.raises(ValueError, match="bias of every image"):
        bias_contrastive.make_biascon(SETTINGS, TrainingSet(LABELS, 6, bias=BIAS - 1))
    with pytest.raises(ValueError, match="finite features"):
        bias_contrastive.make_softcon(SETTINGS, TrainingSet(LABELS, 6))
    broken = TrainingSet(LABELS, 6, bias_features=np.full((6, 2), np.nan))
    with pytest.raises(ValueError, match="finite features"):
        bias_contrastive.make_softcon(SETTINGS, broken)
