"""Every network of the table: shapes of its call, and the names of bad options."""

import jax
import jax.numpy as jnp
import pytest

from ddb_jax.models.classifiers import NETWORKS, make_classifier

# Channels of the features, with 4 as the width: of ResNets, 4 doubled at every later stage (and
# times 4 with bottlenecks); of DenseNet-121 and EfficientNet-Lite0, 1024 and 1280 of a width of 64.
FEATURES = {
    "resnet8": 16,
    "resnet20": 16,
    "resnet18": 32,
    "resnet34": 32,
    "resnet50": 128,
    "densenet121": 64,
    "efficientnet_lite0": 80,
    "mlp": 4,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_call(name):
    model = make_classifier(name, 3, width=4, stem="cifar", norm="group", dtype=jnp.bfloat16)
    x = jnp.zeros((2, 8, 8, 3))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), x, train=False))
    logits, features = jax.eval_shape(lambda v: model.apply(v, x, train=True), variables)
    assert (logits.shape, logits.dtype) == ((2, 3), jnp.float32)
    assert (features.shape, features.dtype) == ((2, FEATURES[name]), jnp.float32)
    assert variables["params"]["head"]["kernel"].shape == (FEATURES[name], 3)
    assert {p.dtype for p in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


def test_three_stages_of_resnet20():
    # 19 3x3 convolutions of 16, 32, 64 channels, two shortcuts, a head (He et al. 2015, 4.2).
    model = make_classifier("resnet20", 10, width=16, stem="cifar")
    params = jax.eval_shape(
        lambda: model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
    )["params"]
    convolutions = 9 * (3 * 16 + 6 * 16**2 + 16 * 32 + 5 * 32**2 + 32 * 64 + 5 * 64**2)
    shortcuts = 16 * 32 + 32 * 64
    norms = 2 * (7 * 16 + 7 * 32 + 7 * 64)  # six of each stage and one of stem or shortcut
    count = convolutions + shortcuts + norms + 64 * 10 + 10
    assert sum(p.size for p in jax.tree.leaves(params)) == count


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("densenet", {}, "no network 'densenet'; the nearest is 'densenet121'"),
        ("resnet-18", {}, "the nearest is 'resnet18'"),
        ("resnet18", {"stem": "vgg"}, "stem is one of .* not 'vgg'"),
        ("mlp", {"norm": "layer"}, "norm is one of .* not 'layer'"),
        ("densenet121", {"width": 33}, "width of densenet121 is even .* not 33"),
        ("resnet50", {"width": 0}, "width of resnet50 is at least 1, not 0"),
        ("mlp", {"num_classes": 0}, "num_classes of mlp is at least 1, not 0"),
    ],
)
def test_bad_options_are_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        make_classifier(name, **{"num_classes": 2, **options})
