"""Just Train Twice repeats what it flags; GCE takes the place of cross-entropy."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from ddb_jax.data.input_pipeline import train_batches
from ddb_jax.data.source import ArraySource
from ddb_jax.debias import gce, jtt
from ddb_jax.debias.contract import TrainingSet

LABELS = np.array([0, 0, 1, 1, 1])
FLAGGED = np.array([False, True, False, False, True])


def indices(repeats, groups=None, batch_size=11, num_steps=2):
    source = ArraySource(np.zeros((5, 1, 1, 3), np.uint8), LABELS, LABELS * 0 - 1)
    batches = train_batches(
        source, batch_size=batch_size, seed=0, start_step=0, num_steps=num_steps,
        repeats=repeats, groups=groups,
    )  # fmt: skip
    return [batch["index"].tolist() for batch in batches]


def test_flagged_examples_stand_so_often_in_an_epoch():
    training_set = TrainingSet(LABELS, 2, flagged=FLAGGED)
    method = jtt.make(SimpleNamespace(upweight=4), training_set)
    # An epoch is 3 + 2 * 4 examples, here one batch.
    for epoch in indices(method.repeats):
        assert np.bincount(epoch).tolist() == [1, 4, 1, 1, 4]
    first, second = indices(method.repeats)
    assert first != second, "every epoch is shuffled anew"
    losses = jnp.array([1.0, 3.0])
    assert float(method.loss(losses, {}, {})[0]) == 2.0


def test_repeats_within_groups():
    # Group 1 alone holds example 1, thrice: it takes every other place.
    epoch = indices(np.array([1, 3, 1, 1, 1]), np.array([0, 1, 0, 0, 0]), 8, 1)[0]
    assert np.bincount(epoch).tolist() == [1, 4, 1, 1, 1]


@pytest.mark.parametrize("repeats", [np.ones(4, int), np.array([1, 1, 1, 1, 0])])
def test_bad_repeats(repeats):
    with pytest.raises(ValueError, match="repeats must be 5 numbers of at least 1"):
        indices(repeats)


def test_jtt_refuses():
    with pytest.raises(ValueError, match="misclassifies"):
        jtt.make(SimpleNamespace(upweight=4), TrainingSet(LABELS, 2))
    with pytest.raises(ValueError, match="upweight"):
        jtt.make(SimpleNamespace(upweight=0), TrainingSet(LABELS, 2, flagged=FLAGGED))


@pytest.mark.parametrize("scaled", [False, True])
def test_gce_is_the_loss_of_each_example(scaled):
    method = gce.make(SimpleNamespace(q=0.5, scaled=scaled), TrainingSet(LABELS, 2))
    # Probabilities 0.8 and 0.36 of the labels.
    logits = jnp.log(jnp.array([[0.8, 0.2], [0.64, 0.36]]))
    found = method.per_example_loss(logits, jnp.array([0, 1]))
    p = np.array([0.8, 0.36])
    expected = -0.5 * p**0.5 * np.log(p) if scaled else (1 - p**0.5) / 0.5
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="q of GCE"):
        gce.make(SimpleNamespace(q=2.0, scaled=False), TrainingSet(LABELS, 2))
