"""The network of two encoders and two heads: its parameters, its codes, whose statistics move."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddb_jax.models.classifiers import make_classifier
from ddb_jax.models.disentangled import Disentangled

X = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32)


def make_encoder():
    return make_classifier("resnet8", 3, width=4, stem="cifar")


@pytest.fixture(scope="module")
def network():
    """The module, and variables of the shapes that init gives by `__call__` alone."""
    model = Disentangled(make_encoder, 3)
    created = jax.eval_shape(lambda: model.init(jax.random.key(0), X, train=False))
    rng = np.random.default_rng(2)
    # Positive, since variances are among them; drawn here, since to compile init takes seconds.
    return model, jax.tree.map(lambda p: rng.uniform(0.1, 0.5, p.shape).astype(p.dtype), created)


def shapes(tree):
    return jax.tree.map(jnp.shape, tree)


def test_parameters(network):
    """Each encoder's are a plain classifier's by name and shape; the heads read 2 x 16 channels."""
    _, variables = network
    plain = jax.eval_shape(lambda: make_encoder().init(jax.random.key(0), X, train=False))
    parts = {"main_encoder", "biased_encoder"}
    assert set(variables["params"]) == parts | {"main_head", "biased_head"}
    assert set(variables["batch_stats"]) == parts
    for name in parts:
        for collection in ("params", "batch_stats"):
            assert shapes(variables[collection][name]) == shapes(plain[collection])
    for name in ("main_head", "biased_head"):
        assert shapes(variables["params"][name]) == {"kernel": (32, 3), "bias": (3,)}
    assert {p.dtype for p in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


def test_initial_heads_are_pytorchs(network):
    """nn.Linear draws weights and biases uniformly from +-1/sqrt(fan_in), of 32 inputs +-0.1768."""
    code = np.zeros((1, 32), np.float32)
    params = network[0].init(jax.random.key(0), code, code, train=False, method="heads")["params"]
    for head in params.values():
        assert 0.16 < np.abs(head["kernel"]).max() <= 0.1768
        assert 0 < np.abs(head["bias"]).max() <= 0.1768
    assert not np.allclose(params["main_head"]["kernel"], params["biased_head"]["kernel"])


def test_call_is_main_head_on_both_codes_of_the_classifiers(network):
    model, variables = network

    @jax.jit
    def outputs(variables):
        """Of the network, and the features of two plain classifiers with its weights."""
        whole = model.apply(variables, X, train=False)
        parts = []
        for name in ("main_encoder", "biased_encoder"):
            own = {collection: tree[name] for collection, tree in variables.items()}
            parts.append(make_encoder().apply(own, X, train=False)[1])
        return whole, parts

    (logits, features), codes = outputs(variables)
    head = variables["params"]["main_head"]
    np.testing.assert_allclose(features, codes[0], rtol=1e-4)
    np.testing.assert_allclose(logits, np.hstack(codes) @ head["kernel"] + head["bias"], rtol=1e-4)
    assert not np.allclose(codes[0], codes[1], rtol=0.01)


def test_each_head_reads_its_own_code(network):
    model, variables = network
    for_main, for_biased = np.random.default_rng(1).normal(size=(2, 4, 32)).astype(np.float32)
    (main, biased), updates = model.apply(
        variables, for_main, for_biased, train=True, method="heads", mutable=["batch_stats"]
    )
    for logits, code, name in ((main, for_main, "main_head"), (biased, for_biased, "biased_head")):
        head = variables["params"][name]
        np.testing.assert_allclose(logits, code @ head["kernel"] + head["bias"], atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, updates["batch_stats"], variables["batch_stats"])


def test_statistics_of_both_encoders_move_in_training(network):
    """The first norm's mean becomes 0.9 x its old + 0.1 x the mean of the stem's output."""
    model, variables = network
    encode = jax.jit(
        lambda v: model.apply(v, X, train=True, method="encode", mutable=["batch_stats"])
    )
    (z_main, z_biased), updates = encode(variables)
    assert z_main.shape == z_biased.shape == (4, 16)
    assert shapes(updates["batch_stats"]) == shapes(variables["batch_stats"])
    padded = np.pad(X, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [[padded[:, i : i + 8, j : j + 8].mean((0, 1, 2)) for j in range(3)] for i in range(3)]
    for name in ("main_encoder", "biased_encoder"):
        kernel = variables["params"][name]["stem_conv"]["kernel"]
        now = np.einsum("ijc,ijco->o", np.array(taps), kernel)
        old = variables["batch_stats"][name]["stem_norm"]["mean"]
        moved = updates["batch_stats"][name]
        np.testing.assert_allclose(moved["stem_norm"]["mean"], 0.9 * old + 0.1 * now, rtol=1e-4)
        changed = jax.tree.map(np.not_equal, variables["batch_stats"][name], moved)
        assert all(np.all(leaf) for leaf in jax.tree.leaves(changed))
