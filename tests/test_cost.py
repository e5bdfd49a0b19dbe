"""The estimate of a run's cost against operations counted by hand."""

import re

import pytest

from configs import digits
from ddb_jax.cost import Cost, describe_costs, estimate_costs
from ddb_jax.data.datasets import load_dataset
from ddb_jax.plan import plan
from ddb_jax.training.mesh import make_mesh


@pytest.fixture(scope="module")
def costs():
    c = digits.get_config("smoke")
    c.methods = ("erm", "ddb_ii")
    c.amplifier.compare = False
    for section in (c.amplifier, c.classifier):
        section.network, section.width = "mlp", 10
        section.num_steps, section.batch_size = 30, 16
    c.amplifier.image_size = 4  # enlarged or cropped on the way in, not counted
    c.classifier.image_size, c.classifier.evaluate_every = 8, 10
    c.diffusion.image_size = 8
    c.synthesis.images_per_class, c.synthesis.num_steps = 6, 5
    dataset = load_dataset(c.data, 8)
    return {cost.name: cost for cost in estimate_costs(c, plan(c, True), dataset, dataset)}


def mlp(side):
    """Multiplications and additions of the three hidden layers of 10 and the head."""
    return 2 * (3 * side**2 * 10 + 10 * 10 + 10 * 10 + 10 * 10)


def test_classifiers_are_counted_by_hand(costs):
    # A step is three passes; biases and activations are a few per cent at this size.
    train = 3 * 30 * 16 * mlp(8) + 3 * 270 * mlp(8)
    found = costs["seed_0/train_classifier/erm"]
    assert found.operations == pytest.approx(train, rel=0.15)
    assert found.work == "30 steps of 16 at 8 px, 3 passes over validation"
    assert costs["seed_0/evaluate/erm"].operations == pytest.approx(450 * mlp(8), rel=0.15)
    amplifier = costs["seed_0/train_amplifier/synthetic"].operations
    assert amplifier == pytest.approx(3 * 30 * 16 * mlp(4), rel=0.35)
    assert costs["seed_0/score/synthetic"].operations / amplifier == pytest.approx(
        (1077 + 270) / (3 * 30 * 16)
    )


def test_sampling_takes_two_passes_a_step_under_guidance(costs):
    # 60 images, 5 steps of 2 passes, against 20 steps of 32 images of 3 passes.
    ratio = costs["seed_0/synthesize"].operations / costs["seed_0/train_diffusion"].operations
    assert ratio == pytest.approx(60 * 10 / (20 * 32 * 3))
    assert "report" not in costs


def test_table_gives_every_task_and_the_sum():
    text = describe_costs([Cost("a", "some", 1e9), Cost("long/name", "more", 3e9)], make_mesh(1))
    lines = text.splitlines()
    assert len(lines) == 4 and re.search(r"a +1\.0e\+09 +about .* \(some\)", lines[1])
    assert re.search(r"all +4\.0e\+09 +about", lines[3])
