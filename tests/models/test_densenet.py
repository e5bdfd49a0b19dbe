"""DenseNets against torchvision's numbers: parameter counts, logits, running statistics."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from test_resnet import fill, images

from ddb_jax.models.classifiers import make_classifier
from ddb_jax.models.densenet import DenseNet
from ddb_jax.models.pretrained import torchvision_name

# torchvision 0.28.0, DenseNet(growth_rate=8, block_config=(2, 3), num_init_features=16,
# num_classes=4) with `fill` and `images((4, 63, 64, 3))`.
EVALUATION = [
    [-1.5532844, -1.0084102, 0.65394366, 0.5569709],
    [-1.5607655, -1.0139196, 0.6464936, 0.5650805],
    [-1.5490973, -1.0164019, 0.6159401, 0.5740961],
    [-1.6070106, -1.0573096, 0.6441165, 0.5563395],
]
FEATURE_SUMS = [59.698112, 60.07455, 60.570103, 61.67962]
TRAINING = [
    [-0.19054925, -0.27956957, 0.02298422, 0.3514602],
    [-0.20296538, -0.2821561, -0.03390108, 0.2617186],
    [-0.20264599, -0.26942360, -0.01511382, 0.24582855],
    [-0.23589224, -0.33762705, 0.02728645, 0.25546598],
]
RUNNING = {  # mean and variance, first three, after one pass in training
    "transition_0/norm": ([0.19200322, 0.24276286, 0.15274794], [1.0882372, 0.89330626, 0.8124074]),
    "final_norm": ([0.14663118, 0.15065996, -0.00948766], [0.8620387, 0.6143804, 0.7894415]),
}


def filled_variables(model, shape):
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros(shape), train=False))
    flat = {}
    for path, leaf in flatten_dict(shapes).items():
        axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[leaf.ndim]  # HWIO -> OIHW, IO -> OI
        value = fill(torchvision_name("densenet121", path), tuple(leaf.shape[a] for a in axes))
        flat[path] = jnp.asarray(value.transpose(np.argsort(axes)), leaf.dtype)
    return unflatten_dict(flat)


def test_equals_torchvision():
    model = DenseNet((2, 3), 4, width=16)
    x = images((4, 63, 64, 3))
    variables = filled_variables(model, x.shape)

    logits, features = jax.jit(lambda v: model.apply(v, x, train=False))(variables)
    np.testing.assert_allclose(logits, EVALUATION, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(features.sum(1), FEATURE_SUMS, rtol=1e-5)

    (logits, _), updates = jax.jit(
        lambda v: model.apply(v, x, train=True, mutable=["batch_stats"])
    )(variables)
    np.testing.assert_allclose(logits, TRAINING, atol=1e-5)
    stats = flatten_dict(updates["batch_stats"], sep="/")
    for name, (mean, var) in RUNNING.items():
        np.testing.assert_allclose(stats[f"{name}/mean"][:3], mean, atol=1e-5)
        np.testing.assert_allclose(stats[f"{name}/var"][:3], var, rtol=1e-5)


def test_parameter_count_of_torchvision():
    model = make_classifier("densenet121", 1000)
    variables = jax.eval_shape(
        lambda: model.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), train=False)
    )
    assert sum(math.prod(p.shape) for p in jax.tree.leaves(variables["params"])) == 7_978_856


def test_initial_weights_have_torchvisions_spread():
    model = DenseNet((1,), 50, width=64, stem="cifar")
    variables = jax.jit(lambda key: model.init(key, jnp.zeros((1, 4, 4, 3)), train=False))(
        jax.random.key(0)
    )
    params = variables["params"]
    # Kaiming's normal by fan-in: variance 2 / (channels in * taps).
    layer = params["block_0_layer_0"]
    for kernel, fan_in in ((layer["conv_1"]["kernel"], 64), (layer["conv_2"]["kernel"], 128 * 9)):
        np.testing.assert_allclose(kernel.var(), 2 / fan_in, rtol=0.06)
    # PyTorch's linear layer: uniform in +-1/sqrt(96), of variance a third of its square.
    head = params["head"]["kernel"]
    assert head.shape == (96, 50)
    assert 0.99 * 96**-0.5 < np.abs(head).max() <= 96**-0.5
    np.testing.assert_allclose(head.var(), 1 / 3 / 96, rtol=0.06)
    assert not params["head"]["bias"].any()


def test_cifar_stem_keeps_the_size_and_group_norm_has_no_statistics():
    model = DenseNet((1, 1), 3, width=16, stem="cifar", norm="group", dtype=jnp.bfloat16)
    x = jnp.zeros((2, 9, 8, 3))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), x, train=False))
    (logits, features), state = jax.eval_shape(
        lambda v: model.apply(v, x, train=True, capture_intermediates=True), variables
    )
    inner = {
        k: v["__call__"][0]
        for k, v in state["intermediates"].items()
        if k not in ("__call__", "feature_map", "stage_maps")
    }
    assert inner["block_0_layer_0"].shape == (2, 9, 8, 24)  # 16 of the stem and a growth of 8
    assert inner["transition_0"].shape == (2, 4, 4, 12)  # an odd row is dropped
    assert inner["block_1_layer_0"].dtype == jnp.bfloat16
    assert (logits.shape, logits.dtype) == ((2, 3), jnp.float32)
    assert (features.shape, features.dtype) == ((2, 20), jnp.float32)
    assert set(variables) == {"params"}
    assert {p.dtype for p in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


def test_bad_settings_are_named():
    for settings, side, message in (
        ({"stem": "vgg"}, 8, "stem is one of .* not 'vgg'"),
        ({"norm": "layer"}, 8, "norm is one of .* not 'layer'"),
        ({"width": 7}, 8, "even .* not 7"),
        ({}, 4, "a map of 1x1 pixels cannot be halved: the images are too small"),
    ):
        model = DenseNet((1, 1), 2, **settings)
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(
                lambda model=model, side=side: model.init(
                    jax.random.key(0), jnp.zeros((1, side, side, 3)), train=False
                )
            )
