"""The UNet against a plain reading of the architecture, and its parameter counts."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddb_jax.models.unet import UNet, timestep_embedding


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def shapes(model, *inputs):
    return jax.eval_shape(lambda: model.init(jax.random.key(0), *inputs, train=False))


def filled(model, *inputs):
    """Parameters of normal noise, without the seconds that compiling `init` takes."""
    return jax.tree.map(
        lambda p: 0.3 * normal(*p.shape, seed=math.prod(p.shape)), shapes(model, *inputs)
    )


def inputs_of(batch, side):
    ids = np.zeros(batch, np.int32)
    return normal(batch, side, side, 3), ids, ids


def parameter_count(model, side):
    leaves = jax.tree.leaves(shapes(model, *inputs_of(1, side)))
    return sum(math.prod(p.shape) for p in leaves)


def test_timestep_embedding():
    y = timestep_embedding(jnp.array([0, 3]), 4)
    angles = [3 / 10000 ** (0 / 4), 3 / 10000 ** (2 / 4)]
    expected = [
        [0, 1, 0, 1],
        [math.sin(angles[0]), math.cos(angles[0]), math.sin(angles[1]), math.cos(angles[1])],
    ]
    np.testing.assert_allclose(y, expected, atol=1e-6)
    with pytest.raises(ValueError, match="even number of channels, not 5"):
        timestep_embedding(jnp.array([0]), 5)


def test_paper_configuration_has_the_papers_parameters():
    # 47.8 million with 1,000 timesteps and two classes; the fixed sinusoids save 1000 x 128.
    assert parameter_count(UNet(2, trainable_time_table=True), 64) == 47_763_587
    assert parameter_count(UNet(2), 64) == 47_763_587 - 1000 * 128


# A plain reading of the architecture: two levels, one block each, lists written out.


def conv(p, x, stride=1):
    pad = (p["kernel"].shape[0] - 1) // 2
    y = jax.lax.conv_general_dilated(
        x,
        p["kernel"],
        (stride, stride),
        [(pad, pad)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y + p["bias"]


def transposed_conv(p, x):
    y = jax.lax.conv_general_dilated(
        x,
        p["kernel"][::-1, ::-1],
        (1, 1),
        [(2, 3)] * 2,
        lhs_dilation=(2, 2),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y + p["bias"]


def group_norm(p, x):
    groups = x.shape[-1] // 4  # for the channels used here
    g = x.reshape(len(x), -1, groups, x.shape[-1] // groups)
    g = (g - g.mean((1, 3), keepdims=True)) / jnp.sqrt(g.var((1, 3), keepdims=True) + 1e-5)
    return g.reshape(x.shape) * p["scale"] + p["bias"]


def dense(p, x):
    return x @ p["kernel"] + p["bias"]


def swish(x):
    return x / (1 + jnp.exp(-x))


def mlp(p, x):
    return dense(p["Dense_1"], swish(dense(p["Dense_0"], x)))


def block(p, x, time, label):
    h = conv(p["conv_1"], swish(group_norm(p["norm_1"], x)))
    h = h + (dense(p["time"], swish(time)) + dense(p["label"], swish(label)))[:, None, None]
    h = conv(p["conv_2"], swish(group_norm(p["norm_2"], h)))
    return h + (conv(p["shortcut"], x) if "shortcut" in p else x)


def attention(p, x):
    h = group_norm(p["norm"], x).reshape(len(x), -1, x.shape[-1])
    q, k, v = (dense(p[n], h) for n in "qkv")
    weights = jax.nn.softmax(jnp.einsum("bqc,bkc->bqk", q, k) / math.sqrt(x.shape[-1]), axis=-1)
    return x + dense(p["out"], weights @ v).reshape(x.shape)


def plain_unet(p, x, t, labels, form):
    time = mlp(p["time_mlp"], p["time_table"]["embedding"][t])
    label = mlp(p["label_mlp"], p["label_table"]["embedding"][labels])

    def run(name, x):
        return block(p[name], x, time, label)

    stem = conv(p["stem"], x)
    down_0 = run("down_0_block_0", stem)
    half = conv(p["down_0_downsample"]["conv_3"], down_0, 2)
    if form == "paper":
        half = half + conv(p["down_0_downsample"]["conv_5"], down_0, 2)
    down_1 = attention(p["down_1_attention_0"], run("down_1_block_0", half))
    h = run("mid_block_1", attention(p["mid_attention"], run("mid_block_0", down_1)))
    h = run("up_1_block_0", jnp.concatenate([h, down_1], -1))
    h = run("up_1_block_1", jnp.concatenate([h, half], -1))
    if form == "paper":
        h = transposed_conv(p["up_1_upsample"]["transposed"], h)
    else:
        h = jnp.kron(h, jnp.ones((1, 2, 2, 1)))
    h = conv(p["up_1_upsample"]["conv"], h)
    h = run("up_0_block_0", jnp.concatenate([h, down_0], -1))
    h = run("up_0_block_1", jnp.concatenate([h, stem], -1))
    return conv(p["head"], swish(group_norm(p["head_norm"], h)))


@pytest.mark.parametrize("form", ["paper", "lean"])
def test_equals_a_plain_reading(form):
    model = UNet(
        num_classes=3,
        channels=8,
        channel_mults=(1, 2),
        num_res_blocks=1,
        attention_resolutions=(2,),
        trainable_time_table=True,
        num_timesteps=50,
        downsample="paper" if form == "paper" else "conv",
        upsample="paper" if form == "paper" else "nearest",
        zero_init_output=False,
    )
    x, t, labels = normal(3, 4, 4, 3), jnp.array([0, 7, 49]), jnp.array([0, 2, 3])
    params = filled(model, x, t, labels)["params"]
    y = jax.jit(lambda p: model.apply({"params": p}, x, t, labels, train=False))(params)
    expected = jax.jit(lambda p: plain_unet(p, x, t, labels, form))(params)
    assert (y.shape, y.dtype) == (x.shape, jnp.float32)
    np.testing.assert_allclose(y, expected, atol=1e-4, rtol=1e-4)


SMALL = {"channels": 8, "channel_mults": (1,), "num_res_blocks": 1, "attention_resolutions": ()}


def test_initial_values():
    inputs = inputs_of(2, 4)
    model = UNet(2, **SMALL, trainable_time_table=True, num_timesteps=5)
    key = jax.random.key(0, impl="unsafe_rbg")  # compiles faster
    variables = jax.jit(lambda key: model.init(key, *inputs, train=False))(key)
    table = variables["params"]["time_table"]["embedding"]
    np.testing.assert_allclose(table, timestep_embedding(jnp.arange(5), 8), atol=1e-6)
    y = jax.jit(lambda v: model.apply(v, *inputs, train=False))(variables)
    np.testing.assert_array_equal(y, 0)  # zero_init_output
    for name in ("down_0_block_0", "mid_block_1", "up_0_block_1"):
        assert not variables["params"][name]["conv_2"]["kernel"].any()
        assert variables["params"][name]["conv_1"]["kernel"].any()
    assert not variables["params"]["mid_attention"]["out"]["kernel"].any()


def test_dropout_acts_in_training_only_and_bfloat16_keeps_float32_parameters():
    inputs = inputs_of(2, 4)
    model = UNet(2, **SMALL, dropout=0.5, dtype=jnp.bfloat16)
    variables = filled(model, *inputs)
    assert {p.dtype for p in jax.tree.leaves(shapes(model, *inputs))} == {jnp.dtype("float32")}
    run = jax.jit(
        lambda key, train: model.apply(variables, *inputs, train=train, rngs={"dropout": key}),
        static_argnums=1,
    )
    keys = jax.random.split(jax.random.key(1))
    quiet = run(keys[0], False)
    assert quiet.dtype == jnp.float32
    np.testing.assert_array_equal(quiet, run(keys[1], False))
    assert np.abs(run(keys[0], True) - run(keys[1], True)).max() > 0.01
    full = UNet(2, **SMALL)
    exact = jax.jit(lambda v: full.apply(v, *inputs, train=False))(variables)
    np.testing.assert_allclose(quiet, exact, atol=0.05 * np.abs(exact).max())
    assert np.abs(quiet - exact).max() > 1e-5  # it did compute in bfloat16


def test_attention_only_at_the_sides_asked_for():
    model = UNet(2, 8, (1, 1, 1), 2, attention_resolutions=(4, 16))
    assert {name for name in shapes(model, *inputs_of(1, 8))["params"] if "attention" in name} == {
        "down_1_attention_0",
        "down_1_attention_1",
        "mid_attention",
    }


@pytest.mark.parametrize(
    ("settings", "side", "message"),
    [
        ({}, 12, "4 levels needs image sides divisible by 8, not 12x12"),
        ({"downsample": "pool"}, 8, r"downsample is one of .*, not 'pool'"),
        ({"upsample": "bilinear"}, 8, r"upsample is one of .*, not 'bilinear'"),
    ],
)
def test_bad_settings_are_named(settings, side, message):
    with pytest.raises(ValueError, match=message):
        shapes(UNet(2, channels=8, **settings), *inputs_of(1, side))
