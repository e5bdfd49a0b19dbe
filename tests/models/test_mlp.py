"""The perceptron against NumPy, and its initial weights against PyTorch's bounds."""

import jax
import numpy as np

from ddb_jax.models.mlp import Mlp


def initial(model, x):
    return jax.jit(lambda key: model.init(key, x, train=False))(jax.random.key(0))


def test_equals_numpy():
    x = np.random.default_rng(0).normal(size=(4, 3, 5, 3)).astype(np.float32)
    model = Mlp(2, width=7)
    variables = initial(model, x)
    logits, features = jax.jit(lambda v: model.apply(v, x, train=True))(variables)

    layers = jax.tree.map(lambda p: np.asarray(p, np.float64), variables["params"])
    h = x.reshape(4, 45)
    for name in ("hidden_0", "hidden_1", "hidden_2"):
        h = np.maximum(h @ layers[name]["kernel"] + layers[name]["bias"], 0)
    np.testing.assert_allclose(features, h, atol=1e-5)
    np.testing.assert_allclose(
        logits, h @ layers["head"]["kernel"] + layers["head"]["bias"], atol=1e-5
    )
    assert set(variables) == {"params"}
    assert set(layers) == {"hidden_0", "hidden_1", "hidden_2", "head"}


def test_size_of_learning_from_failure():
    # 2352 -> 100 -> 100 -> 100 -> 10 with biases.
    x = np.zeros((1, 28, 28, 3))
    variables = jax.eval_shape(lambda: Mlp(10).init(jax.random.key(0), x, train=False))
    count = 2352 * 100 + 100 + 2 * (100 * 100 + 100) + 100 * 10 + 10
    assert sum(p.size for p in jax.tree.leaves(variables)) == count


def test_initial_weights_and_biases_are_pytorchs():
    # nn.Linear draws both uniformly from +-1/sqrt(fan_in): of 48 inputs, +-0.14434.
    layer = initial(Mlp(3, width=300), np.zeros((1, 4, 4, 3)))["params"]["hidden_0"]
    for values in (layer["kernel"], layer["bias"]):
        assert 0.14 < np.abs(values).max() <= 0.14434
        np.testing.assert_allclose(values.std(), 0.14434 / 3**0.5, rtol=0.1)
        assert abs(values.mean()) < 0.02
