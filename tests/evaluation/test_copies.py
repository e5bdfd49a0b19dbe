"""The test for copies of training images against brute force, and on coloured digits."""

import numpy as np
import pytest

from ddb_jax.data.sets.digits import load_coloured_digits
from ddb_jax.evaluation.copies import copies


def brute_force(generated, training, ratio, neighbours):
    """Sorted lists of all distances, one by one."""
    verdicts, nearest, distances, relative = [], [], [], []
    for image in generated.astype(float):
        all_distances = [float(np.sqrt(np.sum((image - y) ** 2))) for y in training.astype(float)]
        order = sorted(range(len(training)), key=all_distances.__getitem__)
        mean = float(np.mean([all_distances[i] for i in order[:neighbours]]))
        first = all_distances[order[0]]
        # Below ratio * mean, and where all of them are the same image.
        verdicts.append(first < ratio * mean or first == 0)
        nearest.append(order[0])
        distances.append(first)
        relative.append(first / mean if mean else 0.0)
    return verdicts, nearest, distances, relative


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("neighbours", [1, 5, 40])
def test_agrees_with_brute_force(dtype, neighbours):
    rng = np.random.default_rng(neighbours)
    training = rng.integers(0, 256, (60, 12)).astype(dtype)
    near = training[:20] + rng.integers(0, 2, (20, 12)) * np.linspace(0, 60, 20)[:, None]
    generated = np.concatenate([near.clip(0, 255), rng.integers(0, 256, (13, 12))]).astype(dtype)
    found = copies(generated, training, 0.7, neighbours, chunk_size=7)
    verdicts, nearest, distances, relative = brute_force(generated, training, 0.7, neighbours)
    assert found.is_copy.tolist() == verdicts and 0 < sum(verdicts) < len(verdicts)
    assert found.nearest.tolist() == nearest
    np.testing.assert_allclose(found.distance, distances, rtol=1e-12, atol=0)
    np.testing.assert_allclose(found.relative, relative, rtol=1e-12, atol=0)


def test_small_distances_far_from_zero_are_not_lost_to_rounding():
    # |x|^2 is 10^8 times 3, so that |x|^2 - 2 x.y + |y|^2 alone knows distances to about 6 at best.
    training = np.full((40, 3), 10_000.0, np.float32)
    training[:, 0] += np.arange(40)
    found = copies(training[:5] + np.float32(0.25), training, neighbours=3)
    assert found.nearest.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(found.distance, np.full(5, np.sqrt(3) / 4))


def test_by_hand():
    training = np.array([[0.0, 0], [0, 3], [4, 0], [100, 100]])
    # To the nearest three of (0, 1): 1, 2 and sqrt(17), mean 2.374; 1 / 2.374 is 0.421.
    found = copies(np.array([[0.0, 1]]), training, 0.42, 3)
    assert not found.is_copy[0] and found.nearest[0] == 0 and found.distance[0] == 1
    assert found.relative[0] == pytest.approx(3 / (3 + np.sqrt(17)))
    assert copies(np.array([[0.0, 1]]), training, 0.43, 3).is_copy[0]
    # More neighbours than there are images: all four.
    far = np.hypot(100, 99)
    all_four = copies(np.array([[0.0, 1]]), training, 0.5, 50)
    assert all_four.relative[0] == pytest.approx(4 / (3 + np.sqrt(17) + far))


def test_a_copy_of_an_image_that_is_there_many_times_is_one():
    training = np.full((6, 4), 7, np.uint8)
    found = copies(training[:1], training, neighbours=3)
    assert found.is_copy.tolist() == [True] and found.relative.tolist() == [0.0]


def test_no_generated_image():
    found = copies(np.zeros((0, 4), np.uint8), np.ones((3, 4), np.uint8))
    assert [len(part) for part in found] == [0, 0, 0, 0]


def test_copied_digits_are_found_and_held_out_ones_are_not():
    digits = load_coloured_digits(image_size=8)
    training = digits.train.images.reshape(len(digits.train), -1)
    held_out = digits.test.images.reshape(len(digits.test), -1)
    noise = np.random.default_rng(0).normal(0, 8, training[:100].shape)
    noised = (training[:100] + noise).clip(0, 255).astype(np.uint8)
    # Of one digit in one colour there are about 100.
    assert copies(training[:100], training, neighbours=10).is_copy.all()
    assert copies(noised, training, neighbours=10).is_copy.mean() > 0.95
    assert copies(held_out, training, neighbours=10).is_copy.mean() < 0.03


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"training": np.zeros((3, 5))}, r"not \(2, 4\) and \(3, 5\)"),
        ({"generated": np.zeros(4)}, r"not \(4,\) and \(3, 4\)"),
        ({"training": np.zeros((0, 4))}, "0 training images"),
        ({"ratio": 0.0}, "ratio is 0.0"),
        ({"neighbours": 0}, "neighbours 0"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    arguments = {"generated": np.zeros((2, 4)), "training": np.zeros((3, 4)), **change}
    with pytest.raises(ValueError, match=message):
        copies(**arguments)
