"""ResNets against torchvision's numbers: parameter counts, logits, running statistics."""

import math
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ddb_jax.models.resnet import ResNet, make_resnet


def scattered(shape, start):
    """Numbers in [-1, 1) without a visible pattern, the same in every version of every library."""
    x = np.sin(12.9898 * (np.arange(math.prod(shape)) + start)) * 43758.5453
    return (2 * (x - np.floor(x)) - 1).reshape(shape)


def fill(torch_name, shape):
    """Values for a torchvision tensor, in PyTorch's layout, that depend on its name and shape."""
    values = scattered(shape, zlib.crc32(torch_name.encode()) % 1000)
    if len(shape) == 4:
        return values * math.sqrt(6 / (shape[1] * shape[2] * shape[3]))
    leaf = torch_name.split(".")[-1]
    if leaf == "running_var" or (leaf == "weight" and len(shape) == 1):
        return 1 + 0.5 * values
    return 0.1 * values


def torch_name(path):
    """torchvision's name for a path like ('params', 'stage_0_block_1', 'conv_2', 'kernel')."""
    *modules, leaf = path[1:]
    leaf = {
        "kernel": "weight",
        "scale": "weight",
        "mean": "running_mean",
        "var": "running_var",
    }.get(leaf, leaf)
    if modules[0].startswith("stage"):
        _, stage, _, block = modules[0].split("_")
        kind, which = modules[1].split("_")
        if kind == "shortcut":
            inner = "downsample." + {"conv": "0", "norm": "1"}[which]
        else:
            inner = {"conv": "conv", "norm": "bn"}[kind] + which
        return f"layer{int(stage) + 1}.{block}.{inner}.{leaf}"
    return {"stem_conv": "conv1", "stem_norm": "bn1", "head": "fc"}[modules[0]] + "." + leaf


def filled_variables(model, shape):
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros(shape), train=False))
    flat = {}
    for path, leaf in flatten_dict(shapes).items():
        axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[leaf.ndim]  # HWIO -> OIHW, IO -> OI
        value = fill(torch_name(path), tuple(leaf.shape[a] for a in axes))
        flat[path] = jnp.asarray(value.transpose(np.argsort(axes)), leaf.dtype)
    return unflatten_dict(flat)


def images(shape):
    return scattered(shape, 0).astype(np.float32)


# torchvision 0.28.0, ResNet(block, sizes, num_classes=4) with `fill` and `images((4, 63, 64, 3))`.
TORCHVISION = {
    "basic": {
        "stage_sizes": (1, 2, 1, 1),
        "evaluation": [
            [13.032791, 9.420713, 8.585286, 1.8226137],
            [12.309586, 9.833726, 8.859286, 1.6558254],
            [14.691619, 9.966972, 9.695941, -0.37854043],
            [14.39802, 8.800741, 9.129887, 0.5651987],
        ],
        "feature_sums": [1816.6382, 1858.1045, 1884.2029, 1858.2019],
        "training": [
            [2.2165964, 0.32834983, 0.0288646, -0.19460124],
            [1.3936274, -0.112435, 1.1888539, -0.1673218],
            [2.0104911, 0.5369301, -0.6359882, -0.5219411],
            [1.9990199, -0.32620785, 0.02139137, 0.33689153],
        ],
        "running_mean": [-0.02858629, -0.06789732, -0.00769148],  # layer4[0].bn2, first three
        "running_var": [0.51154345, 0.70461226, 1.0518392],
    },
    "bottleneck": {
        "stage_sizes": (1, 1, 1, 1),
        "evaluation": [
            [18.708532, -6.293409, 60.180984, -22.15977],
            [22.10613, -8.344027, 56.001015, -25.69444],
            [20.614801, -7.764663, 59.344437, -26.466036],
            [18.232656, -4.899671, 57.54001, -19.622583],
        ],
        "feature_sums": [8680.631, 8693.683, 8919.354, 8900.861],
        "training": [
            [1.2495165, 0.63253325, 3.370423, 0.3067415],
            [2.1870549, -0.17287163, 3.0333107, -0.94779474],
            [0.36149848, -2.2644784, 4.3500185, -2.2134302],
            [2.368963, -0.15421237, 4.064761, 0.00757461],
        ],
        "running_mean": [-0.03964056, -0.03840498, -0.03991148],
        "running_var": [0.5439591, 0.78716075, 1.0592699],
    },
}


@pytest.mark.parametrize("block", TORCHVISION)
def test_equals_torchvision(block):
    expected = TORCHVISION[block]
    model = ResNet(expected["stage_sizes"], 4, block=block)
    x = images((4, 63, 64, 3))
    variables = filled_variables(model, x.shape)

    logits, features = jax.jit(lambda v: model.apply(v, x, train=False))(variables)
    np.testing.assert_allclose(logits, expected["evaluation"], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(features.sum(1), expected["feature_sums"], rtol=1e-5)

    (logits, _), updates = jax.jit(
        lambda v: model.apply(v, x, train=True, mutable=["batch_stats"])
    )(variables)
    np.testing.assert_allclose(logits, expected["training"], atol=1e-4)
    stats = updates["batch_stats"]["stage_3_block_0"]["norm_2"]
    np.testing.assert_allclose(stats["mean"][:3], expected["running_mean"], atol=1e-5)
    np.testing.assert_allclose(stats["var"][:3], expected["running_var"], rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "count"),
    [("resnet18", 11_689_512), ("resnet34", 21_797_672), ("resnet50", 25_557_032)],
)
def test_parameter_counts_of_torchvision(name, count):
    model = make_resnet(name, 1000)
    variables = jax.eval_shape(
        lambda: model.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), train=False)
    )
    assert sum(math.prod(p.shape) for p in jax.tree.leaves(variables["params"])) == count


def test_small_network_shapes_and_dtypes():
    model = make_resnet("resnet8", 10, width=16, stem="cifar", norm="group", dtype=jnp.bfloat16)
    x = jnp.zeros((2, 9, 8, 3))
    variables = jax.jit(lambda key: model.init(key, x, train=False))(
        jax.random.key(0, impl="unsafe_rbg")  # compiles faster
    )
    (logits, features), state = jax.jit(
        lambda v: model.apply(v, x, train=True, capture_intermediates=True)
    )(variables)
    assert (logits.shape, logits.dtype) == ((2, 10), jnp.float32)
    assert (features.shape, features.dtype) == ((2, 64), jnp.float32)
    assert set(variables) == {"params"}  # group norm has no running statistics
    assert {p.dtype for p in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    last = state["intermediates"]["stage_2_block_0"]["__call__"][0]
    assert (last.shape, last.dtype) == ((2, 3, 2, 64), jnp.bfloat16)


def test_batch_statistics_are_of_the_whole_sharded_batch():
    model = ResNet((1, 1), 3, width=8, stem="cifar")
    x = images((16, 4, 4, 3))
    variables = filled_variables(model, x.shape)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    step = jax.jit(lambda x: model.apply(variables, x, train=True, mutable=["batch_stats"]))
    sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    for one, eight in zip(jax.tree.leaves(step(x)), jax.tree.leaves(step(sharded)), strict=True):
        np.testing.assert_allclose(one, eight, atol=1e-5)


def test_unknown_settings_are_named():
    with pytest.raises(ValueError, match="no network 'resnet-18'; the nearest is 'resnet18'"):
        make_resnet("resnet-18", 10)
    for setting in ({"stem": "vgg"}, {"norm": "layer"}, {"block": "dense"}):
        field, value = next(iter(setting.items()))
        with pytest.raises(ValueError, match=f"{field} is one of .* not '{value}'"):
            ResNet((1,), 2, **setting).init(jax.random.key(0), jnp.zeros((1, 4, 4, 3)), train=False)
