"""Deep feature reweighting against scikit-learn, on sets whose balanced subsamples are known."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from ddb_jax.debias import dfr
from ddb_jax.debias.logistic_regression import head_logits

SETTINGS = SimpleNamespace(c_grid=(1.0,), refits=2, penalty="l2")
# One point for each of four groups, two per class, with a constant feature.
POINTS = np.array([[1.0, 5, 2, 7], [4, -5, 1, 7], [-3, 6, 2, 7], [-1, -4, 5, 7]])
CLASSES = np.array([0, 0, 1, 1])


def reference(scaler, points, c=1.0):
    """Logit difference, as a function of raw features, of an L2 fit on those points.

    Two softmax columns with C are a binomial fit with 2 C.
    """
    fit = LogisticRegression(C=2 * c, tol=1e-9).fit(scaler.transform(points), CLASSES)
    return lambda features: fit.decision_function(scaler.transform(features))


def difference(head, features):
    logits = np.asarray(head_logits(head, features))
    return logits[:, 1] - logits[:, 0]


def test_as_many_of_each_group_as_of_the_smallest():
    """All examples of a group alike: any balanced subsample is one of each, the smallest group's.

    The statistics are those of all examples, not of the subsample.
    """
    groups = np.repeat([5, 2, 9, 3], [1, 6, 9, 3])  # ids with gaps
    which = np.repeat(np.arange(4), [1, 6, 9, 3])
    head, record = dfr.fit(SETTINGS, POINTS[which], CLASSES[which], groups, 2, seed=0)
    expected = reference(StandardScaler().fit(POINTS[which]), POINTS)
    np.testing.assert_allclose(difference(head, POINTS), expected(POINTS), atol=1e-3)
    assert head.kernel.shape == (4, 2)
    assert not np.asarray(head.kernel)[3].any()
    assert record["examples_per_group"] == 1
    assert record["groups_not_tuned_on"] == [5]
    json.dumps(record)


def test_refits_on_other_subsamples_are_averaged():
    """The large group has two kinds of examples, of which each refit draws one."""
    other = POINTS[3] + np.array([-3.0, 1, 2, 0])
    features = np.concatenate([POINTS[:3], np.tile(POINTS[3], (8, 1)), np.tile(other, (8, 1))])
    labels = np.concatenate([CLASSES[:3], np.ones(16, int)])
    groups = np.concatenate([np.arange(3), np.full(16, 3)])
    settings = SimpleNamespace(**{**vars(SETTINGS), "refits": 7})
    head, _ = dfr.fit(settings, features, labels, groups, 2, seed=1)
    scaler = StandardScaler().fit(features)
    with_first = reference(scaler, POINTS)(features)
    with_other = reference(scaler, np.concatenate([POINTS[:3], other[None]]))(features)
    mixtures = [(k * with_first + (7 - k) * with_other) / 7 for k in range(1, 7)]
    error = [np.abs(difference(head, features) - mixture).max() for mixture in mixtures]
    assert min(error) < 1e-3
    assert sorted(error)[1] > 1e-2  # the mixtures can be told apart


def test_choice_of_c():
    """At a C so small that the kernel is 0, one class is never predicted."""
    rng = np.random.default_rng(0)
    sizes = [30, 12, 20, 16]
    which = np.repeat(np.arange(4), sizes)
    features = POINTS[which] + 0.1 * rng.normal(size=(78, 4))
    settings = SimpleNamespace(c_grid=(1e-4, 1.0, 0.5), refits=2, penalty="l1")
    head, record = dfr.fit(settings, features, CLASSES[which], which, 2, seed=0)
    assert record["c"] == 1.0
    assert record["worst_group_accuracy"] == {"0.0001": 0.0, "1": 1.0, "0.5": 1.0}
    assert record["mean_group_accuracy"] == {"0.0001": 0.5, "1": 1.0, "0.5": 1.0}
    assert record["examples_per_group"] == 12
    assert record["groups_not_tuned_on"] == []
    predicted = np.argmax(head_logits(head, features), axis=1)
    np.testing.assert_array_equal(predicted, CLASSES[which])


def test_groups_of_one_only():
    head, record = dfr.fit(SETTINGS, POINTS, CLASSES, np.arange(4), 2, seed=0)
    assert record["worst_group_accuracy"] == {}
    assert record["groups_not_tuned_on"] == [0, 1, 2, 3]
    expected = reference(StandardScaler().fit(POINTS), POINTS)
    np.testing.assert_allclose(difference(head, POINTS), expected(POINTS), atol=1e-3)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"c_grid": ()}, "c_grid of DFR"),
        ({"c_grid": (1.0, -0.1)}, "c_grid of DFR"),
        ({"refits": 0}, "refits of DFR is 0"),
        ({"penalty": "l0"}, "penalty is 'l0'"),
    ],
)
def test_refused_settings(changed, message):
    settings = SimpleNamespace(**{**vars(SETTINGS), **changed})
    with pytest.raises(ValueError, match=message):
        dfr.fit(settings, POINTS, CLASSES, np.arange(4), 2, seed=0)


def test_refused_data():
    with pytest.raises(ValueError, match="4 examples, 3 labels and 4 groups"):
        dfr.fit(SETTINGS, POINTS, CLASSES[:3], np.arange(4), 2, seed=0)
    with pytest.raises(ValueError, match="not all finite"):
        dfr.fit(SETTINGS, np.where(POINTS == 7, np.nan, POINTS), CLASSES, np.arange(4), 2, seed=0)
