"""The loop of the samplers: compiled or not, by key and label, noise, clipping, refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian_images import (
    MU,
    SHAPE,
    STD,
    draw,
)

from ddb_jax.diffusion import samplers
from ddb_jax.diffusion.noise_schedule import linear_schedule

# The loop

TABLES = {
    "ddpm": samplers.ddpm_table(linear_schedule(20, 0.01, 0.4)),
    "ddim": samplers.ddim_table(linear_schedule(20, 0.01, 0.4), 6, 0.7),
    "dpmpp_2m": samplers.dpmpp_2m_table(linear_schedule(20, 0.01, 0.4), 6),
}
SHORT = linear_schedule(20, 0.01, 0.4)


def labelled_network(x, t, labels):
    scale = 0.1 + 0.02 * t + 0.05 * labels
    return jnp.tanh(scale.reshape(-1, 1, 1, 1) * x)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_compiled_scan_agrees_with_a_python_loop(name, prediction):
    options = {"network": labelled_network, "prediction": prediction, "clip_x_start": True}
    scan = draw(SHORT, TABLES[name], 3, **options)
    python = draw(SHORT, TABLES[name], 3, eager=True, **options)
    np.testing.assert_allclose(scan, python, atol=1e-5)
    assert np.std(scan) > 0.1 and np.all(np.abs(scan) <= 1.0)


def test_v_and_eps_networks_of_the_same_model_sample_the_same_images():
    # x_start = mu + alpha std^2 (x - alpha mu) / (alpha^2 std^2 + sigma^2), v = (alpha x - x_start)
    # / sigma.
    alpha, sigma = (jnp.asarray(v, jnp.float32) for v in (SHORT.alpha, SHORT.sigma))

    def v_network(x, t, labels):
        a, s = (v[t].reshape(-1, 1, 1, 1) for v in (alpha, sigma))
        x_start = MU + a * STD**2 * (x - a * MU) / (a**2 * STD**2 + s**2)
        return (a * x - x_start) / s

    from_eps = draw(SHORT, TABLES["ddim"], 4)
    from_v = draw(SHORT, TABLES["ddim"], 4, network=v_network, prediction="v")
    np.testing.assert_allclose(from_eps, from_v, atol=1e-4)


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m"])
def test_an_image_depends_on_its_key_and_label_only(name):
    keys = jax.random.split(jax.random.key(3), 12)
    labels = jnp.arange(12) % 5
    run = jax.jit(
        functools.partial(samplers.sample, labelled_network, TABLES[name], SHORT),
        static_argnames=("image_shape", "prediction"),
    )
    together = run(keys, labels, image_shape=SHAPE, prediction="eps")
    for part in (slice(0, 5), slice(5, 12), slice(7, 8)):
        apart = run(keys[part], labels[part], image_shape=SHAPE, prediction="eps")
        np.testing.assert_allclose(apart, together[part], atol=1e-6)
    swapped = run(keys[::-1], labels[::-1], image_shape=SHAPE, prediction="eps")
    np.testing.assert_allclose(swapped[::-1], together, atol=1e-6)
    other_labels = run(keys, labels + 1, image_shape=SHAPE, prediction="eps")
    assert not np.allclose(other_labels, together, atol=1e-3)


def test_the_network_runs_once_for_each_row_at_its_timestep():
    seen = []

    def network(x, t, labels):
        seen.append((np.asarray(t), np.asarray(labels)))
        return jnp.zeros_like(x)

    draw(SHORT, TABLES["dpmpp_2m"], 3, network=network, eager=True)
    assert [t.tolist() for t, _ in seen] == [[int(t)] * 3 for t in TABLES["dpmpp_2m"].timesteps]
    assert all(t.dtype == np.int32 and labels.tolist() == [0, 0, 0] for t, labels in seen)


def test_each_row_adds_a_fresh_draw_of_the_image_s_own_key():
    # Coefficients a = d = 1 and b = c = 0 make x the sum of all draws so far.
    ones, zeros = np.ones(3), np.zeros(3)
    table = samplers.SamplerTable(np.arange(3)[::-1], ones, zeros, zeros, ones)
    seen = []

    def network(x, t, labels):
        seen.append(x)
        return jnp.zeros_like(x)

    seen.append(draw(SHORT, table, 2, seed=4, network=network, eager=True))
    added = np.diff(np.stack(seen), axis=0, prepend=0.0)
    for image, key in enumerate(jax.random.split(jax.random.key(4), 2)):
        for i in range(4):
            z = jax.random.normal(jax.random.fold_in(key, i), SHAPE)
            np.testing.assert_allclose(added[i, image], z, atol=1e-6)


@pytest.mark.parametrize(("eta", "draws_noise"), [(0.0, False), (1.0, True)])
def test_deterministic_tables_draw_no_noise_on_the_way(eta, draws_noise):
    keys = jax.random.split(jax.random.key(0), 2)
    table = samplers.ddim_table(SHORT, 5, eta)
    program = jax.make_jaxpr(
        lambda keys: samplers.sample(
            labelled_network, table, SHORT, keys, jnp.zeros(2, jnp.int32), SHAPE, prediction="eps"
        )
    )(keys)
    (scan,) = [eqn for eqn in program.eqns if eqn.primitive.name == "scan"]
    assert ("random_bits" in str(scan.params["jaxpr"])) == draws_noise


def test_clipping_bounds_the_estimate_of_every_step():
    # A network that says "no noise" leaves x_start = x / alpha, beyond 1 for most x.
    def network(x, t, labels):
        return jnp.zeros_like(x)

    free = draw(SHORT, TABLES["ddim"], 8, network=network)
    clipped = draw(SHORT, TABLES["ddim"], 8, network=network, clip_x_start=True)
    assert np.abs(free).max() > 1.5
    assert np.abs(clipped).max() <= 1.0


def test_bad_calls_are_refused():
    keys, labels = jax.random.split(jax.random.key(0), 2), jnp.zeros(2, jnp.int32)
    sample = functools.partial(
        samplers.sample, labelled_network, TABLES["ddim"], SHORT, image_shape=SHAPE
    )
    with pytest.raises(ValueError, match="one per image"):
        sample(keys[0], labels, prediction="eps")
    with pytest.raises(ValueError, match="one per image"):
        sample(jax.random.key_data(keys), labels, prediction="eps")
    with pytest.raises(ValueError, match="2 keys"):
        sample(keys, labels[:1], prediction="eps")
    with pytest.raises(ValueError, match=r"'x0'.*eps, v"):
        sample(keys, labels, prediction="x0")
