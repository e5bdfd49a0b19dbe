"""DebiAN against NumPy loops over the classes of a batch."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddb_jax.debias import debian
from ddb_jax.debias.contract import TrainingSet

SETTINGS = SimpleNamespace(lambda_balance=0.5, discoverer_lr_scale=1.0)
LABELS = np.array([0, 1, 0, 2, 1, 0, 1, 0, 3, 0])
CLASSES = 8  # of which four have no example
TRAINING_SET = TrainingSet(LABELS, CLASSES)
METHOD = debian.make(SETTINGS, TRAINING_SET)
# Class 2 comes once in the batch, class 3 not at all.
INDEX = np.array([7, 4, 0, 3, 9, 1, 6, 2])


def drawn(seed=0):
    return np.random.default_rng(seed).normal(0, 1.5, size=(2, 8, CLASSES)).astype(np.float32)


def softmax(logits):
    e = np.exp(np.float64(logits))
    return e / e.sum(1, keepdims=True)


def by_hand(logits, group_logits, labels, balance=0.5):
    """Classifier's loss, discoverer's loss and the membership in the worse group."""
    p = softmax(logits)[np.arange(len(labels)), labels]
    s = 1 / (1 + np.exp(-np.float64(group_logits)))[np.arange(len(labels)), labels]
    worse, of_discoverer = s.copy(), 0.0
    for k in set(labels):
        own = labels == k
        if own.sum() < 2:
            continue
        plus = np.sum(s[own] * p[own]) / np.sum(s[own])
        minus = np.sum((1 - s[own]) * p[own]) / np.sum(1 - s[own])
        if plus > minus:
            worse[own] = 1 - s[own]
        of_discoverer -= np.log(1e-6 + abs(plus - minus))
        uneven = abs(np.mean(s[own]) - np.mean(1 - s[own]))
        of_discoverer -= balance * np.log(1e-6 + 1 - uneven)
    return np.mean((1 + worse) * -np.log(p)), of_discoverer, worse


@jax.jit
def total(logits, group_logits, labels, suspicion):
    """The loss, its gradients by both networks' logits, the new memory and the metrics."""

    def loss(logits, group_logits):
        outputs = {"main": (logits, None), "discoverer": (group_logits, None)}
        batch = {"x": None, "label": labels, "index": jnp.asarray(INDEX)}
        state = {"suspicion": suspicion}
        value, state, metrics = METHOD.loss(lambda name, x: outputs[name], state, batch, None)
        return value, (state, metrics)

    return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(logits, group_logits)


def step(logits, group_logits, labels=LABELS[INDEX], suspicion=None):
    suspicion = METHOD.init_state()["suspicion"] if suspicion is None else suspicion
    return total(logits, group_logits, jnp.asarray(labels), suspicion)


def test_losses_and_memory():
    for seed in range(3):
        logits, group_logits = drawn(seed)
        (value, (state, metrics)), _ = step(logits, group_logits)
        main, of_discoverer, worse = by_hand(logits, group_logits, LABELS[INDEX])
        np.testing.assert_allclose(value, main + of_discoverer, rtol=1e-5)
        np.testing.assert_allclose(metrics["discoverer_loss"], of_discoverer, rtol=1e-5)
        np.testing.assert_allclose(metrics["mean_weight"], 1 + worse.mean(), rtol=1e-5)
        correct = np.mean(logits.argmax(1) == LABELS[INDEX])
        np.testing.assert_allclose(metrics["train_accuracy"], correct)
        expected = np.full(10, 0.5)
        expected[INDEX] = worse
        expected[3] = 0.5  # alone of its class, without a group to compare with
        np.testing.assert_allclose(METHOD.suspicion(state), expected, atol=1e-6)


def test_memory_keeps_what_a_batch_does_not_tell():
    old = np.linspace(0, 1, 10, dtype=np.float32)
    (_, (state, _)), _ = step(*drawn(), suspicion=old)
    kept = np.asarray(state["suspicion"]) == old
    np.testing.assert_array_equal(np.flatnonzero(kept), [3, 5, 8])


def test_the_group_that_fares_worse_is_suspected():
    """Half of the examples fail; it is they, whichever side the discoverer puts them on."""
    fail = np.arange(8) % 2 == 1
    logits, group_logits = np.zeros((2, 8, CLASSES), np.float32)
    logits[:, 0] = np.where(fail, -3, 3)
    group_logits[:, 0] = np.where(fail, -4, 4)
    s = 1 / (1 + np.exp(-4.0))
    for sign in (1, -1):
        (_, (state, _)), _ = step(logits, sign * group_logits, labels=np.zeros(8, int))
        np.testing.assert_allclose(state["suspicion"][INDEX], np.where(fail, s, 1 - s), atol=1e-6)


def test_gradients_do_not_cross():
    """The classifier sees its weighted CE, the discoverer its own loss, by finite differences."""
    logits, group_logits = drawn(1)
    labels = LABELS[INDEX]
    _, (of_main, of_discoverer) = step(logits, group_logits)
    worse = by_hand(logits, group_logits, labels)[2]
    expected = (1 + worse)[:, None] * (softmax(logits) - np.eye(CLASSES)[labels]) / 8
    np.testing.assert_allclose(of_main, expected, atol=1e-6)
    differences = np.zeros((8, CLASSES))
    for place in np.ndindex(differences.shape):
        change = np.zeros_like(differences)
        change[place] = 1e-5
        up, down = (
            by_hand(logits, np.float64(group_logits) + c, labels)[1] for c in (change, -change)
        )
        differences[place] = (up - down) / 2e-5
    np.testing.assert_allclose(of_discoverer, differences, atol=2e-4)
    assert np.abs(differences).max() > 0.1
    assert np.all(of_discoverer[3] == 0)  # alone of its class


@pytest.mark.parametrize(
    ("labels", "scale"),
    [
        (np.zeros(8, int), 1.0),  # one class
        (np.arange(8), 1.0),  # no class twice
        (LABELS[INDEX], 0.0),  # two networks that know nothing: P+ = P-
        (LABELS[INDEX], 300.0),  # sigmoids and probabilities of exactly 0 and 1
    ],
)
def test_edges_stay_finite(labels, scale):
    logits, group_logits = drawn(2)
    results = step(scale * logits, scale * group_logits, labels)
    for leaf in jax.tree.leaves(results):
        assert np.all(np.isfinite(leaf))
    memory = results[0][1][0]["suspicion"]
    assert np.all((memory >= 0) & (memory <= 1))


def test_memberships_that_underflow_keep_their_ratio():
    """Memberships of about exp(-200) vanish in float32; one is three times the other."""
    group_logits = jnp.array([[-200.0, 0.0], [-200.0 + np.log(3.0), 0.0]])
    split = jax.jit(debian.split_classes, static_argnums=3)(
        group_logits, jnp.zeros(2, jnp.int32), jnp.array([0.2, 0.6]), 2
    )
    np.testing.assert_allclose(split.first[0], 0.25 * 0.2 + 0.75 * 0.6, rtol=1e-4)
    np.testing.assert_allclose(split.second[0], 0.4, rtol=1e-5)
    assert all(np.all(np.isfinite(field)) for field in split)  # the class without examples too


@pytest.mark.parametrize(
    ("field", "value"), [("lambda_balance", -1.0), ("discoverer_lr_scale", 0.0)]
)
def test_refused(field, value):
    with pytest.raises(ValueError, match=f"{field} of DebiAN is {value}"):
        debian.make(SimpleNamespace(**{**vars(SETTINGS), field: value}), TRAINING_SET)
