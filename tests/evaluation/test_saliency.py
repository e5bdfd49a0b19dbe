"""Grad-CAM against gradients, and the feature maps that the networks keep for it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddb_jax.evaluation.saliency import grad_cam
from ddb_jax.models.densenet import DenseNet
from ddb_jax.models.resnet import ResNet


def test_it_is_grad_cam_by_gradients():
    rng = np.random.default_rng(0)
    feature_map = rng.normal(size=(3, 4, 5, 6)).astype(np.float32)
    kernel, bias = rng.normal(size=(6, 7)).astype(np.float32), rng.normal(size=7)
    classes = np.array([2, 0, 6])

    def logit(one, c):
        return (one.mean((0, 1)) @ kernel + bias)[c]

    gradients = jax.vmap(jax.grad(logit))(feature_map, classes)
    for i, found in enumerate(grad_cam(feature_map, kernel, classes)):
        alpha = np.asarray(gradients[i]).mean((0, 1))  # equation 1
        expected = np.maximum(sum(a * feature_map[i, :, :, k] for k, a in enumerate(alpha)), 0)
        np.testing.assert_allclose(found, expected / expected.max(), rtol=1e-4, atol=1e-6)
        assert found.max() == 1.0 and found.min() == 0.0


def test_nothing_speaks_for_the_class():
    feature_map = np.ones((1, 2, 2, 3), np.float32)
    assert not grad_cam(feature_map, np.full((3, 1), -1.0), np.array([0])).any()


@pytest.mark.parametrize(
    "model",
    [ResNet((1, 1), 3, width=4, stem="cifar"), DenseNet((1, 1), 3, width=8, stem="cifar")],
    ids=["resnet", "densenet"],
)
def test_networks_keep_the_map_before_pooling_and_are_the_same_otherwise(model):
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    variables = jax.jit(lambda: model.init(jax.random.key(1), x, train=False))()
    assert set(variables) == {"params", "batch_stats"}
    plain = jax.jit(lambda v: model.apply(v, x, train=False))(variables)
    with_map, state = jax.jit(lambda v: model.apply(v, x, train=False, mutable=["intermediates"]))(
        variables
    )
    np.testing.assert_array_equal(plain[0], with_map[0])
    (feature_map,) = state["intermediates"]["feature_map"]
    assert feature_map.shape[:3] == (2, 4, 4)
    np.testing.assert_allclose(jnp.mean(feature_map, (1, 2)), plain[1], rtol=1e-5, atol=1e-6)
    head = variables["params"]["head"]
    np.testing.assert_allclose(
        np.einsum("bhwf,fk->bk", feature_map, head["kernel"]) / 16 + head["bias"],
        plain[0], rtol=1e-4, atol=1e-5,
    )  # fmt: skip
