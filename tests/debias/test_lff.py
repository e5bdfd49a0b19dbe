"""Learning from Failure against a few lines of NumPy that follow its paper and code."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddb_jax.debias import lff
from ddb_jax.debias.contract import TrainingSet

SETTINGS = SimpleNamespace(gce_q=0.7, gce_scaled=False, ema=0.7)
LABELS = np.array([0, 0, 1, 1, 0])


def probabilities(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def by_hand(steps, q=0.7, alpha=0.7):
    """Weights and loss of each step; memories are plain dictionaries."""
    memories, results = ({}, {}), []
    for index, logits, biased_logits in steps:
        labels = LABELS[index]
        p_d, p_b = (
            probabilities(x)[np.arange(len(index)), labels] for x in (logits, biased_logits)
        )
        for memory, p in zip(memories, (p_b, p_d), strict=True):
            for i, value in zip(index, -np.log(p), strict=True):
                memory[i] = alpha * memory[i] + (1 - alpha) * value if i in memory else value
        weights = []
        for i in index:
            l_b, l_d = (
                memory[i] / max(v for j, v in memory.items() if LABELS[j] == LABELS[i])
                for memory in memories
            )
            weights.append(l_b / (l_b + l_d))
        loss = np.mean((1 - p_b**q) / q) + np.mean(np.array(weights) * -np.log(p_d))
        results.append((np.mean(weights), loss))
    return results


def steps(number=4):
    rng = np.random.default_rng(0)
    return [
        (rng.choice(5, 3, replace=False), *rng.normal(0, 2, (2, 3, 2)).astype(np.float32))
        for _ in range(number)
    ]


def joint(method):
    """The method's loss as a function of what its two networks say."""

    def loss(logits, biased_logits, state, batch):
        outputs = {"main": (logits, None), "biased": (biased_logits, None)}
        network = lambda name, x: outputs[name]  # noqa: E731
        return method.loss(network, state, {**batch, "x": None}, None)

    return loss


def test_losses_and_weights_over_steps():
    method = lff.make(SETTINGS, TrainingSet(LABELS, 2))
    state = method.init_state()
    for (index, logits, biased), (weight, loss) in zip(steps(), by_hand(steps()), strict=True):
        batch = {"index": jnp.asarray(index), "label": jnp.asarray(LABELS[index])}
        value, state, metrics = jax.jit(joint(method))(logits, biased, state, batch)
        np.testing.assert_allclose(metrics["mean_weight"], weight, rtol=1e-5)
        np.testing.assert_allclose(value, loss, rtol=1e-5)


def test_gradients_do_not_cross():
    """The biased network sees GCE alone, the debiased one its weighted CE, weights held fixed."""
    method = lff.make(SETTINGS, TrainingSet(LABELS, 2))
    index, logits, biased = steps(1)[0]
    batch = {"index": jnp.asarray(index), "label": jnp.asarray(LABELS[index])}
    loss = lambda d, b: joint(method)(d, b, method.init_state(), batch)[0]  # noqa: E731
    of_debiased, of_biased = jax.grad(loss, argnums=(0, 1))(logits, biased)
    onehot = np.eye(2)[LABELS[index]]
    p_d, p_b = probabilities(logits), probabilities(biased)
    p_label = (p_b * onehot).sum(1, keepdims=True)
    # (1 - p^q) / q has p^q times the gradient of cross-entropy, which is p - onehot.
    np.testing.assert_allclose(of_biased, p_label**0.7 * (p_b - onehot) / 3, atol=1e-6)
    l_b, l_d = (-np.log((p * onehot).sum(1)) for p in (p_b, p_d))
    for label in (0, 1):
        own = LABELS[index] == label
        if own.any():
            l_b[own], l_d[own] = l_b[own] / l_b[own].max(), l_d[own] / l_d[own].max()
    weight = l_b / (l_b + l_d)
    np.testing.assert_allclose(of_debiased, weight[:, None] * (p_d - onehot) / 3, atol=1e-6)


@pytest.mark.parametrize(("field", "value"), [("ema", 1.0), ("gce_q", 1.5)])
def test_refused(field, value):
    settings = SimpleNamespace(**{**vars(SETTINGS), field: value})
    with pytest.raises(ValueError, match=field):
        lff.make(settings, TrainingSet(LABELS, 2))
