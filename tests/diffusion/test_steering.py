"""Steering by a classifier's gradient and by another network, against values worked by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddb_jax.diffusion import samplers, steering
from ddb_jax.diffusion.gaussian import predict_x_start
from ddb_jax.diffusion.noise_schedule import NoiseSchedule, linear_schedule

# alphas_cumprod 0.64 and 0.16: alpha 0.8 and 0.4.
SCHEDULE = NoiseSchedule(np.array([0.36, 0.75]))
ALPHA, SIGMA = np.array([0.8, 0.4]), np.sqrt([0.36, 0.84])
T, LABELS = jnp.array([0, 1]), jnp.array([0, 1])
# Two images of four pixels.
X_T = np.array([[0.3, -0.2, 0.5, 0.1], [-0.4, 0.6, 0.0, 0.2]], np.float32)
MIX = np.array([[0.2, 0.5, 0, 0], [0, -0.3, 0.4, 0], [0.1, 0, 0.3, 0.2], [0, 0, 0.6, 0.1]])
WEIGHTS = np.array([[1.0, -2.0, 0.5, 3.0], [0.2, 0.1, -0.4, 0.3]])
BIASES = np.array([0.4, -1.0])


def image(x):
    return jnp.asarray(x, jnp.float32).reshape(2, 2, 2, 1)


def network(x, t, labels):
    """Every output pixel is a mixture of the image's own."""
    return (x.reshape(len(x), 4) @ jnp.asarray(MIX.T, jnp.float32)).reshape(x.shape)


def log_odds(x_start, labels):
    pixels = x_start.reshape(len(x_start), 4)
    return jnp.sum(pixels * jnp.asarray(WEIGHTS, jnp.float32)[labels], 1) + BIASES[labels]


def steered_by_hand(scale, prediction, x_t, clip=10.0):
    """The x_start that the steered network stands for, in float64."""
    result = []
    for x, a, s, w, b in zip(x_t.astype(float), ALPHA, SIGMA, WEIGHTS, BIASES, strict=True):
        unclipped = (x - s * MIX @ x) / a if prediction == "eps" else a * x - s * MIX @ x
        x_start = np.clip(unclipped, -clip, clip)
        p = 1 / (1 + np.exp(-(w @ x_start + b)))
        result.append(x_start + scale * s * (1 - p) * w / np.sqrt(np.mean(w**2)))
    return np.array(result)


def make_steered(scale, prediction="eps", apply_fn=network, log_odds_fn=log_odds, **options):
    return steering.steered(
        apply_fn, log_odds_fn, SCHEDULE, scale, prediction=prediction, **options
    )


def test_log_odds_against_a_label():
    logits = jnp.log(jnp.array([[2.0, 3.0, 5.0], [2.0, 3.0, 5.0]]))  # p = 0.2, 0.3, 0.5
    values = steering.log_odds_against(logits, jnp.array([2, 0]))
    np.testing.assert_allclose(values, [0.0, np.log(4.0)], atol=1e-6)


def test_log_odds_have_a_gradient_where_the_probability_rounds_to_one():
    gradient = jax.grad(lambda z: steering.log_odds_against(z[None], jnp.array([0]))[0])
    np.testing.assert_allclose(gradient(jnp.array([300.0, 0.0, 0.0])), [-1.0, 0.5, 0.5])


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_the_output_for_a_clean_image(prediction):
    x_start, eps = np.linspace(-1, 1, 8).reshape(2, 4), np.linspace(2, -1, 8).reshape(2, 4)
    alpha, sigma = ALPHA[:, None], SIGMA[:, None]
    x_t = image(alpha * x_start + sigma * eps)
    output = steering.output_for(SCHEDULE, x_t, T, image(x_start), prediction)
    expected = eps if prediction == "eps" else alpha * eps - sigma * x_start
    np.testing.assert_allclose(output.reshape(2, 4), expected, atol=2e-6)
    back = predict_x_start(SCHEDULE, x_t, T, output, prediction)
    np.testing.assert_allclose(back.reshape(2, 4), x_start, atol=2e-6)


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_the_push_of_a_linear_classifier(prediction):
    fn = make_steered(0.7, prediction, clip_x_start=False)
    output = fn(image(X_T), T, LABELS)
    x_start = predict_x_start(SCHEDULE, image(X_T), T, output, prediction).reshape(2, 4)
    expected = steered_by_hand(0.7, prediction, X_T)
    np.testing.assert_allclose(x_start, expected, rtol=1e-5, atol=1e-6)


def test_the_clean_image_is_clipped_before_it_is_pushed():
    x_t = 4 * X_T
    output = make_steered(0.7, "v")(image(x_t), T, LABELS)
    x_start = predict_x_start(SCHEDULE, image(x_t), T, output, "v").reshape(2, 4)
    expected = steered_by_hand(0.7, "v", x_t, clip=1.0)
    assert np.abs(expected - steered_by_hand(0.7, "v", x_t)).max() > 0.1
    np.testing.assert_allclose(x_start, expected, rtol=1e-5, atol=1e-6)


def test_the_size_of_the_gradient_does_not_count():
    def tiny(x_start, labels):
        return 1e-25 * (log_odds(x_start, labels) - BIASES[labels])

    def x_start(fn):
        output = fn(image(X_T), T, LABELS)
        return np.asarray(predict_x_start(SCHEDULE, image(X_T), T, output, "v")).reshape(2, 4)

    def push(fn):
        return x_start(fn) - x_start(network)

    pushed = push(make_steered(1.0, "v", log_odds_fn=tiny))
    # p = 1/2 now, at every pixel w / rms(w) times sigma / 2.
    rms = np.sqrt(np.mean(WEIGHTS**2, axis=1, keepdims=True))
    np.testing.assert_allclose(pushed, SIGMA[:, None] / 2 * WEIGHTS / rms, rtol=1e-4)
    flat = push(make_steered(1.0, "v", log_odds_fn=lambda x, y: 0.0 * x.sum((1, 2, 3))))
    np.testing.assert_allclose(flat, 0.0, atol=1e-6)


def test_a_scale_of_zero_is_the_network_itself():
    assert make_steered(0.0) is network
    assert steering.extrapolated(network, log_odds, 0.0) is network


@pytest.mark.parametrize(("scale", "expected"), [(1.0, 5.0), (0.5, 3.5), (3.0, 11.0)])
def test_extrapolation(scale, expected):
    plain, balanced = (lambda x, t, y, v=v: jnp.full_like(x, v) for v in (2.0, 5.0))
    output = steering.extrapolated(plain, balanced, scale)(image(X_T), T, LABELS)
    np.testing.assert_allclose(output, np.full((2, 2, 2, 1), expected))


def test_an_unknown_prediction_is_refused():
    with pytest.raises(ValueError, match=r"'x0'.*eps, v"):
        make_steered(1.0, "x0")
    with pytest.raises(ValueError, match=r"'x0'.*eps, v"):
        steering.output_for(SCHEDULE, image(X_T), T, image(X_T), "x0")


def test_samples_follow_the_classifier_and_not_their_batch():
    schedule = linear_schedule(1000, 1e-4, 0.028)
    table = samplers.make_table("dpmpp_2m", schedule, 8)
    keys = jax.random.split(jax.random.key(3), 16)
    labels = jnp.arange(16) % 2

    def exact_eps(x, t, labels):
        """E[eps | x_t] where all pixels are N(0, 0.3^2)."""
        alpha, sigma = (
            jnp.asarray(v, jnp.float32)[t].reshape(-1, 1, 1, 1)
            for v in (schedule.alpha, schedule.sigma)
        )
        return sigma * x / (alpha**2 * 0.09 + sigma**2)

    def is_bright(x_start, labels):
        # Class 0 is to become bright and class 1 dark.
        return (1 - 2 * labels) * 20 * x_start.mean((1, 2, 3))

    fn = steering.steered(exact_eps, is_bright, schedule, 0.5, prediction="eps")

    @functools.partial(jax.jit, static_argnums=0)
    def draw(fn, keys, labels):
        return samplers.sample(fn, table, schedule, keys, labels, (2, 2, 1), prediction="eps")

    images, plain = (np.asarray(draw(model, keys, labels)) for model in (fn, exact_eps))
    moved = (images - plain).mean((1, 2, 3)) * np.where(labels == 0, 1, -1)
    assert np.all(moved > 0) and np.mean(moved) > 0.05
    alone = draw(fn, keys[5:7], labels[5:7])
    np.testing.assert_allclose(alone, images[5:7], atol=1e-6)
