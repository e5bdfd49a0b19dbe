"""Logistic regression against scikit-learn, and against the optimality conditions in NumPy."""

import jax
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from ddb_jax.debias.logistic_regression import fit_logistic_regression, head_logits

SOLVERS = {
    "l1": {"solver": "saga", "l1_ratio": 1.0, "tol": 1e-7, "max_iter": 20_000},
    "l2": {"solver": "lbfgs", "tol": 1e-8, "max_iter": 5_000},
}
CS = (1.0, 0.1)


def problem(num_classes, seed=0):
    """Labels that follow three of five correlated features, with noise, of unequal scales."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(80, 5)) @ (np.eye(5) + 0.4 * rng.normal(size=(5, 5)))
    features += rng.normal(size=5)
    kernel = np.where(np.arange(5)[:, None] < 3, rng.normal(size=(5, num_classes)), 0)
    labels = np.argmax(features @ kernel + rng.gumbel(size=(80, num_classes)), axis=1)
    return features, labels, rng


def softmax(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def centred(bias):
    return np.asarray(bias) - np.mean(bias)


@pytest.mark.parametrize("penalty", ["l1", "l2"])
def test_three_classes_over_c_and_weights(penalty):
    """One program for all fits: each C, on all examples, on a subsample, and with weights."""
    features, labels, rng = problem(3)
    subsample = (rng.random(80) < 0.6).astype(float)
    weights = np.stack([np.ones(80), subsample, rng.uniform(0.2, 3, 80)])
    fit = lambda c, weight: fit_logistic_regression(  # noqa: E731
        features, labels, 3, c=c, penalty=penalty, example_weight=weight
    )
    over_weights = jax.vmap(fit, (None, 0))
    heads = jax.vmap(over_weights, (0, None))(np.array(CS), weights)
    for i, c in enumerate(CS):
        for j, weight in enumerate(weights):
            kept = weight > 0
            expected = LogisticRegression(C=c, random_state=0, **SOLVERS[penalty])
            expected.fit(features[kept], labels[kept], weight[kept])
            kernel, bias = np.asarray(heads.kernel[i, j]), np.asarray(heads.bias[i, j])
            np.testing.assert_allclose(kernel, expected.coef_.T, atol=1e-3)
            np.testing.assert_allclose(centred(bias), centred(expected.intercept_), atol=1e-3)
            np.testing.assert_allclose(
                softmax(features @ kernel + bias), expected.predict_proba(features), atol=1e-3
            )
    if penalty == "l1":
        assert (np.asarray(heads.kernel) == 0).any()


@pytest.mark.parametrize(("penalty", "factor"), [("l1", 1.0), ("l2", 2.0)])
def test_two_classes(penalty, factor):
    """The difference of both columns is the binomial fit's, which is penalised once.

    With w = w_1 - w_0 given, |w_0| + |w_1| is |w| at best, and (w_0^2 + w_1^2) / 2 is w^2 / 4 at
    best, half of scikit-learn's w^2 / 2, which is as if its C were twice as large.
    """
    features, labels, _ = problem(2, seed=1)
    head = fit_logistic_regression(features, labels, 2, c=0.3, penalty=penalty)
    expected = LogisticRegression(C=0.3 * factor, random_state=0, **SOLVERS[penalty])
    expected.fit(features, labels)
    difference = np.asarray(head.kernel[:, 1] - head.kernel[:, 0])
    np.testing.assert_allclose(difference, expected.coef_[0], atol=1e-3)
    np.testing.assert_allclose(head.bias[1] - head.bias[0], expected.intercept_[0], atol=1e-3)
    logits = head_logits(head, features)
    np.testing.assert_allclose(
        logits[:, 1] - logits[:, 0], expected.decision_function(features), atol=2e-3
    )


def test_subgradient_of_l1_is_zero():
    """Far from the origin, in unequal scales: |c X^T (p - y)| is 1 where w is not 0, below else."""
    features, labels, _ = problem(3, seed=2)
    features = features * np.array([1, 2, 0.5, 1, 3]) + np.array([3.0, -5, 0, 8, 2])
    c = 0.5
    head = fit_logistic_regression(features, labels, 3, c=c, penalty="l1")
    kernel = np.asarray(head.kernel, np.float64)
    p = softmax(features @ kernel + np.asarray(head.bias, np.float64))
    residual = c * (p - np.eye(3)[labels])
    np.testing.assert_allclose(residual.sum(axis=0), 0, atol=2e-3)
    # The shift between features and bias is taken out, as rounding of the bias is enlarged by it.
    gradient = (features - features.mean(axis=0)).T @ residual
    used = kernel != 0
    assert 0 < used.sum() < used.size
    np.testing.assert_allclose(gradient[used], -np.sign(kernel[used]), atol=2e-3)
    assert np.abs(gradient[~used]).max() < 1 + 2e-3


def test_absent_class_and_no_weight():
    features, labels, _ = problem(2, seed=3)
    with_absent = fit_logistic_regression(features, labels, 3, c=0.3, penalty="l1")
    probability = softmax(np.asarray(head_logits(with_absent, features), np.float64))
    assert probability[:, 2].max() < 1e-5
    assert not np.asarray(with_absent.kernel)[:, 2].any()
    expected = LogisticRegression(C=0.3, random_state=0, **SOLVERS["l1"]).fit(features, labels)
    np.testing.assert_allclose(probability[:, :2], expected.predict_proba(features), atol=1e-3)

    nothing = fit_logistic_regression(
        features, labels, 3, c=0.3, penalty="l1", example_weight=np.zeros(80)
    )
    assert not np.asarray(nothing.kernel).any()
    assert np.isfinite(np.asarray(nothing.bias)).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"penalty": "l3"}, "penalty is 'l3'"),
        ({"num_classes": 1}, "num_classes is 1"),
        ({"c": 0.0}, "c of the logistic regression is 0.0"),
        ({"features": np.zeros((0, 2)), "labels": np.zeros(0, int)}, "got none"),
    ],
)
def test_refused(changed, message):
    arguments = {"features": np.zeros((4, 2)), "labels": np.zeros(4, int), "num_classes": 2}
    arguments |= {"c": 1.0, "penalty": "l1"}
    with pytest.raises(ValueError, match=message):
        fit_logistic_regression(**{**arguments, **changed})
