import numpy as np
import pytest
from gaussian_images import DDB, MU, SHAPE, STD, draw, exact_network, probability_flow, run_in_numpy

from ddb_jax.diffusion import samplers
from ddb_jax.diffusion.noise_schedule import NoiseSchedule, cosine_schedule, linear_schedule

# Timesteps


def test_uniform_timesteps_by_hand():
    assert samplers.spaced_timesteps(10, 5, "uniform").tolist() == [9, 7, 5, 3, 1]
    # Multiples of 10/4 from the noisy end: 10, 7.5, 5, 2.5, halves rounded up, less one.
    assert samplers.spaced_timesteps(10, 4, "uniform").tolist() == [9, 7, 4, 2]


def test_quadratic_timesteps_by_hand():
    # 100 (k/5)^2 for k = 5..1 is 100, 64, 36, 16, 4, less one.
    assert samplers.spaced_timesteps(100, 5, "quadratic").tolist() == [99, 63, 35, 15, 3]
    # 10 (k/6)^2 is 10, 6.9, 4.4, 2.5, 1.1, 0.3; the last ones give way to 4, 3, 2, 1.
    assert samplers.spaced_timesteps(10, 6, "quadratic").tolist() == [9, 6, 3, 2, 1, 0]


@pytest.mark.parametrize("spacing", ["uniform", "quadratic"])
@pytest.mark.parametrize("num_timesteps", [1, 7, 100, 257])
def test_timesteps_fall_strictly_from_the_noisy_end(spacing, num_timesteps):
    for num_steps in range(1, num_timesteps + 1):
        timesteps = samplers.spaced_timesteps(num_timesteps, num_steps, spacing)
        assert timesteps.shape == (num_steps,) and timesteps.dtype == np.int32
        assert timesteps[0] == num_timesteps - 1 and timesteps[-1] >= 0
        assert np.all(np.diff(timesteps) < 0)


# Tables


@pytest.mark.parametrize("variance", ["posterior", "beta"])
def test_ddpm_coefficients_are_the_product_of_two_gaussians(variance):
    # q(x_{t-1} | x_start) q(x_t | x_{t-1}): precisions add, means weigh by precision.
    schedule = linear_schedule(6, 0.05, 0.4)
    betas = np.linspace(0.05, 0.4, 6)
    table = samplers.ddpm_table(schedule, variance)
    assert table.timesteps.tolist() == [5, 4, 3, 2, 1, 0]
    for row, t in enumerate(table.timesteps[:-1]):
        before = np.prod(1 - betas[:t])
        precision = 1 / (1 - before) + (1 - betas[t]) / betas[t]
        assert table.a[row] == pytest.approx(np.sqrt(1 - betas[t]) / betas[t] / precision)
        assert table.b[row] == pytest.approx(np.sqrt(before) / (1 - before) / precision)
        expected = 1 / precision if variance == "posterior" else betas[t]
        assert table.d[row] ** 2 == pytest.approx(expected)
    last = [table.a[-1], table.b[-1], table.d[-1]]
    np.testing.assert_allclose(last, [0.0, 1.0, 0.0], atol=1e-12)
    assert not np.any(table.c)


@pytest.mark.parametrize("schedule", [DDB, cosine_schedule(64)], ids=["linear", "cosine"])
def test_ddim_with_eta_1_and_all_steps_is_ddpm(schedule):
    ddpm = samplers.ddpm_table(schedule, "posterior")
    for spacing in ("uniform", "quadratic"):
        ddim = samplers.ddim_table(schedule, schedule.num_timesteps, 1.0, spacing)
        for column, expected in zip(ddim, ddpm, strict=True):
            np.testing.assert_allclose(column, expected, rtol=1e-7, atol=1e-9)


def test_ddim_step_by_hand():
    # alphas_cumprod = [0.64, 0.36]: alpha 0.8 then 0.6, sigma 0.6 then 0.8. From t = 1 with
    # x = 0.92 and eps = 1: x_start = (0.92 - 0.8) / 0.6 = 0.2.
    schedule = NoiseSchedule(np.array([0.36, 1 - 0.36 / 0.64]))
    table = samplers.ddim_table(schedule, 2)
    assert table.a[0] * 0.92 + table.b[0] * 0.2 == pytest.approx(0.8 * 0.2 + 0.6 * 1.0)
    # eta = 1: noise variance 0.36 / 0.64 * (1 - 0.36 / 0.64) = 0.24609375, and what is left of
    # sigma^2 = 0.36 goes to eps.
    table = samplers.ddim_table(schedule, 2, eta=1.0)
    left = np.sqrt(0.36 - 0.24609375)
    assert table.d[0] ** 2 == pytest.approx(0.24609375)
    assert table.a[0] * 0.92 + table.b[0] * 0.2 == pytest.approx(0.8 * 0.2 + left * 1.0)
    np.testing.assert_allclose([table.a[1], table.b[1], table.d[1]], [0.0, 1.0, 0.0], atol=1e-12)


def test_dpmpp_2m_steps_by_hand():
    # alpha / sigma = 1/4, 1, 2 down the rows, so h = ln 4 and then ln 2, and r = 2.
    ab = np.array([4 / 5, 1 / 2, 1 / 17])
    table = samplers.dpmpp_2m_table(NoiseSchedule(1 - ab / np.append(1.0, ab[:-1])), 3)
    alpha, sigma = np.sqrt(ab), np.sqrt(1 - ab)
    x, first, second, third = 0.7, -0.4, 0.3, 0.9
    rows = list(zip(*table[1:4], strict=True))
    a, b, c = rows[0]
    expected = sigma[1] / sigma[2] * x - alpha[1] * (1 / 4 - 1) * first
    assert a * x + b * first == pytest.approx(expected)
    assert c == 0.0
    a, b, c = rows[1]
    extrapolated = second + (second - first) / 4  # 1 / (2 r)
    expected = sigma[0] / sigma[1] * x - alpha[0] * (1 / 2 - 1) * extrapolated
    assert a * x + b * second + c * first == pytest.approx(expected)
    a, b, c = rows[2]
    assert a * x + b * third + c * second == pytest.approx(third)
    assert not np.any(table.d)


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m"])
def test_one_step_is_the_estimate_of_the_clean_image(name):
    table = samplers.make_table(name, DDB, 1)
    assert table.timesteps.tolist() == [999]
    np.testing.assert_allclose([table.a[0], table.b[0], table.c[0], table.d[0]], [0, 1, 0, 0])


def test_make_table_chooses_by_name():
    def same(table, expected):
        for column, other in zip(table, expected, strict=True):
            np.testing.assert_array_equal(column, other)

    same(samplers.make_table("ddpm", DDB, 0), samplers.ddpm_table(DDB))
    same(samplers.make_table("ddpm", DDB, 1000, variance="beta"), samplers.ddpm_table(DDB, "beta"))
    same(samplers.make_table("ddim", DDB, 7, 0.5), samplers.ddim_table(DDB, 7, 0.5, "uniform"))
    same(samplers.make_table("dpmpp_2m", DDB, 7), samplers.dpmpp_2m_table(DDB, 7, "quadratic"))
    same(
        samplers.make_table("dpmpp_2m", DDB, 7, spacing="uniform"),
        samplers.dpmpp_2m_table(DDB, 7, "uniform"),
    )
    for name in ("ddim", "dpmpp_2m"):
        assert all(len(column) == 7 for column in samplers.make_table(name, DDB, 7))


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        (("euler", 10), {}, "'euler'.*ddpm, ddim, dpmpp_2m"),
        (("ddpm", 50), {}, "all 1000 steps, not 50"),
        (("ddim", 0), {}, r"is 0, it must be 1 to 1000"),
        (("dpmpp_2m", 1001), {}, r"is 1001, it must be 1 to 1000"),
        (("dpmpp_2m", 10), {"eta": 0.5}, "only the sampler ddim"),
        (("ddim", 10), {"eta": -1.0}, "eta is -1"),
        (("ddim", 10), {"spacing": "cubic"}, "'cubic'.*uniform, quadratic"),
        (("ddpm", 0), {"variance": "learned"}, "'learned'.*posterior, beta"),
    ],
)
def test_bad_tables_are_refused(args, options, message):
    name, num_steps = args
    with pytest.raises(ValueError, match=message):
        samplers.make_table(name, DDB, num_steps, **options)


# Accuracy on Gaussian data, where everything is known


def relative_error(table, schedule, std=STD):
    # The map from x_T to x_0 is affine; its slope is compared with the flow's.
    ends = np.array([-1.0, 1.0])
    slope = np.diff(run_in_numpy(table, schedule, ends, MU, std))
    return (slope / np.diff(probability_flow(schedule, ends, MU, std)) - 1).item()


@pytest.mark.parametrize(
    ("table_of", "order"),
    [(samplers.ddim_table, 1), (samplers.dpmpp_2m_table, 2)],
    ids=["ddim", "dpmpp_2m"],
)
@pytest.mark.parametrize("std", [0.5, 2.0])
def test_order_of_convergence_to_the_probability_flow(table_of, order, std):
    # 10,000 timesteps, so that rounding to a timestep plays no part.
    schedule = linear_schedule(10_000, 1e-5, 2.8e-3)
    errors = [abs(relative_error(table_of(schedule, n), schedule, std)) for n in (20, 40, 80, 160)]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(orders, order, atol=0.2)


def test_quadratic_spacing_keeps_faint_detail():
    # Detail of standard deviation 0.1 in 20 steps: uniform spacing jumps to the clean image from
    # t = 49, where sigma is 0.2, so the estimate there has lost most of it.
    uniform = samplers.dpmpp_2m_table(DDB, 20, "uniform")
    quadratic = samplers.dpmpp_2m_table(DDB, 20, "quadratic")
    assert relative_error(uniform, DDB, 0.1) < -0.4
    assert abs(relative_error(quadratic, DDB, 0.1)) < 0.05


@pytest.mark.parametrize(
    ("name", "num_steps", "tolerance"), [("ddim", 200, 0.03), ("dpmpp_2m", 20, 0.03)]
)
def test_deterministic_samplers_follow_the_probability_flow(name, num_steps, tolerance):
    # On the slope: in float64, 2M with 20 steps is 2.4 % off and DDIM with 200 steps 1.7 %.
    start = []

    def network(x, t, labels):
        start.append(x)
        return exact_network(DDB)(x, t, labels)

    table = samplers.make_table(name, DDB, num_steps)
    one = table._replace(**{key: value[:1] for key, value in table._asdict().items()})
    draw(DDB, one, 32, network=network, eager=True)
    x_end = np.asarray(draw(DDB, table, 32))
    expected = probability_flow(DDB, np.asarray(start[0], np.float64))
    np.testing.assert_allclose(x_end - MU, expected - MU, rtol=tolerance, atol=2e-3)
    np.testing.assert_allclose(
        x_end, run_in_numpy(table, DDB, np.asarray(start[0], np.float64)), atol=1e-3
    )


@pytest.mark.parametrize(
    ("name", "num_steps", "eta"),
    [("ddpm", 0, 0.0), ("ddim", 250, 0.0), ("ddim", 250, 1.0), ("dpmpp_2m", 20, 0.0)],
)
def test_samples_have_the_mean_and_variance_of_the_data(name, num_steps, eta):
    # 2,500 images of 4 pixels: the mean is known to 0.5 / 100 = 0.005 and the standard deviation to
    # 0.71 %; four of these, and 2.5 % for the finite number of steps.
    table = samplers.make_table(name, DDB, num_steps, eta)
    x = np.asarray(draw(DDB, table, 2500))
    assert x.shape == (2500, *SHAPE) and x.dtype == np.float32
    assert x.mean() == pytest.approx(MU, abs=0.02)
    assert x.std() == pytest.approx(STD, rel=0.055)
    # Pixels and images are independent.
    pixels = x.reshape(2500, 4)
    off_diagonal = np.corrcoef(pixels.T)[~np.eye(4, dtype=bool)]
    assert np.all(np.abs(off_diagonal) < 4.5 / np.sqrt(2500))
    assert abs(np.corrcoef(pixels[:-1, 0], pixels[1:, 0])[0, 1]) < 4.5 / np.sqrt(2500)


def test_larger_variance_of_ddpm_ends_in_the_same_place():
    x = np.asarray(draw(DDB, samplers.ddpm_table(DDB, "beta"), 2500))
    assert x.mean() == pytest.approx(MU, abs=0.02)
    assert x.std() == pytest.approx(STD, rel=0.055)
