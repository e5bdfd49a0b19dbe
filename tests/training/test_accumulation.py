"""A batch in parts is the whole batch: gradients, losses and what methods remember."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ddb_jax.configs.base import classifier_section

from ddb_jax.configs import base, digits
from ddb_jax.debias.contract import TrainingSet, plain
from ddb_jax.debias.table import METHODS
from ddb_jax.models.layers import BatchNorm
from ddb_jax.stages.common import classifier_step, diffusion_step
from ddb_jax.stages.common.generator import init_unet_params
from ddb_jax.stages.common.networks import build_classifier
from ddb_jax.training import train_state
from ddb_jax.training.accumulation import join_parts, split_batch, sum_gradients
from ddb_jax.training.mesh import batch_sharding, make_mesh

SIDE, BATCH_SIZE, NUM_CLASSES = 8, 16, 3
RNG = np.random.default_rng(0)
BATCH = {
    "image": RNG.integers(0, 256, (BATCH_SIZE, SIDE, SIDE, 3), dtype=np.uint8),
    "label": np.arange(BATCH_SIZE, dtype=np.int32) % NUM_CLASSES,
    "index": RNG.permutation(20)[:BATCH_SIZE].astype(np.int32),
    "group": RNG.integers(0, 4, BATCH_SIZE).astype(np.int32),
    "amplifier_loss": RNG.random(BATCH_SIZE).astype(np.float32),
    "given_bias": RNG.integers(0, NUM_CLASSES, BATCH_SIZE).astype(np.int32),
}


def test_neighbours_go_to_different_parts():
    batch = {"a": jnp.arange(6), "b": jnp.arange(12).reshape(6, 2)}
    parts = split_batch(batch, 3)
    np.testing.assert_array_equal(parts["a"], [[0, 3], [1, 4], [2, 5]])
    np.testing.assert_array_equal(parts["b"][1], [[2, 3], [8, 9]])
    joined = join_parts(parts)
    np.testing.assert_array_equal(joined["a"], np.arange(6))
    np.testing.assert_array_equal(joined["b"], np.arange(12).reshape(6, 2))


def test_every_device_keeps_its_own_examples():
    split = batch_sharding(make_mesh(8))
    x = jax.ShapeDtypeStruct((32, 5), jnp.float32, sharding=split)

    def program(x):
        def one(total, part):
            return total, jnp.sin(part)

        return join_parts(jax.lax.scan(one, 0.0, split_batch(x, 4))[1])

    text = jax.jit(program, out_shardings=split).lower(x).compile().as_text()
    assert "sine" in text or "sin" in text
    for moved in ("all-gather", "all-to-all", "collective-permute", "all-reduce"):
        assert moved not in text


def test_gradients_are_summed_and_the_carry_goes_through():
    parts = jnp.arange(6.0).reshape(3, 2)
    total, carry, outputs = sum_gradients(
        lambda carry, part: ({"w": part}, carry + part.sum(), carry), {"w": jnp.ones(2)}, 1.0, parts
    )
    np.testing.assert_array_equal(total["w"], [6, 9])
    assert carry == 16
    np.testing.assert_array_equal(outputs, [1, 2, 7])


class Denoiser(nn.Module):
    """A convolution, shifted by timestep and class."""

    @nn.compact
    def __call__(self, x, t, labels, *, train):
        """[B, H, W, 3], [B], [B] -> [B, H, W, 3]."""
        shift = nn.Embed(10, 3, name="time")(t) + nn.Embed(NUM_CLASSES + 1, 3, name="label")(labels)
        return nn.tanh(nn.Conv(3, (3, 3), name="conv")(x) + shift[:, None, None])


@pytest.fixture(scope="module")
def diffusion():
    """Parameters before a step of SGD; state and metrics after it in 1, 2 and 4 parts."""
    c, found = digits.get_config(), {}
    c.diffusion.image_size, c.diffusion.num_timesteps, c.diffusion.flip = SIDE, 10, True
    c.diffusion.optimizer, c.diffusion.weight_decay, c.diffusion.warmup_steps = "sgd", 0.0, 0
    c.diffusion.learning_rate, c.diffusion.grad_clip = 1.0, 0.0
    c.diffusion.label_dropout = 0.5
    for parts in (1, 2, 4):
        c.diffusion.accumulate = parts
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(diffusion_step, "build_unet", lambda config, num_classes: Denoiser())
            optimizer, step = diffusion_step.make_train_step(c, NUM_CLASSES)
        params = init_unet_params(Denoiser(), jax.random.key(1), (SIDE, SIDE, 3))
        state = train_state.create({"params": params}, optimizer, ema=True)
        found[parts] = jax.jit(step)(state, BATCH, jax.random.key(2))
    return params, found


@pytest.mark.parametrize("parts", [2, 4])
def test_a_diffusion_step_in_parts(parts, diffusion):
    first, found = diffusion
    (whole, whole_metrics), (state, metrics) = found[1], found[parts]
    assert metrics.keys() == whole_metrics.keys()
    for name, value in whole_metrics.items():
        assert float(metrics[name]) == pytest.approx(float(value), rel=1e-5)
    moved = jax.tree.map(lambda a, b: a - b, whole.params, first)
    assert max(float(jnp.max(jnp.abs(m))) for m in jax.tree.leaves(moved)) > 1e-3
    for a, b in zip(
        jax.tree.leaves((whole.params, whole.ema_params)),
        jax.tree.leaves((state.params, state.ema_params)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6)


def classifier(method, parts, model=None, batch=BATCH):
    """Parameters before a step of SGD; the state and metrics after it."""
    settings = classifier_section()
    settings.network, settings.width, settings.flip, settings.accumulate = "mlp", 5, True, parts
    settings.optimizer, settings.momentum, settings.weight_decay = "sgd", 0.0, 0.0
    settings.learning_rate, settings.num_steps = 1.0, 10
    if model is None:
        model = build_classifier(settings, NUM_CLASSES)
    optimizer, step = classifier_step.make_train_step(
        settings, {"main": model}, SIDE, method=method
    )
    variables = model.init(jax.random.key(0), jnp.zeros((1, SIDE, SIDE, 3)), train=False)
    state = train_state.create(variables, optimizer, method_state=method.init_state())
    return variables, jax.jit(step)(state, batch, jax.random.key(3))


def made(name, **settings):
    entry = METHODS[name]
    section = base.get_config()[entry.settings] if entry.settings else None
    for field, value in settings.items():
        section[field] = value
    training_set = TrainingSet(
        labels=np.arange(20) % NUM_CLASSES,
        num_classes=NUM_CLASSES,
        group_sizes=np.array([9, 5, 4, 2]),
        amplifier_loss=np.linspace(0, 2, 20, dtype=np.float32),
        bias=np.arange(20) % 2,
    )
    return entry.make(section, training_set)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("erm", {}),
        ("bias_bal", {}),
        ("reweighting", {}),
        ("group_dro", {"step_size": 0.5, "adjustment": 1.0}),
        ("ddb_ii", {"ema": 0.5, "class_normalize": True, "normalize_weights": True}),
        ("lff+ddb", {}),
    ],
)
def test_a_classifier_step_in_parts(name, settings):
    method = made(name, **settings)
    first, (whole, whole_metrics) = classifier(method, 1)
    _, (state, metrics) = classifier(method, 4)
    assert list(metrics) == list(whole_metrics)
    for key, value in whole_metrics.items():
        assert float(metrics[key]) == pytest.approx(float(value), rel=1e-5)
    assert np.abs(whole.params["head"]["bias"] - first["params"]["head"]["bias"]).max() > 1e-3
    for a, b in zip(
        jax.tree.leaves((whole.params, whole.method_state)),
        jax.tree.leaves((state.params, state.method_state)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


class Normed(nn.Module):
    """BatchNorm of the pixels, and a layer over their mean squares."""

    @nn.compact
    def __call__(self, x, *, train):
        """[B, H, W, 3] -> logits and features."""
        features = jnp.square(BatchNorm(name="norm")(x, train=train)).mean((1, 2))
        return nn.Dense(NUM_CLASSES, name="head")(features), features


def test_batch_statistics_are_those_of_the_parts_one_after_the_other():
    _, (state, _) = classifier(plain(), 2, Normed())
    x = BATCH["image"] / 127.5 - 1.0  # flips change no mean
    mean, var = np.zeros(3), np.ones(3)
    for part in (x[0::2], x[1::2]):
        mean = 0.9 * mean + 0.1 * part.mean((0, 1, 2))
        var = 0.9 * var + 0.1 * part.var((0, 1, 2), ddof=1)
    norm = state.batch_stats["norm"]
    np.testing.assert_allclose(norm["mean"], mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(norm["var"], var, rtol=1e-4)


def test_a_method_that_compares_a_whole_batch_is_refused():
    settings = classifier_section()
    settings.accumulate = 2
    with pytest.raises(ValueError, match="accumulate must be 1"):
        classifier_step.make_train_step(settings, {}, SIDE, method=made("lff"))
