import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddb_jax.diffusion import gaussian
from ddb_jax.diffusion.noise_schedule import NoiseSchedule, linear_schedule

# alphas_cumprod = [0.9, 0.64]: SNR = [9, 16/9], and at t = 1 alpha = 0.8, sigma = 0.6.
SMALL = NoiseSchedule(np.array([0.1, 1.0 - 0.64 / 0.9]))


def images(seed, batch):
    return jax.random.uniform(jax.random.key(seed), (batch, 4, 4, 3), minval=-1.0, maxval=1.0)


def test_q_sample_by_hand():
    x_start = jnp.array([0.5, -1.0]).reshape(2, 1, 1, 1)
    eps = jnp.array([1.0, 2.0]).reshape(2, 1, 1, 1)
    x_t = gaussian.q_sample(SMALL, x_start, jnp.array([1, 0]), eps)
    expected = [0.8 * 0.5 + 0.6 * 1.0, -np.sqrt(0.9) + np.sqrt(0.1) * 2.0]
    np.testing.assert_allclose(x_t.ravel(), expected, rtol=1e-6)
    assert x_t.dtype == jnp.float32


def test_q_sample_has_the_moments_of_the_markov_chain():
    # Mean and variance carried through x <- sqrt(1 - beta) x + sqrt(beta) z, one step at a time.
    schedule = linear_schedule(50, 1e-3, 0.1)
    mean, variance = 0.7, 0.0
    for beta in np.linspace(1e-3, 0.1, 50)[:31]:
        mean, variance = np.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
    # q_sample is affine in eps, so its moments follow from its values at eps = 0 and eps = 1.
    x_start, t = jnp.full((2, 1), 0.7), jnp.array([30, 30])
    x_t = gaussian.q_sample(schedule, x_start, t, jnp.array([[0.0], [1.0]])).ravel()
    assert x_t[0] == pytest.approx(mean, rel=1e-5)
    assert (x_t[1] - x_t[0]) ** 2 == pytest.approx(variance, rel=1e-5)


def test_v_target_by_hand():
    x_start, eps = jnp.full((1, 1, 1, 1), 0.5), jnp.full((1, 1, 1, 1), 1.0)
    target = gaussian.training_target(SMALL, x_start, jnp.array([1]), eps, "v")
    assert target.item() == pytest.approx(0.8 * 1.0 - 0.6 * 0.5)
    target = gaussian.training_target(SMALL, x_start, jnp.array([1]), eps, "eps")
    assert target.item() == 1.0


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_the_target_gives_back_the_image(prediction):
    schedule = linear_schedule(100, 1e-3, 0.05)
    x_start, eps = images(0, 3), jax.random.normal(jax.random.key(1), (3, 4, 4, 3))
    t = jnp.array([0, 40, 99])
    x_t = gaussian.q_sample(schedule, x_start, t, eps)
    output = gaussian.training_target(schedule, x_start, t, eps, prediction)
    back = gaussian.predict_x_start(schedule, x_t, t, output, prediction)
    np.testing.assert_allclose(back, x_start, atol=2e-5)


def test_min_snr_weights_by_hand():
    t = jnp.array([0, 1])  # SNR 9 and 16/9
    weights = gaussian.min_snr_weight(SMALL, t, 5.0, "eps")
    np.testing.assert_allclose(weights, [5 / 9, 1.0], rtol=1e-6)
    weights = gaussian.min_snr_weight(SMALL, t, 5.0, "v")
    np.testing.assert_allclose(weights, [5 / 10, 16 / 25], rtol=1e-6)
    np.testing.assert_array_equal(gaussian.min_snr_weight(SMALL, t, 0.0, "v"), [1.0, 1.0])


class Recorder:
    """A network that outputs zeros and keeps what it was called with."""

    def __init__(self):
        self.calls = []

    def __call__(self, x, t, labels):
        self.calls.append((x, np.asarray(t), np.asarray(labels)))
        return jnp.zeros_like(x)


def loss_of(apply_fn, schedule, x_start, **options):
    labels = jnp.arange(len(x_start)) % 3
    options = {"num_classes": 3, **options}
    batch = gaussian.noise_batch(schedule, jax.random.key(5), x_start, labels, **options)
    return gaussian.denoising_loss(apply_fn, batch)


def test_a_network_that_outputs_zero_pays_the_power_of_its_target():
    # E eps^2 = 1. For v = alpha eps - sigma x with x^2 = 1 it is alpha^2 + sigma^2 = 1 as well, but
    # with x = 0 it is alpha^2 = 0.9 on the one-step schedule. 400 x 48 squares of normal numbers
    # have a mean known to sqrt(2 / 19200) = 1 %.
    one_step = NoiseSchedule(np.array([0.1]))
    zeros = jnp.zeros((400, 4, 4, 3))
    for prediction, x_start, expected in (
        ("eps", zeros, 1.0),
        ("v", zeros, 0.9),
        ("v", zeros + 1.0, 1.0),
    ):
        loss, metrics = loss_of(Recorder(), one_step, x_start, prediction=prediction)
        assert loss == pytest.approx(expected, rel=0.04)
        assert loss.shape == () and loss.dtype == jnp.float32
        assert metrics["loss"] == loss and metrics["mse"] == loss


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_a_network_that_knows_the_image_pays_nothing(prediction):
    schedule, x_start = linear_schedule(20, 0.01, 0.2), images(2, 8)
    alphas_cumprod = np.cumprod(1 - np.linspace(0.01, 0.2, 20))

    def oracle(x, t, labels):
        alpha = np.sqrt(alphas_cumprod)[t].reshape(-1, 1, 1, 1)
        sigma = np.sqrt(1 - alphas_cumprod)[t].reshape(-1, 1, 1, 1)
        eps = (x - alpha * x_start) / sigma
        return eps if prediction == "eps" else alpha * eps - sigma * x_start

    loss, _ = loss_of(oracle, schedule, x_start, prediction=prediction)
    assert loss == pytest.approx(0.0, abs=1e-10)


def test_min_snr_weights_the_loss_but_not_the_mse():
    one_step = NoiseSchedule(np.array([0.1]))  # SNR 9 for every example
    plain, _ = loss_of(Recorder(), one_step, images(3, 4))
    loss, metrics = loss_of(Recorder(), one_step, images(3, 4), min_snr_gamma=3.0)
    np.testing.assert_allclose(loss, plain * 3 / 9, rtol=1e-6)
    np.testing.assert_allclose(metrics["mse"], plain, rtol=1e-6)


def test_timesteps_are_uniform_and_drawn_for_each_example():
    network = Recorder()
    loss_of(network, linear_schedule(4, 0.1, 0.4), jnp.zeros((2000, 1, 1, 1)))
    ((x_t, t, _),) = network.calls
    # 500 expected in each of 4; the standard deviation is sqrt(2000 * 3/16) = 19.
    counts = np.bincount(t, minlength=4)
    assert len(counts) == 4 and np.all(np.abs(counts - 500) < 90)
    assert t.dtype == np.int32
    # With x_start = 0, the spread of x_t at each t is sigma_t.
    sigma = np.sqrt(1 - np.cumprod(1 - np.array([0.1, 0.2, 0.3, 0.4])))
    for step in range(4):
        assert np.std(np.ravel(x_t)[t == step]) == pytest.approx(sigma[step], rel=0.15)


def test_labels_reach_the_network_and_are_dropped():
    network = Recorder()
    schedule, x_start = linear_schedule(4, 0.1, 0.4), jnp.zeros((6, 1, 1, 1))
    loss_of(network, schedule, x_start, label_dropout=0.0)
    loss_of(network, schedule, x_start, label_dropout=1.0)
    np.testing.assert_array_equal(network.calls[0][2], [0, 1, 2, 0, 1, 2])
    np.testing.assert_array_equal(network.calls[1][2], [3] * 6)


def test_loss_is_float32_and_jittable_with_a_bfloat16_network():
    def network(x, t, labels):
        return (0.5 * x).astype(jnp.bfloat16)

    schedule, x_start = linear_schedule(4, 0.1, 0.4), images(4, 8)
    loss, _ = jax.jit(lambda x: loss_of(network, schedule, x))(x_start)
    exact, _ = loss_of(lambda x, t, labels: 0.5 * x, schedule, x_start)
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, exact, rtol=1e-2)


def test_unknown_prediction_type_is_refused():
    x, t = jnp.zeros((1, 1, 1, 1)), jnp.array([0])
    for function in (gaussian.predict_x_start, gaussian.training_target):
        args = (SMALL, x, t, x, "x0")
        with pytest.raises(ValueError, match=r"'x0'.*eps, v"):
            function(*args)
    with pytest.raises(ValueError, match=r"'x0'.*eps, v"):
        gaussian.min_snr_weight(SMALL, t, 5.0, "x0")
