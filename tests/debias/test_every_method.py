"""The contract that every method of the table keeps, whatever it computes.

That hidden bias labels change no unsupervised method is tested over the table in test_methods.py,
in whole runs, since the stages decide what a method is shown.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddb_jax.configs import base
from ddb_jax.debias.contract import (
    SAMPLINGS,
    FrozenFeatures,
    JointMethod,
    LastLayer,
    TrainingSet,
)
from ddb_jax.debias.losses import cross_entropy
from ddb_jax.debias.table import METHODS
from ddb_jax.stages.common.networks import build_network, init_variables

NUM_EXAMPLES, NUM_CLASSES, SIDE = 12, 3, 4
INDEX = np.array([0, 7, 2, 5, 10, 3, 1, 8])  # of a batch
_rng = np.random.default_rng(0)
LABELS = np.arange(NUM_EXAMPLES) % NUM_CLASSES
BIAS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 1, 2, 0])
GROUPS = np.int32(LABELS != BIAS)
EVERYTHING = TrainingSet(
    labels=LABELS,
    num_classes=NUM_CLASSES,
    group_sizes=np.bincount(GROUPS),
    amplifier_loss=np.float32(_rng.uniform(0.0, 3.0, NUM_EXAMPLES)),
    bias=BIAS,
    flagged=np.isin(np.arange(NUM_EXAMPLES), [2, 5, 9]),
    bias_features=np.float32(_rng.normal(size=(NUM_EXAMPLES, 5))),
)
# Every column that a method may ask for, of all examples.
COLUMNS = {
    "group": GROUPS,
    "amplifier_loss": EVERYTHING.amplifier_loss,
    "given_bias": np.int32(BIAS),
    "flagged": EVERYTHING.flagged,
    "bias_features": EVERYTHING.bias_features,
}
OF_LAST_LAYERS = [name for name, entry in METHODS.items() if entry.stage == "train_last_layer"]
IN_TRAINING = [name for name in METHODS if name not in OF_LAST_LAYERS]


def make(name):
    entry, config = METHODS[name], base.get_config()
    config.afr.num_steps, config.dfr.refits, config.dfr.c_grid = 5, 2, (1.0,)
    return entry.make(config[entry.settings] if entry.settings else None, EVERYTHING)


def batch_of(method):
    """What the contract says that a batch carries: only the columns that the method names."""
    images = np.float32(_rng.uniform(-1.0, 1.0, (2, len(INDEX), SIDE, SIDE, 3)))
    batch = {"label": np.int32(LABELS[INDEX]), "index": np.int32(INDEX), "x": images[0]}
    if isinstance(method, JointMethod) and method.views == 2:
        batch["second_x"] = images[1]
    return batch | {name: COLUMNS[name][INDEX] for name in method.columns}


def total_loss(method):
    """(params, method_state, batch, key) -> (loss, (new state, metrics)), and first params."""
    settings = base.get_config().classifier
    settings.network, settings.width = "mlp", 4
    kinds = (
        {name: spec.kind for name, spec in method.networks.items()}
        if isinstance(method, JointMethod)
        else {"main": "classifier"}
    )
    models = {
        name: build_network(kind, settings, NUM_CLASSES, SIDE) for name, kind in kinds.items()
    }
    first = {
        name: jax.tree.map(
            lambda v: np.float32(_rng.normal(0.2, 0.3, v.shape)),
            jax.eval_shape(lambda m=model: init_variables(m, jax.random.key(0), SIDE)),
        )
        for name, model in models.items()
    }

    def loss(params, method_state, batch, key):
        def network(name, *inputs, method=None):
            variables = {**first[name], "params": params[name]}
            return models[name].apply(
                variables, *inputs, train=True, method=method, mutable=["batch_stats"]
            )[0]

        if isinstance(method, JointMethod):
            value, *rest = method.loss(network, method_state, batch, key)
            return value, tuple(rest)
        logits, _ = network("main", batch["x"])
        if method.adjust_logits:
            logits = method.adjust_logits(logits, batch)
        losses = (method.per_example_loss or cross_entropy)(logits, batch["label"])
        value, *rest = method.loss(losses, method_state, batch)
        return value, tuple(rest)

    return loss, {name: variables["params"] for name, variables in first.items()}


@pytest.mark.parametrize("name", IN_TRAINING)
def test_a_method_in_training(name):
    """Two jitted steps: a finite loss and gradients, some of them not zero, in every network.

    No number changes its type unasked, as in equinox' own tests.
    """
    method = make(name)
    assert method.sampling in SAMPLINGS and set(method.columns) <= set(COLUMNS)
    loss, params = total_loss(method)
    fast = {"xla_backend_optimization_level": 0}  # it runs twice
    step = jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=fast)
    batch, first = batch_of(method), method.init_state()
    state = first
    for i in range(2):
        with jax.numpy_dtype_promotion("strict"):
            (value, (state, metrics)), gradients = step(params, state, batch, jax.random.key(i))
        assert value.shape == () and np.isfinite(value)
        for network, of_network in gradients.items():
            leaves = jax.tree.leaves(of_network)
            assert all(np.isfinite(leaf).all() for leaf in leaves), network
            assert any(np.any(leaf != 0) for leaf in leaves), network
        assert jax.tree.structure(state) == jax.tree.structure(first)
        assert {k: (v.shape, v.dtype) for k, v in state.items()} == {
            k: (jnp.shape(v), jnp.result_type(v)) for k, v in first.items()
        }
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
        assert all(jnp.shape(v) == () and np.isfinite(v) for v in metrics.values())
        assert isinstance(method, JointMethod) <= ("train_accuracy" in metrics)
    if method.suspicion is not None:
        found = method.suspicion(state)
        assert found.shape == (NUM_EXAMPLES,) and np.all((found >= 0) & (found <= 1))
    repeats = getattr(method, "repeats", None)
    if repeats is not None:
        assert repeats.shape == (NUM_EXAMPLES,) and repeats.dtype == np.int32 and repeats.min() >= 1


@pytest.mark.parametrize("name", OF_LAST_LAYERS)
def test_a_last_layer(name):
    """Fitted to the features given: finite weights of their shapes, the same for the same seed."""
    method = make(name)
    assert isinstance(method, LastLayer) and 0.0 <= method.held_out_share < 1.0
    rng = np.random.default_rng(1)
    features = FrozenFeatures(
        features=np.float32(rng.normal(size=(NUM_EXAMPLES, 6))),
        labels=LABELS,
        groups=GROUPS,
        label_probability=np.float32(rng.uniform(0.1, 0.9, NUM_EXAMPLES)),
        kernel=np.float32(rng.normal(size=(6, NUM_CLASSES))),
        bias=np.zeros(NUM_CLASSES, np.float32),
    )
    before = jax.tree.map(np.copy, features)
    kernel, bias, record = method.fit(features, 0)
    assert kernel.shape == (6, NUM_CLASSES) and bias.shape == (NUM_CLASSES,)
    assert kernel.dtype == bias.dtype == np.float32
    assert np.isfinite(kernel).all() and np.isfinite(bias).all() and isinstance(record, dict)
    again = method.fit(features, 0)
    np.testing.assert_array_equal(kernel, again[0])
    np.testing.assert_array_equal(bias, again[1])
    jax.tree.map(np.testing.assert_array_equal, before, features)
