"""The estimate of a run's cost against operations counted by hand."""

import re

import jax
import jax.numpy as jnp
import pytest

from ddb_jax.configs import digits, digits_diffubias
from ddb_jax.data.datasets import load_dataset
from ddb_jax.run.cost import (
    Cost,
    describe_costs,
    estimate_costs,
)
from ddb_jax.run.plan import plan
from ddb_jax.stages.costs import classifier_operations
from ddb_jax.stages.operations import count_operations
from ddb_jax.training.mesh import make_mesh


@pytest.fixture(scope="module")
def costs():
    c = digits.get_config("smoke")
    c.methods = ("erm", "ddb_ii", "disent", "softcon")
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
    # A step is three passes.
    train = 3 * 30 * 16 * mlp(8) + 3 * 270 * mlp(8)
    found = costs["seed_0/train_classifier/erm"]
    assert found.operations == pytest.approx(train, rel=1e-6)
    assert found.work == "30 steps of 16 at 8 px, 3 passes over validation"
    assert costs["seed_0/evaluate/erm"].operations == pytest.approx(450 * mlp(8), rel=1e-6)
    amplifier = costs["seed_0/train_amplifier/synthetic"].operations
    assert amplifier == pytest.approx(3 * 30 * 16 * mlp(4), rel=1e-6)
    assert costs["seed_0/score/synthetic"].operations / amplifier == pytest.approx(
        (1077 + 270) / (3 * 30 * 16)
    )


def test_methods_of_several_networks_or_views_cost_so_much_more(costs):
    validation = 3 * 270 * mlp(8)
    for method in ("disent", "softcon"):  # two encoders; one network on two views
        found = costs[f"seed_0/train_classifier/{method}"]
        assert found.operations == pytest.approx(2 * 3 * 30 * 16 * mlp(8) + validation, rel=1e-6)
        assert "2 networks or views" in found.work


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


def test_operations_of_a_convolution_and_a_product_by_hand():
    # 3x3 convolution of 8x8 to 4x4 pixels, 5 to 7 channels; then [4*4*7] x [112, 6].
    def function(x, kernel, weights):
        y = jax.lax.conv_general_dilated(
            x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jax.jit(lambda y: y.reshape(2, -1) @ weights)(y)

    shapes = [(2, 8, 8, 5), (3, 3, 5, 7), (112, 6)]
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    expected = 2 * 2 * 4 * 4 * 7 * 3 * 3 * 5 + 2 * 2 * 112 * 6
    assert count_operations(function, *arguments) == expected


def test_resnet18_at_224_pixels_is_the_published_count():
    # He et al. 2015, table 1: 1.8 billion multiply-adds.
    section = digits.get_config().classifier
    section.network, section.width, section.stem = "resnet18", 64, "imagenet"
    assert classifier_operations(section, 1000, 224) / 2 == pytest.approx(1.8e9, rel=0.02)


def test_nothing_ahead_costs_nothing():
    assert estimate_costs(None, [], None, None) == []


def test_generated_images_are_counted_by_their_passes():
    c = digits_diffubias.get_config("smoke")
    c.methods = ("diffubias", "steered", "rebalanced", "rejection")
    c.classifier.network, c.amplifier.network = "mlp", "mlp"
    c.text_to_image.num_steps, c.text_to_image.guidance_scale = 7, 3.0
    c.generated.ratio, c.steering.guidance_scale, c.synthesis.num_steps = 0.5, 2.0, 6
    dataset = load_dataset(c.data, 16)
    costs = {cost.name: cost for cost in estimate_costs(c, plan(c, True), dataset, dataset)}
    operations = {name.removeprefix("seed_0/"): cost.operations for name, cost in costs.items()}
    images = round(0.5 * len(dataset.train))
    own = c.train_text_to_image.diffusion
    # Two branches of guidance a step; a training step is three passes.
    assert operations["draw/diffubias"] / operations["train_text_to_image"] == pytest.approx(
        images * 7 * 2 / (3 * own.num_steps * own.batch_size)
    )
    assert operations["steer/rejection"] / operations["train_diffusion"] == pytest.approx(
        images * 6 / (3 * c.diffusion.num_steps * c.diffusion.batch_size)
    )
    assert operations["steer/steered"] == pytest.approx(2 * operations["steer/rejection"])
    assert operations["steer/rebalanced"] == pytest.approx(4 * operations["steer/rejection"])
