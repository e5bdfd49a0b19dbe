"""GroupDRO, LfF and JTT: ten real training steps of a linear model, and again in plain NumPy.

The steps are the training stage's own, on batches of its own input pipeline. The NumPy versions
know only the images, the labels, and which positions each batch holds.
"""

import flax.linen as nn
import jax
import numpy as np
import pytest
from ddb_jax.configs.base import classifier_section
from ml_collections import ConfigDict

from ddb_jax.data.input_pipeline import train_batches
from ddb_jax.data.source import ArraySource
from ddb_jax.debias import group_dro, jtt, lff
from ddb_jax.debias.contract import TrainingSet
from ddb_jax.stages.common.classifier_step import make_train_step
from ddb_jax.training import train_state

NUM_EXAMPLES, NUM_CLASSES, SIDE = 24, 3, 2
BATCH_SIZE, NUM_STEPS, LEARNING_RATE = 12, 10, 0.5

_rng = np.random.default_rng(0)
LABELS = np.arange(NUM_EXAMPLES) % NUM_CLASSES
IMAGES = _rng.integers(0, 256, (NUM_EXAMPLES, SIDE, SIDE, 3), np.uint8)
IMAGES[range(NUM_EXAMPLES), 0, 0, LABELS] |= 128  # something to be learned
GROUPS = np.array([0] * 15 + [1] * 6 + [2] * 3)
FLAGGED = np.isin(np.arange(NUM_EXAMPLES), [3, 4, 10, 23])


class Linear(nn.Module):
    """Logits x W + b of the flattened image, which is the features too."""

    @nn.compact
    def __call__(self, x, *, train):
        del train
        features = x.reshape(len(x), -1)
        return nn.Dense(NUM_CLASSES, name="head")(features), features


def settings():
    c = classifier_section()
    c.optimizer, c.momentum, c.weight_decay = "sgd", 0.0, 0.0
    c.learning_rate, c.num_steps = LEARNING_RATE, NUM_STEPS
    c.normalization, c.flip = "unit", False
    return c


def first_weights(seed):
    rng = np.random.default_rng(seed)
    shape = (3 * SIDE * SIDE, NUM_CLASSES)
    return {"kernel": rng.normal(0, 0.5, shape), "bias": rng.normal(0, 0.5, NUM_CLASSES)}


def train(method, first, **options):
    """The weights of every network and the method's state after ten steps; the batches' indices.

    Args:
        first: Weights by network; one, called "main", for a Method with a single network.
        options: Of `train_batches`.
    """
    source = ArraySource(IMAGES, LABELS, np.full(NUM_EXAMPLES, -1))
    batches = train_batches(
        source, batch_size=BATCH_SIZE, seed=5, start_step=0, num_steps=NUM_STEPS, **options
    )
    optimizer, step = make_train_step(
        settings(),
        {name: Linear() for name in first},
        SIDE,
        method=method,
    )
    params = {name: {"head": jax.tree.map(np.float32, head)} for name, head in first.items()}
    if len(first) == 1:
        params = params["main"]
    state = train_state.create({"params": params}, optimizer, method_state=method.init_state())
    compiled, indices = jax.jit(step), []
    for batch in batches:
        indices.append(batch["index"])
        state, _ = compiled(state, batch, jax.random.key(0))
    params = {"main": state.params} if len(first) == 1 else state.params
    found = {name: jax.device_get(network["head"]) for name, network in params.items()}
    return found, jax.device_get(state.method_state), indices


# The same in NumPy, in float64.


def probabilities(weights, index):
    logits = IMAGES[index].reshape(len(index), -1) / 255 @ weights["kernel"] + weights["bias"]
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def descend(weights, index, factor):
    """One step down the sum of factor * cross-entropy, whose gradient in the logits is p - y."""
    slope = factor[:, None] * (probabilities(weights, index) - np.eye(NUM_CLASSES)[LABELS[index]])
    pixels = IMAGES[index].reshape(len(index), -1) / 255
    return {
        "kernel": weights["kernel"] - LEARNING_RATE * pixels.T @ slope,
        "bias": weights["bias"] - LEARNING_RATE * slope.sum(axis=0),
    }


def of_label(weights, index):
    return probabilities(weights, index)[range(len(index)), LABELS[index]]


def assert_close(found, expected):
    for name in ("kernel", "bias"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)


@pytest.mark.parametrize("adjustment", [0.0, 2.0])
def test_group_dro(adjustment):
    sizes = np.array([15, 6, 3])
    options = ConfigDict({"step_size": 0.5, "adjustment": adjustment, "sampling": "group_balanced"})
    method = group_dro.make(options, TrainingSet(LABELS, NUM_CLASSES, group_sizes=sizes))
    found, state, indices = train(
        method, {"main": first_weights(1)}, columns={"group": GROUPS}, groups=GROUPS
    )

    weights, q = first_weights(1), np.full(3, 1 / 3)
    for index in indices:
        groups = GROUPS[index]
        assert np.bincount(groups).tolist() == [4, 4, 4]
        losses = -np.log(of_label(weights, index))
        for g in range(3):
            mean = losses[groups == g].mean()
            q[g] *= np.exp(0.5 * (mean + adjustment / np.sqrt(sizes[g])))
        q /= q.sum()
        weights = descend(weights, index, q[groups] / 4)
    assert_close(found["main"], weights)
    np.testing.assert_allclose(np.exp(state["log_q"]), q, rtol=1e-5)
    assert np.ptp(q) > 0.1, "the group weights must have moved for this to say something"


@pytest.mark.parametrize("scaled", [False, True])
def test_learning_from_failure(scaled):
    power, alpha = 0.7, 0.6
    options = ConfigDict({"gce_q": power, "gce_scaled": scaled, "ema": alpha})
    method = lff.make(options, TrainingSet(LABELS, NUM_CLASSES))
    first = {"main": first_weights(2), "biased": first_weights(3)}
    found, state, indices = train(method, first)

    weights, biased = first_weights(2), first_weights(3)
    memory, biased_memory = {}, {}
    for index in indices:
        assert len(set(index)) == BATCH_SIZE
        p, p_biased = of_label(weights, index), of_label(biased, index)
        for values, kept in ((p, memory), (p_biased, biased_memory)):
            for i, loss in zip(index, -np.log(values), strict=True):
                kept[i] = alpha * kept[i] + (1 - alpha) * loss if i in kept else loss
        weight = []
        for i in index:
            own, of_biased = (
                kept[i] / max(kept[j] for j in kept if LABELS[j] == LABELS[i])
                for kept in (memory, biased_memory)
            )
            weight.append(of_biased / (of_biased + own))
        weights = descend(weights, index, np.array(weight) / BATCH_SIZE)
        # (1 - p^q) / q has p^q times the slope of cross-entropy, and LfF's own form q times that.
        slope = p_biased**power * (power if scaled else 1)
        biased = descend(biased, index, slope / BATCH_SIZE)
    assert_close(found["main"], weights)
    assert_close(found["biased"], biased)
    for name, kept in (("memory", memory), ("biased_memory", biased_memory)):
        assert len(kept) == NUM_EXAMPLES
        expected = [kept[i] for i in range(NUM_EXAMPLES)]
        np.testing.assert_allclose(state[name], expected, atol=1e-5)


def test_just_train_twice():
    """Five batches are an epoch of 20 + 4 * 10 images: the flagged ones stand in it ten times."""
    training_set = TrainingSet(LABELS, NUM_CLASSES, flagged=FLAGGED)
    method = jtt.make(ConfigDict({"upweight": 10}), training_set)
    found, state, indices = train(method, {"main": first_weights(4)}, repeats=method.repeats)

    written_out = sorted([*range(NUM_EXAMPLES), *(9 * [3, 4, 10, 23])])
    assert sorted(np.concatenate(indices[:5])) == written_out
    assert sorted(np.concatenate(indices[5:])) == written_out
    weights = first_weights(4)
    for index in indices:
        weights = descend(weights, index, np.full(BATCH_SIZE, 1 / BATCH_SIZE))
    assert_close(found["main"], weights)
    assert state == {}
