"""What a classifier's training is built of, and that its memory is estimated from the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddb_jax.checks.methods import example_method
from ddb_jax.debias.contract import MAIN, NetworkSpec, plain
from ddb_jax.stages.common.classifier_build import build_training
from ddb_jax.stages.common.compiled_steps import compile_classifier_step
from ddb_jax.stages.common.networks import build_network, init_variables
from ddb_jax.training.mesh import make_mesh

SIDE, NUM_CLASSES = 8, 3
KEY = jax.random.key(7)


@pytest.fixture
def settings(tiny_config):
    tiny_config.classifier.network = "mlp"
    return tiny_config.classifier


def fresh(kind, settings, key):
    return init_variables(build_network(kind, settings, NUM_CLASSES, SIDE), key, SIDE)["params"]


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_first_weights_are_drawn_from_a_key_for_each_network(tiny_config, settings):
    """Plain training and the debiased network of LfF start alike."""
    one = build_training(settings, NUM_CLASSES, SIDE, plain()).init(KEY)
    assert_same(one.params, fresh("classifier", settings, KEY))
    lff = example_method(tiny_config, "lff")
    pair = build_training(settings, NUM_CLASSES, SIDE, lff).init(KEY)
    assert pair.params.keys() == {"main", "biased"}
    assert_same(pair.params["main"], one.params)
    second = jax.random.fold_in(KEY, 1)
    assert_same(pair.params["biased"], fresh("classifier", settings, second))
    assert np.any(pair.params["biased"]["head"]["kernel"] != one.params["head"]["kernel"])


def test_networks_take_over_a_file_and_further_ones_keep_their_head(tiny_config, settings):
    lff = example_method(tiny_config, "lff")
    file = {"params": fresh("classifier", settings, jax.random.key(9))}
    params = build_training(settings, NUM_CLASSES, SIDE, lff).init(KEY, file).params
    assert_same(params["main"], file["params"])
    own = fresh("classifier", settings, jax.random.fold_in(KEY, 1))
    assert_same(params["biased"], {**file["params"], "head": own["head"]})


def test_a_single_network_may_be_of_another_kind(settings):
    method = plain(networks={MAIN: NetworkSpec("small_receptive_field")})
    training = build_training(settings, NUM_CLASSES, SIDE, method)
    assert_same(training.init(KEY).params, fresh("small_receptive_field", settings, KEY))


@pytest.mark.parametrize("num_scores", [0, 2])
def test_the_weights_that_validation_prefers_are_those_of_the_main_network(
    num_scores, tiny_config, settings
):
    lff = example_method(tiny_config, "lff")
    training = build_training(settings, NUM_CLASSES, SIDE, lff, num_scores=num_scores)
    selected = training.init(KEY).selected
    if not num_scores:
        assert selected == {}
        return
    assert_same(selected["params"], fresh("classifier", settings, KEY))
    assert selected["score"].shape == (2,)


@pytest.mark.parametrize("name", ["erm", "group_dro", "lff", "softcon"])
def test_the_memory_estimated_is_that_of_the_step_that_runs(name, tiny_config, settings):
    """The estimate's program takes the state, the batch and the key that the step takes."""
    method = example_method(tiny_config, name)
    shape = (SIDE, SIDE, 3)
    compiled = compile_classifier_step(
        settings, NUM_CLASSES, shape, make_mesh(1), method, num_scores=1
    )
    training = build_training(settings, NUM_CLASSES, SIDE, method, num_scores=1)
    state = jax.eval_shape(training.init, KEY)
    (estimated, batch, key), options = compiled.args_info
    assert options == {} and key.shape == ()
    assert jax.tree.structure(estimated) == jax.tree.structure(state)
    for found, expected in zip(jax.tree.leaves(estimated), jax.tree.leaves(state), strict=True):
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype) and found.donated
    size = settings.batch_size
    assert batch.keys() == {"image", "label", "bias", "index", *method.columns}
    assert batch["image"].shape == (size, *shape) and batch["image"].dtype == jnp.uint8
