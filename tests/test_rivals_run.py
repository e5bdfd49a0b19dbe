"""The rivals through the whole pipeline, at their smallest, and resumed."""

import csv

import jax
import numpy as np
import pytest
from runs import StopAfter, assert_same_weights, run, weights

from ddb_jax.training.errors import Interrupted

RIVALS = ("gce", "lff", "jtt")


@pytest.fixture
def config(tiny_config):
    tiny_config.methods = RIVALS
    tiny_config.classifier.plain_selection = "average"
    tiny_config.reference.num_steps = 4
    tiny_config.jtt.upweight = 3
    return tiny_config


def test_all_are_in_the_results(config, tmp_path):
    run(config, tmp_path)
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["method"] for row in rows} >= {*RIVALS, "jtt_reference"}
    found = {row["metric"] for row in rows if row["method"] == "jtt_reference"}
    assert {"bias_auroc", "bias_precision", "bias_recall"} <= found
    # One network of the pair is kept, and it is the shape of any other.
    kept, other = (weights(tmp_path / "seed_0/train_classifier" / m) for m in ("lff", "gce"))
    assert {k: v.shape for k, v in kept.items()} == {k: v.shape for k, v in other.items()}


def test_both_networks_and_their_memories_survive_a_stop(config, tmp_path):
    config.methods = ("lff",)
    run(config, tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(config, tmp_path / "cut", stop=StopAfter(7))
    run(config, tmp_path / "cut")
    task = "seed_0/train_classifier/lff"
    assert_same_weights(tmp_path / "whole" / task, tmp_path / "cut" / task)


def test_eight_devices_train_the_pair_as_one_does(config, tmp_path):
    config.methods = ("lff",)
    config.classifier.plain_selection = "last"
    run(config, tmp_path / "one")
    config.num_devices = 8
    run(config, tmp_path / "eight")
    task = "seed_0/train_classifier/lff"
    one, eight = (weights(tmp_path / name / task) for name in ("one", "eight"))
    for name in one:
        np.testing.assert_allclose(one[name], eight[name], atol=2e-3, err_msg=name)
    assert jax.device_count() == 8
