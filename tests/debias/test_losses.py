"""Cross-entropy and generalised cross-entropy against hand-worked values and limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddb_jax.debias.losses import check_gce, cross_entropy, generalized_cross_entropy

# Softmax of log-probabilities gives the probabilities back.
PROBS = np.array([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]])
LABELS = np.array([0, 1])
LOGITS = jnp.asarray(np.log(PROBS) + np.array([[3.0], [-5.0]]), jnp.float32)
P = np.array([0.7, 0.25])
# d CE / d logits = probabilities - one-hot label.
CE_GRADIENT = np.array([[-0.3, 0.2, 0.1], [0.25, -0.75, 0.5]])


def _gradient(loss, *args, **kwargs):
    return jax.grad(lambda logits: loss(logits, LABELS, *args, **kwargs).sum())(LOGITS)


def test_cross_entropy_is_minus_log_of_the_labels_probability():
    np.testing.assert_allclose(cross_entropy(LOGITS, LABELS), -np.log(P), rtol=1e-5)
    np.testing.assert_allclose(_gradient(cross_entropy), CE_GRADIENT, atol=1e-6)


def test_label_smoothing_spreads_the_target_over_all_classes():
    # Targets of (1 - 0.3) one-hot + 0.3 / 3: (0.8, 0.1, 0.1) and (0.1, 0.8, 0.1).
    targets = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]])
    expected = -np.sum(targets * np.log(PROBS), axis=1)
    np.testing.assert_allclose(cross_entropy(LOGITS, LABELS, 0.3), expected, rtol=1e-5)


def test_losses_are_float32_for_bfloat16_logits():
    logits = jnp.asarray([[2.0, 0.0]], jnp.bfloat16)
    expected = np.log1p(np.exp(-2.0))  # bfloat16 arithmetic would miss this by 1e-3
    loss = cross_entropy(logits, jnp.array([0]))
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, [expected], rtol=1e-5)


@pytest.mark.parametrize("q", [0.3, 0.7])
def test_generalized_cross_entropy_value_and_gradient(q):
    loss = generalized_cross_entropy(LOGITS, LABELS, q)
    np.testing.assert_allclose(loss, (1 - P**q) / q, rtol=1e-5)
    gradient = _gradient(generalized_cross_entropy, q)
    np.testing.assert_allclose(gradient, P[:, None] ** q * CE_GRADIENT, atol=1e-6)


def test_generalized_cross_entropy_limits():
    at_one = generalized_cross_entropy(LOGITS, LABELS, 1.0)
    np.testing.assert_allclose(at_one, 1 - P, rtol=1e-5)
    for q in (0.0, 1e-6):
        near_zero = generalized_cross_entropy(LOGITS, LABELS, q)
        np.testing.assert_allclose(near_zero, -np.log(P), rtol=1e-5)


def test_scaled_form_has_q_times_the_gradient_and_another_value():
    q = 0.7
    scaled = generalized_cross_entropy(LOGITS, LABELS, q, scaled=True)
    np.testing.assert_allclose(scaled, q * P**q * -np.log(P), rtol=1e-5)
    gradient = _gradient(generalized_cross_entropy, q, scaled=True)
    np.testing.assert_allclose(gradient, q * P[:, None] ** q * CE_GRADIENT, atol=1e-6)


@pytest.mark.parametrize("scaled", [False, True])
def test_a_hopeless_example_has_finite_loss_and_no_gradient(scaled):
    logits = jnp.array([[-1e4, 1e4]])

    def loss(x):
        return generalized_cross_entropy(x, jnp.array([0]), 0.7, scaled=scaled).sum()

    value, gradient = jax.value_and_grad(loss)(logits)
    np.testing.assert_allclose(value, 0.0 if scaled else 1 / 0.7, rtol=1e-6)
    np.testing.assert_array_equal(gradient, np.zeros((1, 2)))


@pytest.mark.parametrize(("q", "scaled"), [(-0.1, False), (1.5, False), (0.0, True)])
def test_bad_q_is_refused(q, scaled):
    with pytest.raises(ValueError, match="generalised cross-entropy"):
        generalized_cross_entropy(LOGITS, LABELS, q, scaled=scaled)


def test_the_settings_are_refused_in_the_words_of_their_owner():
    check_gce(0.0, False, owner="LfF")
    check_gce(1.0, True, owner="LfF")
    with pytest.raises(ValueError, match=r"^gce_q of LfF is 1\.1; it must lie in \[0, 1\]\.$"):
        check_gce(1.1, False, owner="LfF")
    with pytest.raises(ValueError, match=r"^q of GCE is 0\.0, with scaled a loss of 0 everywhere"):
        check_gce(0.0, True, owner="GCE", prefix="")
