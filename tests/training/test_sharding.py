"""One device, eight, and eight of which four share a state: every stage of a run gives the same.

Batches and random numbers are equal, sums are taken in another order.
"""

import json

import numpy as np
import pytest
from runs import make_tiny_config, run

from ddb_jax.data.images.records import load_records
from ddb_jax.runtime.files import read_json
from ddb_jax.stages.common.scores_table import read_scores

METHODS = {
    "eight": ("erm", "ddb_i", "ddb_ii", "group_dro"),
    "split": ("ddb_ii",),
    "whole": ("ddb_ii",),
}
STAGES = (
    "train_diffusion", "synthesize", "measure_synthesis", "train_amplifier", "score",
    "train_classifier", "evaluate",
)  # fmt: skip


@pytest.fixture(
    scope="module", params=["eight", "split", pytest.param("whole", marks=pytest.mark.slow)]
)
def pair(request, finished_run, tmp_path_factory):
    """The methods and the work directories of a tiny run on one device and on eight.

    "split" shares a state between four devices. "whole" does so with a whole ResNet-8 and a UNet
    that goes down and up again and attends, on one device too.
    """
    name, one = request.param, finished_run
    config, workdir = make_tiny_config(), tmp_path_factory.mktemp(name)
    config.methods = METHODS[name]
    config.amplifier.compare = False
    if name == "whole":
        config.unet.channel_mults, config.unet.attention_resolutions = (1, 2), (8, 4)
        one = tmp_path_factory.mktemp("one")
        for stage in STAGES:
            run(config, one, only=stage, whole_networks=True)
    config.num_devices, config.fsdp = 8, 1 if name == "eight" else 4
    for stage in STAGES:
        run(config, workdir, only=stage, whole_networks=name == "whole")
    return config.methods, one, workdir


def losses(path):
    return [json.loads(line)["loss"] for line in path.read_text().splitlines() if "loss" in line]


def test_training_losses(pair):
    methods, one, eight = pair
    # Of a classifier the first logged mean holds steps that start from equal weights.
    tolerances = {"train_diffusion": 2e-3, "train_amplifier/synthetic": 2e-3} | {
        f"train_classifier/{method}": 5e-3 for method in methods
    }
    for task, rtol in tolerances.items():
        a, b = (losses(d / "seed_0" / task / "metrics.jsonl") for d in (one, eight))
        assert len(a) == len(b) > 0
        np.testing.assert_allclose(a, b, rtol=rtol, err_msg=task)


def test_synthetic_images(pair):
    """Equal but for rounding at the border of two grey levels."""
    images = []
    for workdir in pair[1:]:
        folder = workdir / "seed_0/synthesize"
        shards = read_json(folder / "manifest.json")["shards"]
        images.append(load_records([folder / s for s in shards], (8, 8, 3)).images.astype(int))
    difference = np.abs(images[0] - images[1])
    assert images[0].std() > 10
    assert difference.max() <= 3 and np.mean(difference > 0) < 0.1


def test_scores(pair):
    """Every image's loss, in the same order; the last batch is not a whole one."""
    one, eight = (read_scores(d / "seed_0/score/synthetic/scores.csv") for d in pair[1:])
    np.testing.assert_array_equal(one["index"], eight["index"])
    assert len(one["loss"]) % 256 and one["loss"].std() > 0.01
    np.testing.assert_allclose(one["loss"], eight["loss"], rtol=0.02)


def test_evaluation(pair):
    methods, *workdirs = pair
    for method in methods:
        one, eight = (
            read_json(d / f"seed_0/evaluate/{method}/metrics.json")["metrics"] for d in workdirs
        )
        assert one.keys() == eight.keys()
        assert eight["average_accuracy"] == pytest.approx(one["average_accuracy"], abs=0.02)
        assert eight["cross_entropy"] == pytest.approx(one["cross_entropy"], rel=0.01)
