"""DisEnt against NumPy on a linear model: its losses, its permutation, and its gradients by hand.

The permutation is found, not foretold: among all of them exactly one must explain the loss.
"""

import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddb_jax.debias import disent
from ddb_jax.debias.contract import TrainingSet

SETTINGS = SimpleNamespace(
    gce_q=0.7,
    gce_scaled=False,
    ema=0.7,
    swap_after=2,
    lambda_dis=2.0,
    lambda_swap=0.5,
    lambda_swap_biased=3.0,
)
LABELS = np.array([0, 1, 1, 2, 0, 2])
FLAGGED = np.array([True, False, False, True, False, True])
AMPLIFIER_LOSS = np.array([0.1, 2.0, 0.4, 0.3, 1.5, 0.7], np.float32)
TRAINING_SET = TrainingSet(LABELS, 3, amplifier_loss=AMPLIFIER_LOSS, flagged=FLAGGED)
INDEX = np.array([4, 1, 3, 2])
PERMUTATIONS = [np.array(p) for p in itertools.permutations(range(4))]
MAKE = {
    "own": disent.make,
    "committee": disent.make_on_committee,
    "amplifier": disent.make_on_amplifier,
}

rng = np.random.default_rng(0)
X = rng.normal(size=(6, 5)).astype(np.float32)
# Encoders from 5 inputs to codes of 2, heads from both codes to 3 classes.
PARAMS = {
    name: rng.normal(size=shape).astype(np.float32)
    for name, shape in (
        ("main_encoder", (5, 2)),
        ("biased_encoder", (5, 2)),
        ("main_head", (4, 3)),
        ("biased_head", (4, 3)),
    )
}


def run(method, params, state, key, index=INDEX, columns=TRAINING_SET):
    """The method's loss with a linear network in the place of its own."""

    def network(name, *inputs, method):
        assert name == "main"
        if method == "encode":
            return inputs[0] @ params["main_encoder"], inputs[0] @ params["biased_encoder"]
        assert method == "heads"
        return inputs[0] @ params["main_head"], inputs[1] @ params["biased_head"]

    table = {name: getattr(columns, name) for name in method.columns}
    table |= {"x": X, "label": LABELS, "index": np.arange(6)}
    batch = {name: jnp.asarray(column)[index] for name, column in table.items()}
    return method.loss(network, state, batch, key)


def label_probability(logits, labels):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    return p, p[np.arange(len(labels)), labels]


def biased_losses(p, flagged, variant, q=0.7):
    """Value of the biased loss, and the factor of p - onehot in its gradient, per example."""
    if variant == "committee":
        share = ~flagged / max((~flagged).sum(), 1)
        return (share * -np.log(p)).sum(), share
    return ((1 - p**q) / q).mean(), p**q / len(p)


def weigh_by_hand(index, p_b, p_d, memories, variant):
    """LfF's weights; the memories are plain dictionaries and are updated."""
    of_biased = AMPLIFIER_LOSS[index] if variant == "amplifier" else -np.log(p_b)
    for memory, losses in zip(memories, (of_biased, -np.log(p_d)), strict=True):
        for i, value in zip(index, losses, strict=True):
            memory[i] = 0.7 * memory[i] + 0.3 * value if i in memory else value
    weights = []
    for i in index:
        l_b, l_d = (
            memory[i] / max(v for j, v in memory.items() if LABELS[j] == LABELS[i])
            for memory in memories
        )
        weights.append(l_b / (l_b + l_d))
    return np.array(weights)


def new_memories(variant):
    frozen = dict(enumerate(AMPLIFIER_LOSS)) if variant == "amplifier" else {}
    return frozen, {}


def by_hand(index, memories, variant, orders):
    """Weights, L_dis, and by permutation: L_swap and the gradient of every parameter with it.

    The gradients are the chain rule written out branch by branch: the main loss reaches main_head
    and main_encoder only, the biased one biased_head and biased_encoder only.
    """
    x, y, flagged = X[index].astype(np.float64), LABELS[index], FLAGGED[index]
    z_l, z_b = x @ PARAMS["main_encoder"], x @ PARAMS["biased_encoder"]
    onehot = np.eye(3)

    def main(order):
        z = np.hstack([z_l, z_b[order]])
        p, p_y = label_probability(z @ PARAMS["main_head"], y)
        return z, p, p_y

    def biased(order):
        z = np.hstack([z_l, z_b[order]])
        p, p_y = label_probability(z @ PARAMS["biased_head"], y[order])
        value, factor = biased_losses(p_y, flagged[order], variant)
        return z, p, p_y, value, factor

    same = np.arange(len(index))
    weights = weigh_by_hand(index, biased(same)[2], main(same)[2], memories, variant)

    def terms(order, factor_of_biased):
        z, p, p_y = main(order)
        gradients = {}
        g = weights[:, None] * (p - onehot[y]) / len(y)
        gradients["main_head"] = z.T @ g
        gradients["main_encoder"] = x.T @ (g @ PARAMS["main_head"][:2].T)
        value = (weights * -np.log(p_y)).mean()
        z, p, _, biased_value, factor = biased(order)
        g = factor_of_biased * factor[:, None] * (p - onehot[y[order]])
        gradients["biased_head"] = z.T @ g
        gradients["biased_encoder"] = x[order].T @ (g @ PARAMS["biased_head"][2:].T)
        return value + factor_of_biased * biased_value, gradients

    dis, of_dis = terms(same, 2.0)
    swaps = []
    for order in orders:
        swap, of_swap = terms(order, 3.0)
        swaps.append((swap, {name: of_dis[name] + 0.5 * of_swap[name] for name in PARAMS}))
    return weights, dis, of_dis, swaps


@pytest.mark.parametrize("variant", MAKE)
def test_steps_before_and_after_the_swap_begins(variant):
    """Losses, weights and gradients of four steps, of which the last two swap."""
    method = MAKE[variant](SETTINGS, TRAINING_SET)
    state, memories, found = method.init_state(), new_memories(variant), []
    assert state["step"].dtype == jnp.int32

    @jax.jit
    def step(params, state, key, index):
        def loss(params):
            value, new_state, metrics = run(method, params, state, key, index)
            return value, (new_state, metrics)

        return jax.value_and_grad(loss, has_aux=True)(params)

    for number, index in enumerate([INDEX, np.array([0, 1, 5, 4]), INDEX, INDEX]):
        key = jax.random.fold_in(jax.random.key(3), number)
        (value, (state, metrics)), gradients = step(PARAMS, state, key, index)
        weights, dis, of_dis, swaps = by_hand(index, memories, variant, PERMUTATIONS)
        np.testing.assert_allclose(metrics["mean_weight"], weights.mean(), rtol=1e-5)
        assert state["step"] == number + 1
        if number < 2:
            np.testing.assert_allclose(value, dis, rtol=1e-5)
            expected = of_dis
        else:
            values = [dis + 0.5 * swap for swap, _ in swaps]
            (order,) = np.flatnonzero(np.isclose(values, value, rtol=1e-5))
            found.append(order)
            expected = swaps[order][1]
        for name in PARAMS:
            np.testing.assert_allclose(gradients[name], expected[name], rtol=1e-4, atol=1e-5)
    # Permutation 0 is the identity, which would swap nothing.
    assert found[0] != found[1] and 0 not in found


def test_branches_do_not_reach_each_other():
    """Another loss of the biased branch leaves the main one's gradients as they are.

    LfF's form of GCE has q times the gradient; factors of 0 leave none.
    """

    def gradients(**changed):
        settings = SimpleNamespace(**{**vars(SETTINGS), "swap_after": 0, **changed})
        method = disent.make(settings, TRAINING_SET)
        loss = lambda p: run(method, p, method.init_state(), jax.random.key(0))[0]  # noqa: E731
        return jax.jit(jax.grad(loss))(PARAMS)

    plain = gradients()
    scaled = gradients(gce_scaled=True)
    without = gradients(lambda_dis=0.0, lambda_swap_biased=0.0)
    for part in ("encoder", "head"):
        main, biased = f"main_{part}", f"biased_{part}"
        assert min(np.abs(plain[main]).max(), np.abs(plain[biased]).max()) > 0.01
        np.testing.assert_allclose(scaled[main], plain[main], atol=1e-6)
        np.testing.assert_allclose(without[main], plain[main], atol=1e-6)
        np.testing.assert_allclose(scaled[biased], 0.7 * plain[biased], atol=1e-6)
        np.testing.assert_array_equal(without[biased], 0.0)


def test_no_example_for_the_biased_branch():
    """All are flagged: the biased branch stands still, the main one goes on, nothing is NaN."""
    everything = TrainingSet(LABELS, 3, flagged=np.ones(6, bool))
    settings = SimpleNamespace(**{**vars(SETTINGS), "swap_after": 0})
    method = disent.make_on_committee(settings, everything)
    loss = lambda p: run(  # noqa: E731
        method, p, method.init_state(), jax.random.key(0), columns=everything
    )[0]
    value, gradients = jax.jit(jax.value_and_grad(loss))(PARAMS)
    assert np.isfinite(value) and value > 0
    for part in ("encoder", "head"):
        np.testing.assert_array_equal(gradients[f"biased_{part}"], 0.0)
        assert np.isfinite(gradients[f"main_{part}"]).all()
        assert np.abs(gradients[f"main_{part}"]).max() > 0.01


def test_suspicion_is_the_weight_by_the_memories():
    """Frozen losses are known of all examples, own ones of the batch's; others get no opinion."""
    method = disent.make_on_amplifier(SETTINGS, TRAINING_SET)
    state = jax.jit(lambda: run(method, PARAMS, method.init_state(), jax.random.key(0))[1])()
    weights, *_ = by_hand(INDEX, new_memories("amplifier"), "amplifier", [])
    expected = np.zeros(6)
    expected[INDEX] = weights
    np.testing.assert_allclose(method.suspicion(state), expected, rtol=1e-5)


def test_what_a_method_asks_for():
    for variant, columns in (
        ("own", ()),
        ("committee", ("flagged",)),
        ("amplifier", ("amplifier_loss",)),
    ):
        method = MAKE[variant](SETTINGS, TRAINING_SET)
        assert (method.columns, method.sampling, method.views) == (columns, "uniform", 1)
        assert {name: spec.kind for name, spec in method.networks.items()} == {
            "main": "disentangled"
        }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ema", 1.0),
        ("gce_q", 1.5),
        ("swap_after", -1),
        ("lambda_dis", -0.1),
        ("lambda_swap", float("nan")),
        ("lambda_swap_biased", float("inf")),
    ],
)
@pytest.mark.parametrize("variant", MAKE)
def test_bad_settings_are_refused(variant, field, value):
    settings = SimpleNamespace(**{**vars(SETTINGS), field: value})
    with pytest.raises(ValueError, match=f"{field} of DisEnt is {value}"):
        MAKE[variant](settings, TRAINING_SET)


def test_what_is_missing_is_refused():
    with pytest.raises(ValueError, match="gce_scaled"):
        disent.make(
            SimpleNamespace(**{**vars(SETTINGS), "gce_q": 0.0, "gce_scaled": True}), TRAINING_SET
        )
    with pytest.raises(ValueError, match="committee"):
        disent.make_on_committee(SETTINGS, TrainingSet(LABELS, 3))
    with pytest.raises(ValueError, match="amplifier"):
        disent.make_on_amplifier(SETTINGS, TrainingSet(LABELS, 3))
