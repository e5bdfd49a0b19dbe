"""ReBias: HSIC against its definition over indices, and the min-max of the two networks."""

import functools
import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddb_jax.debias import rebias
from ddb_jax.debias.contract import TrainingSet

SETTINGS = SimpleNamespace(lambda_main=0.5, lambda_biased=2.0, bandwidth=1.5, biased_lr_scale=1.0)
LABELS = np.array([0, 1, 1, 0, 1])
TRAINING_SET = TrainingSet(LABELS, 2)


def by_definition(k, l):  # noqa: E741
    """Mean over the ordered quadruples of different examples, in float64."""
    k, l = np.float64(k), np.float64(l)  # noqa: E741
    terms = [
        k[i, j] * l[i, j] + k[i, j] * l[q, r] - 2 * k[i, j] * l[i, q]
        for i, j, q, r in itertools.permutations(range(len(k)), 4)
    ]
    return np.mean(terms)


def kernel_by_loops(x, sigma):
    return np.array([[np.exp(-np.sum((a - b) ** 2) / (2 * sigma**2)) for b in x] for a in x])


def drawn(seed, batch=5):
    """Logits and features of two networks."""
    rng = np.random.default_rng(seed)
    shapes = ((batch, 2), (batch, 3), (batch, 2), (batch, 4))
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def total(method, logits, features, biased_logits, biased_features, labels=LABELS):
    outputs = {"main": (logits, features), "biased": (biased_logits, biased_features)}
    batch = {"x": None, "label": jnp.asarray(labels), "index": jnp.arange(len(labels))}
    return method.loss(lambda name, x: outputs[name], {}, batch, None)


def mean_cross_entropy(logits, labels=LABELS):
    p = np.exp(np.float64(logits))
    return np.mean(-np.log(p[np.arange(len(labels)), labels] / p.sum(1)))


def test_hsic_is_the_mean_over_quadruples():
    rng = np.random.default_rng(0)
    hsic = jax.jit(rebias.hsic_unbiased)
    for _ in range(3):
        k, l = (a + a.T for a in rng.normal(size=(2, 5, 5)).astype(np.float32))  # noqa: E741
        np.testing.assert_allclose(hsic(k, l), by_definition(k, l), rtol=1e-4)
        np.testing.assert_allclose(hsic(k, l), hsic(l, k), rtol=1e-4)
    # Neither a constant nor the diagonal enters.
    np.testing.assert_allclose(hsic(k + 3, l + 7 * np.eye(5)), by_definition(k, l), rtol=1e-4)
    # Four examples in two pairs: tr, 1'K1 and 1'KL1 are 4 each, and (4 + 16 / 6 - 4) / 4 = 2 / 3.
    pairs = np.kron(np.eye(2), np.ones((2, 2))).astype(np.float32)
    np.testing.assert_allclose(hsic(pairs, pairs), 2 / 3, rtol=1e-6)


def test_hsic_is_unbiased_and_sees_dependence():
    """Its mean over many batches is 0 for independent draws, and for x = y the true value."""
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 2, size=(2, 4000, 6))
    same = lambda z: (z[:, :, None] == z[:, None, :]).astype(np.float32)  # noqa: E731
    hsic = jax.jit(jax.vmap(rebias.hsic_unbiased))
    independent, dependent = hsic(same(x), same(y)), hsic(same(x), same(x))
    assert abs(np.mean(independent)) < 4 * np.std(independent) / np.sqrt(4000)
    # E kl + E k E l - 2 E[E(k|x) E(l|y)] = 1/2 + 1/4 - 2/4 for a fair coin.
    assert abs(np.mean(dependent) - 0.25) < 4 * np.std(dependent) / np.sqrt(4000)


def test_large_batches_keep_their_digits():
    """Features far from the origin and close to each other, against Song's formula in float64."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(200, 8))
    y = x[:, :3] + rng.normal(size=(200, 3))
    value = jax.jit(
        lambda a, b: rebias.hsic_unbiased(*(rebias.rbf_kernel(z, 3.0) for z in (a, b)))
    )(np.float32(x + 1000), np.float32(y - 1000))
    k, l = (kernel_by_loops(z, 3.0) - np.eye(200) for z in (x, y))  # noqa: E741
    expected = np.trace(k @ l) + k.sum() * l.sum() / (199 * 198) - 2 * (k @ l).sum() / 198
    np.testing.assert_allclose(value, expected / (200 * 197), rtol=1e-3)


def test_kernel():
    x = drawn(3)[1]
    np.testing.assert_allclose(rebias.rbf_kernel(x, 0.7), kernel_by_loops(x, 0.7), rtol=1e-5)
    distances = np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))
    expected = kernel_by_loops(x, np.median(distances))
    np.testing.assert_allclose(rebias.rbf_kernel(x, 0.0), expected, rtol=1e-4)


@functools.partial(jax.jit, static_argnums=0)
def step(bandwidth, outputs):
    """((value, (state, metrics)), gradients by the four outputs)."""
    method = rebias.make(
        SimpleNamespace(**{**vars(SETTINGS), "bandwidth": bandwidth}), TRAINING_SET
    )

    def loss(outputs):
        value, *rest = total(method, *outputs)
        return value, rest

    return jax.value_and_grad(loss, has_aux=True)(outputs)


def test_loss():
    outputs = drawn(4)
    (value, (state, metrics)), _ = step(1.5, outputs)
    hsic = by_definition(kernel_by_loops(outputs[1], 1.5), kernel_by_loops(outputs[3], 1.5))
    expected = mean_cross_entropy(outputs[0]) + mean_cross_entropy(outputs[2]) + (0.5 - 2.0) * hsic
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["hsic"], hsic, rtol=1e-4)
    for name, logits in (("train_accuracy", outputs[0]), ("biased_accuracy", outputs[2])):
        np.testing.assert_allclose(metrics[name], np.mean(logits.argmax(1) == LABELS))
    method = rebias.make(SETTINGS, TRAINING_SET)
    assert state == {} and method.init_state() == {}
    assert method.networks["biased"].kind == "small_receptive_field"


def test_one_network_minimises_what_the_other_maximises():
    """The features' gradients are lambda_main and -lambda_biased times HSIC's, by differences."""
    outputs = drawn(5)
    _, grads = step(1.5, outputs)

    def hsic(x, y):
        return by_definition(kernel_by_loops(x, 1.5), kernel_by_loops(y, 1.5))

    features, biased_features = np.float64(outputs[1]), np.float64(outputs[3])
    for place in ((0, 0), (3, 2)):
        change = np.zeros((5, 4))
        change[place] = 1e-4
        up, down = (hsic(features + c[:, :3], biased_features) for c in (change, -change))
        np.testing.assert_allclose(grads[1][place], 0.5 * (up - down) / 2e-4, atol=1e-6)
        up, down = (hsic(features, biased_features + c) for c in (change, -change))
        np.testing.assert_allclose(grads[3][place], -2.0 * (up - down) / 2e-4, atol=1e-6)
        assert np.abs([grads[1][place], grads[3][place]]).min() > 1e-4
    for logits, grad in ((outputs[0], grads[0]), (outputs[2], grads[2])):
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        np.testing.assert_allclose(grad, (p - np.eye(2)[LABELS]) / 5, atol=1e-6)


@pytest.mark.parametrize("bandwidth", [1.5, 0.0])
@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_features_all_alike_or_far_apart_stay_finite(bandwidth, scale):
    results = step(bandwidth, [scale * o for o in drawn(6)])
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(results))


def test_small_batches_are_refused():
    method = rebias.make(SETTINGS, TRAINING_SET)
    with pytest.raises(ValueError, match="at least 4 examples, not 3"):
        jax.eval_shape(lambda *o: total(method, *o, labels=LABELS[:3]), *drawn(0, batch=3))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lambda_main", -1.0),
        ("lambda_biased", float("nan")),
        ("bandwidth", -0.1),
        ("biased_lr_scale", 0.0),
    ],
)
def test_refused(field, value):
    with pytest.raises(ValueError, match=f"{field} of ReBias is {value}"):
        rebias.make(SimpleNamespace(**{**vars(SETTINGS), field: value}), TRAINING_SET)
