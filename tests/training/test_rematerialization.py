"""Rematerialisation changes neither parameters nor results, and keeps less for the gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddb_jax.models.densenet import DenseNet
from ddb_jax.models.resnet import ResNet
from ddb_jax.models.unet import UNet
from ddb_jax.training.compilation import jit

X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 3)), jnp.float32)


def filled(model, *inputs):
    """Variables of the model's shapes, drawn as fast as NumPy draws."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), *inputs, train=False))
    return jax.tree.map(lambda v: np.float32(rng.uniform(0.1, 0.4, v.shape)), shapes)


def unet(remat):
    model = UNet(
        2, 8, (1,), 1, (8,), dropout=0.5, zero_init_output=False, downsample="conv",
        upsample="nearest", remat=remat,
    )  # fmt: skip
    t, y = jnp.array([1, 5]), jnp.array([0, 1])
    variables = filled(model, X, t, y)

    def outputs(params):
        rngs = {"dropout": jax.random.key(1)}
        return model.apply({"params": params}, X, t, y, train=True, rngs=rngs), {}

    return variables, outputs


def classifier(make):
    def built(remat):
        model = make(remat)
        variables = filled(model, X)

        def outputs(params):
            state = {"params": params, "batch_stats": variables["batch_stats"]}
            (logits, _), updates = model.apply(state, X, train=True, mutable=["batch_stats"])
            return logits, updates

        return variables, outputs

    return built


MODELS = {
    "unet": unet,
    "resnet": classifier(lambda remat: ResNet((1, 1), 3, 4, stem="cifar", remat=remat)),
    "bottleneck": classifier(
        lambda remat: ResNet((1, 1), 3, 4, "bottleneck", "cifar", remat=remat)
    ),
    "densenet": classifier(lambda remat: DenseNet((2, 1), 3, 8, stem="cifar", remat=remat)),
}


@pytest.mark.parametrize("name", MODELS)
def test_same_parameters_outputs_and_gradients_with_less_kept(name):
    found, kept = [], []
    for remat in (False, True):
        variables, outputs = MODELS[name](remat)

        def loss(params, outputs=outputs):
            values, updates = outputs(params)
            return jnp.sum(jnp.sin(values)), updates

        params = variables["params"]
        found.append((variables, jit(jax.value_and_grad(loss, has_aux=True))(params)))
        # What a pullback holds is what the forward pass keeps for the gradient.
        pullback = jax.eval_shape(lambda p, f=outputs: jax.vjp(lambda p: f(p)[0], p)[1], params)
        size = sum(x.size for x in jax.tree.leaves(params))
        kept.append(sum(x.size for x in jax.tree.leaves(pullback)) - size)
    assert jax.tree.structure(found[0]) == jax.tree.structure(found[1])
    for a, b in zip(jax.tree.leaves(found[0]), jax.tree.leaves(found[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 + 1e-3 * np.abs(a).max())
    assert kept[1] < 0.7 * kept[0]


def test_the_compiled_program_keeps_less():
    x = jax.ShapeDtypeStruct((1000, 100), jnp.float32)
    w = jax.ShapeDtypeStruct((100, 100), jnp.float32)

    def temporary(remat):
        def block(x, w):
            for _ in range(8):  # inner values as large as x
                x = jnp.sin(x @ w)
            return x

        block = jax.checkpoint(block) if remat else block

        def loss(x, w):
            for _ in range(12):
                x = block(x, w)
            return x.sum()

        return jit(jax.grad(loss)).lower(x, w).compile().memory_analysis().temp_size_in_bytes

    # Of the 96 inner values, those between the blocks and those within one of them.
    inner = 4 * 1000 * 100
    assert temporary(False) > 90 * inner
    assert temporary(True) < 40 * inner
