"""The README's run in full: about four minutes on two cores, hence marked slow."""

import csv

import pytest
from runs import run

from ddb_jax.configs import digits
from ddb_jax.runtime.files import read_json


@pytest.mark.slow
def test_digits_are_debiased(tmp_path):
    config = digits.get_config()
    config.num_devices = 1
    run(config, tmp_path)
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    value = {(row["method"], row["metric"]): float(row["value"]) for row in rows}
    conflicting = {m: value[m, "conflicting_accuracy"] for m in config.methods}
    gap = conflicting["group_dro"] - conflicting["erm"]
    assert gap >= 0.25, conflicting
    for method in ("ddb_i", "ddb_ii"):
        assert conflicting[method] - conflicting["erm"] >= 0.8 * gap, conflicting
    synthetic, real = (value[f"amplifier_{k}", "bias_auroc"] for k in ("synthetic", "real"))
    assert synthetic >= 0.98 and synthetic > real
    share = read_json(tmp_path / "seed_0/measure_synthesis/aligned_share.json")
    assert share["aligned_share"] >= share["aligned_share_of_train"]
