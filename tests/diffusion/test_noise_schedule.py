import math

import jax
import numpy as np
import pytest

from ddb_jax.diffusion import noise_schedule as ns


def test_linear_schedule_is_the_running_product_of_one_minus_beta():
    schedule = ns.linear_schedule(1000, 1e-4, 0.028)
    assert schedule.num_timesteps == 1000
    assert schedule.betas[0] == pytest.approx(1e-4)
    assert schedule.betas[-1] == pytest.approx(0.028)
    assert schedule.betas[1] - schedule.betas[0] == pytest.approx((0.028 - 1e-4) / 999)
    left = 1.0
    for t in range(1000):
        left *= 1.0 - (1e-4 + (0.028 - 1e-4) * t / 999)
        assert schedule.alphas_cumprod[t] == pytest.approx(left, rel=1e-10)


@pytest.mark.parametrize(("beta_end", "expected"), [(0.028, 6.9e-7), (0.02, 4.0e-5)])
def test_signal_left_at_the_end_of_the_published_schedules(beta_end, expected):
    schedule = ns.linear_schedule(1000, 1e-4, beta_end)
    assert schedule.alphas_cumprod[-1] == pytest.approx(expected, rel=0.02)


def test_cosine_schedule_telescopes_to_the_formula():
    schedule = ns.cosine_schedule(500)

    def f(u):
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    assert schedule.betas[-1] == pytest.approx(0.999)  # clipped: f(1) is 0
    for t in range(499):
        assert schedule.alphas_cumprod[t] == pytest.approx(f((t + 1) / 500) / f(0.0), rel=1e-9)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_alpha_sigma_and_log_snr(name):
    schedule = ns.make_schedule(name, 100, 1e-3, 0.2)
    np.testing.assert_allclose(schedule.alpha**2, schedule.alphas_cumprod, rtol=1e-12)
    np.testing.assert_allclose(schedule.alpha**2 + schedule.sigma**2, 1.0, rtol=1e-12)
    np.testing.assert_allclose(
        schedule.log_snr, 2 * np.log(schedule.alpha / schedule.sigma), rtol=1e-9, atol=1e-12
    )
    assert np.all(np.diff(schedule.log_snr) < 0)
    for table in (schedule.betas, schedule.alphas_cumprod, schedule.alpha, schedule.log_snr):
        assert table.dtype == np.float64


def test_make_schedule_chooses_by_name():
    linear = ns.make_schedule("linear", 3, 0.1, 0.3)
    np.testing.assert_allclose(linear.betas, [0.1, 0.2, 0.3])
    cosine = ns.make_schedule("cosine", 50, 0.1, 0.3)
    np.testing.assert_array_equal(cosine.betas, ns.cosine_schedule(50).betas)
    with pytest.raises(ValueError, match=r"'sigmoid'.*linear, cosine"):
        ns.make_schedule("sigmoid", 10, 0.1, 0.3)


@pytest.mark.parametrize("betas", [[], [0.1, 1.0], [0.0, 0.1], [0.1, float("nan")], [[0.1]]])
def test_impossible_betas_are_refused(betas):
    with pytest.raises(ValueError, match="betas"):
        ns.NoiseSchedule(np.array(betas))


def test_a_schedule_can_be_a_static_argument():
    first, second = ns.linear_schedule(4, 0.1, 0.2), ns.linear_schedule(4, 0.1, 0.3)
    last_beta = jax.jit(lambda schedule, x: x * schedule.betas[-1], static_argnums=0)
    assert last_beta(first, 1.0) == pytest.approx(0.2)
    assert last_beta(second, 1.0) == pytest.approx(0.3)
