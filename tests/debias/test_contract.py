"""All methods answer the same questions, whatever kind they are of."""

import jax.numpy as jnp
import numpy as np
import pytest

from ddb_jax.configs import digits
from ddb_jax.debias.contract import MAIN, SAMPLINGS, plain
from ddb_jax.debias.table import METHODS
from ddb_jax.stages.common.example_method import example_method, passes_of

# Methods that compare the images of a batch, or networks on them.
WHOLE_BATCH = {
    "bias_con", "debian", "disent", "disent+be", "disent+ddb", "lff", "lff+be", "rebias",
    "selecmix", "selecmix+ddb", "softcon",
}  # fmt: skip
TWO_VIEWS = {"bias_con", "softcon"}


@pytest.mark.parametrize("name", METHODS)
def test_what_every_method_answers(name):
    entry, method = METHODS[name], example_method(digits.get_config("smoke"), name)
    assert MAIN in method.networks
    assert method.needs_whole_batch == (name in WHOLE_BATCH)
    assert method.views == (2 if name in TWO_VIEWS else 1)
    if entry.stage == "train_classifier":
        assert method.sampling in SAMPLINGS
        assert method.repeats is None or name.startswith("jtt")


def test_passes_of_a_step_are_counted_over_networks_and_views():
    config = digits.get_config("smoke")
    # Two networks; two encoders of one; two views; a network of a small receptive field is none.
    expected = {"erm": 1, "dfr": 1, "lff": 2, "disent": 2, "softcon": 2, "rebias": 1}
    assert {name: passes_of(example_method(config, name)) for name in expected} == expected


def test_a_method_runs_its_network_by_itself():
    """Logits are adjusted, their losses summed by hand, and the network's own accuracy told."""
    logits = jnp.array([[0.0, 0.0], [0.0, 4.0], [4.0, 0.0]])
    batch = {"x": "images", "label": jnp.array([0, 1, 1]), "shift": jnp.array([[np.log(3.0), 0.0]])}
    seen = []

    def network(name, x):
        seen.append((name, x))
        return logits, None

    def loss(losses, state, batch):
        return losses[0], {"step": state["step"] + 1}, {"first": losses[0]}

    method = plain(loss=loss, adjust_logits=lambda logits, batch: logits + batch["shift"])
    value, state, metrics = method.loss_of_networks(network, {"step": 4}, batch, None)
    assert seen == [(MAIN, "images")]
    assert float(value) == pytest.approx(-np.log(3 / 4), rel=1e-6)
    assert state == {"step": 5}
    assert list(metrics) == ["train_accuracy", "first"]
    assert float(metrics["train_accuracy"]) == pytest.approx(2 / 3)
