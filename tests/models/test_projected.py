"""The projection beside a classifier: its arithmetic, and the classifier left as it was."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ddb_jax.models.classifiers import make_classifier
from ddb_jax.models.projected import Projected, ProjectionHead

MAKE = functools.partial(make_classifier, "resnet8", 3, width=4, stem="cifar")
X = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32)


def structure(module):
    return jax.eval_shape(lambda: module.init(jax.random.key(0), X, train=False))


@functools.cache
def variables():
    """Positive numbers, which running variances must be, and as small as weights."""
    return jax.tree.map(
        lambda p: np.random.default_rng(p.size).uniform(0.0, 0.3, p.shape).astype(np.float32),
        structure(Projected(MAKE, dim=5)),
    )


def shapes(tree):
    return jax.tree.map(lambda p: p.shape, tree)


def test_equals_the_classifier_and_numpy():
    model = Projected(MAKE, dim=5)
    train = {"train": True, "mutable": ["batch_stats"]}
    alone = {name: tree["classifier"] for name, tree in variables().items()}
    projected, called, expected = jax.jit(
        lambda v, w: (
            model.apply(v, X, method="project", **train),
            model.apply(v, X, **train),
            MAKE().apply(w, X, **train),
        )
    )(variables(), alone)
    (logits, projection), updates = projected
    (called_logits, features), called_updates = called
    (expected_logits, expected_features), expected_updates = expected
    np.testing.assert_allclose(logits, expected_logits, rtol=1e-5)
    np.testing.assert_allclose(called_logits, expected_logits, rtol=1e-5)
    np.testing.assert_allclose(features, expected_features, rtol=1e-5)

    layers = jax.tree.map(lambda p: np.asarray(p, np.float64), variables()["params"]["projection"])
    h = np.asarray(expected_features, np.float64)
    h = np.maximum(h @ layers["hidden"]["kernel"] + layers["hidden"]["bias"], 0)
    h = h @ layers["output"]["kernel"] + layers["output"]["bias"]
    np.testing.assert_allclose(
        projection, h / np.sqrt((h**2).sum(axis=1, keepdims=True)), atol=1e-5
    )
    assert projection.dtype == jnp.float32

    # Both ways move the running statistics, by as much as the classifier alone.
    for got in (updates, called_updates):
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, atol=1e-5),
            got["batch_stats"]["classifier"],
            expected_updates["batch_stats"],
        )
    old, new = (
        tree["classifier"]["stem_norm"]["mean"]
        for tree in (variables()["batch_stats"], updates["batch_stats"])
    )
    assert np.abs(np.asarray(new) - old).min() > 0


def test_initialisation_makes_all_parameters():
    made, alone = structure(Projected(MAKE, dim=5)), structure(MAKE())
    assert set(made["params"]) == {"classifier", "projection"}
    assert set(made["batch_stats"]) == {"classifier"}
    for name, tree in alone.items():
        assert shapes(made[name]["classifier"]) == shapes(tree)
    # resnet8 of width 4 ends in 16 features.
    assert shapes(made["params"]["projection"]) == {
        "hidden": {"kernel": (16, 16), "bias": (16,)},
        "output": {"kernel": (16, 5), "bias": (5,)},
    }


def test_a_dead_projection_has_a_finite_gradient():
    head = ProjectionHead(3)
    zeros = {
        "params": {
            "hidden": {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)},
            "output": {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)},
        }
    }
    x = jnp.ones((1, 2))
    value, gradient = jax.jit(jax.value_and_grad(lambda v: head.apply(v, x)[0, 0]))(zeros)
    assert value == 0
    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(gradient))
