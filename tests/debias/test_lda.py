"""Shrinkage LDA: by hand, against scikit-learn, what it finds, what it refuses."""

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from ddb_jax.debias.lda import (
    cross_fitted_logits,
    fit_lda,
    fit_without_errors,
    shrunk_covariance,
    temperature,
)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize(("count", "size"), [(60, 9), (7, 20), (200, 3)])
def test_shrinkage_is_scikit_learns(count, size):
    x = normal(count, size) @ normal(size, size, seed=1)
    x -= x.mean(axis=0)
    covariance, shrinkage = shrunk_covariance(x)
    expected, share = ledoit_wolf(x, assume_centered=True)
    np.testing.assert_allclose(covariance, expected, atol=1e-9)
    assert shrinkage == pytest.approx(share) and 0 < share < 1


def test_two_classes_of_one_feature_by_hand():
    # Means 1 and 6; squared deviations 1, 1, 0, 4, 4, over N - K = 3: the variance is 10/3.
    judge = fit_lda(np.array([[0.0], [2.0], [1.0], [4.0], [8.0]]), np.array([0, 0, 0, 1, 1]), 2)
    np.testing.assert_allclose(judge.kernel, [[1 / (10 / 3), 6 / (10 / 3)]])
    expected = [np.log(3 / 5) - 1 / (20 / 3), np.log(2 / 5) - 36 / (20 / 3)]
    np.testing.assert_allclose(judge.bias, expected)


def test_without_shrinkage_it_is_scikit_learns_judge():
    labels = np.repeat([0, 1, 2], 4000)
    x = normal(12_000, 4) @ normal(4, 4, seed=1) + 2 * normal(3, 4, seed=2)[labels]
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(x, labels)
    judge = fit_lda(x, labels, 3)
    assert judge.shrinkage < 0.02
    ours, expected = judge.logits(x), theirs.decision_function(x)
    ours, expected = (v - v.mean(axis=1, keepdims=True) for v in (ours, expected))
    assert np.corrcoef(ours.ravel(), expected.ravel())[0, 1] > 0.999
    assert np.mean(ours.argmax(1) == expected.argmax(1)) > 0.995


def test_a_constant_feature_and_the_unit_of_a_feature_do_not_matter():
    labels = np.arange(40) % 2
    x = normal(40, 3) + labels[:, None]
    expected = fit_lda(x, labels, 2).logits(x)
    wider = np.column_stack([1000 * x[:, 0], np.full(40, 0.1), x[:, 1:]])
    np.testing.assert_allclose(fit_lda(wider, labels, 2).logits(wider), expected)


def biased_set():
    """300 images of three classes that the bias gives away; the first nine contradict it."""
    labels = np.arange(300) % 3
    bias = np.where(np.arange(300) < 9, (labels + 1) % 3, labels)
    means = 5 * np.eye(3)
    return np.concatenate([means[bias] + normal(300, 3), normal(300, 9, seed=1)], axis=1), labels


def test_what_contradicts_the_bias_is_misclassified_and_dropped():
    x, labels = biased_set()
    judge = fit_without_errors(x, labels, 3)
    wrong = np.flatnonzero(judge.logits(x).argmax(axis=1) != labels)
    assert set(range(9)) <= set(wrong) and len(wrong) < 15
    kept = fit_lda(x, labels, 3).logits(x).argmax(axis=1) == labels
    by_hand = fit_lda(x[kept], labels[kept], 3)
    np.testing.assert_allclose(judge.kernel, by_hand.kernel)
    assert not np.allclose(judge.kernel, fit_without_errors(x, labels, 3, refits=0).kernel)


def test_a_class_of_errors_keeps_its_images():
    labels = np.array([0] * 50 + [1] * 3)
    x = np.concatenate([normal(50, 2), normal(3, 2, seed=1)])  # the third is lost among the others
    assert np.all(fit_lda(x, labels, 2).logits(x).argmax(axis=1)[50:] == 0)
    judge = fit_without_errors(x, labels, 2)
    assert np.isfinite(judge.logits(x)).all()


def test_cross_fitted_images_are_judged_without_themselves():
    x, labels = biased_set()
    seen = []

    def fit(features, own):
        seen.append({tuple(row) for row in features})
        return fit_lda(features, own, 3)

    logits = cross_fitted_logits(x, labels, fit, 3, seed=4)
    assert [len(rows) for rows in seen] == [200, 200, 200]
    for i in (0, 150):
        (judge_rows,) = [rows for rows in seen if tuple(x[i]) not in rows]
        without = np.array([tuple(row) in judge_rows for row in x])
        expected = fit_lda(x[without], labels[without], 3).logits(x[i : i + 1])[0]
        np.testing.assert_allclose(logits[i], expected)


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (normal(3, 2), [0, 0, 1], "at least 2 images of every class, and class 1 has 1"),
        (np.full((6, 2), 0.1), [0, 1] * 3, "of all images of a class are equal"),
        (np.array([[0.0], [np.nan]] * 2), [0, 0, 1, 1], "not finite"),
    ],
)
def test_refusals(features, labels, message):
    with pytest.raises(ValueError, match=message):
        fit_lda(features, np.array(labels), 2)


def test_too_few_images_for_the_parts():
    with pytest.raises(ValueError, match=r"in 5 parts needs as many .* and one has 3"):
        cross_fitted_logits(normal(6, 1), np.arange(6) % 2, None, 5, 0)


def test_temperature_of_logits_that_are_too_sure():
    # Of 40 images 30 are of the class with the larger logit: log(3) is the calibrated difference.
    labels = np.array([0] * 30 + [1] * 10)
    logits = np.tile([[8 * np.log(3), 0.0]], (40, 1))
    assert temperature(logits, labels) == pytest.approx(8, rel=1e-3)
    assert temperature(logits / 16, labels) == pytest.approx(0.5, rel=1e-3)
