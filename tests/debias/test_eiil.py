"""Environment inference against finite differences of the risk's definition in NumPy."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from ddb_jax.debias import eiil

SETTINGS = SimpleNamespace(num_steps=10_000, learning_rate=0.001)


def risk(scale, assignment, logits, labels):
    """Mean over all examples of assignment * CE(scale * logits)."""
    z = scale * logits
    ce = np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(labels)), labels]
    return np.mean(assignment * ce)


def penalty_by_differences(assignment, logits, labels, h=1e-4):
    slopes = [
        (risk(1 + h, q, logits, labels) - risk(1 - h, q, logits, labels)) / (2 * h)
        for q in (assignment, 1 - assignment)
    ]
    return np.mean(np.square(slopes))


def test_penalty_and_its_gradient():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 2, (7, 3)), rng.integers(0, 3, 7)
    assignment = rng.random(7)
    gradient = eiil.scale_gradient(logits, labels)
    value, slope = jax.value_and_grad(eiil.environment_penalty)(assignment, gradient)
    np.testing.assert_allclose(value, penalty_by_differences(assignment, logits, labels), rtol=1e-4)
    by_differences = [
        (
            penalty_by_differences(assignment + step, logits, labels)
            - penalty_by_differences(assignment - step, logits, labels)
        )
        / 2e-3
        for step in 1e-3 * np.eye(7)
    ]
    np.testing.assert_allclose(slope, by_differences, atol=1e-5)


def biased_set(size, scale, seed=0):
    """Three classes; logits that follow the bias alone, which half of the labels do not."""
    rng = np.random.default_rng(seed)
    bias = rng.integers(0, 3, size)
    conflicting = np.arange(size) % 2 == 1
    labels = np.where(conflicting, (bias + rng.integers(1, 3, size)) % 3, bias)
    logits = scale * (2 * np.eye(3)[bias] + rng.normal(0, 0.2, (size, 3)))
    return logits, labels, conflicting


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_separates_what_conflicts_with_the_bias(scale):
    """Whatever the start, and with gradients that would be lost beside Adam's epsilon."""
    logits, labels, conflicting = biased_set(400, scale)
    for seed in range(3):
        assignment = eiil.infer_environments(SETTINGS, logits, labels, seed)
        assert assignment.dtype == np.float32
        assert (0 <= assignment).all() and (assignment <= 1).all()
        np.testing.assert_array_equal(assignment > 0.5, conflicting)


def test_few_steps_end_above_the_start():
    """Above 0.5 is the environment of the higher loss, however little it has moved."""
    logits, labels, _ = biased_set(50, 1.0)
    few = SimpleNamespace(num_steps=3, learning_rate=0.001)
    ce = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(50), labels]
    sides = set()
    for seed in range(6):
        start = np.asarray(jax.random.normal(jax.random.key(seed), (50,)))
        assignment = eiil.infer_environments(few, logits, labels, seed)
        above = assignment > 0.5
        assert ce[above].mean() > ce[~above].mean()
        turned = not np.array_equal(above, start > 0)
        sides.add(turned)
        np.testing.assert_allclose(
            assignment, 1 / (1 + np.exp(start if turned else -start)), atol=2e-3
        )
    assert sides == {False, True}


def test_nothing_to_separate():
    """All examples lose by a larger scale, or nothing depends on it."""
    labels = np.arange(30) % 3
    wrong = 2 * np.eye(3)[(labels + 1) % 3]
    assert not (eiil.infer_environments(SETTINGS, wrong, labels, 0) > 0.5).any()
    constant = eiil.infer_environments(SETTINGS, np.zeros((30, 3)), labels, 0)
    np.testing.assert_array_equal(constant, 0.5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"num_steps": 0}, "num_steps of EIIL is 0"), ({"learning_rate": 0.0}, "learning_rate of")],
)
def test_refused(changed, message):
    logits, labels, _ = biased_set(4, 1.0)
    settings = SimpleNamespace(**{**vars(SETTINGS), **changed})
    with pytest.raises(ValueError, match=message):
        eiil.infer_environments(settings, logits, labels, 0)
    with pytest.raises(ValueError, match="3 labels"):
        eiil.infer_environments(SETTINGS, logits, labels[:3], 0)
    with pytest.raises(ValueError, match="not all finite"):
        eiil.infer_environments(SETTINGS, logits * np.nan, labels, 0)
