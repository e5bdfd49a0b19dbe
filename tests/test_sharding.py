"""One device and eight emulated ones: the same batches, images and, to rounding, the same steps."""

import json

import numpy as np
import pytest
from runs import make_tiny_config, run

from ddb_jax.data.image_records import load_records
from ddb_jax.training.files import read_json

METHODS = ("erm", "ddb_i", "ddb_ii", "group_dro")
STAGES = ("train_diffusion", "synthesize", "train_amplifier", "score", "train_classifier")


@pytest.fixture(scope="module")
def pair(finished_run, tmp_path_factory):
    """Work directories of a tiny run on one device and, of its training stages, on eight."""
    config, workdir = make_tiny_config(), tmp_path_factory.mktemp("eight")
    config.num_devices = 8
    config.methods = METHODS
    config.amplifier.compare = False
    for stage in STAGES:
        run(config, workdir, only=stage)
    return finished_run, workdir


def losses(path):
    return [json.loads(line)["loss"] for line in path.read_text().splitlines() if "loss" in line]


@pytest.mark.parametrize("task", ["train_diffusion", "train_amplifier/synthetic"])
def test_training_losses(pair, task):
    one, eight = (losses(d / "seed_0" / task / "metrics.jsonl") for d in pair)
    assert len(one) == len(eight) > 0
    np.testing.assert_allclose(one, eight, rtol=2e-3)


@pytest.mark.parametrize("method", METHODS)
def test_classifier_losses(pair, method):
    task = f"seed_0/train_classifier/{method}/metrics.jsonl"
    one, eight = (losses(d / task) for d in pair)
    # The first logged mean holds steps that start from equal weights.
    np.testing.assert_allclose(one, eight, rtol=5e-3)


def test_synthetic_images(pair):
    """Equal but for rounding at the border of two grey levels."""
    images = []
    for workdir in pair:
        folder = workdir / "seed_0/synthesize"
        shards = read_json(folder / "manifest.json")["shards"]
        images.append(load_records([folder / s for s in shards], (8, 8, 3)).images.astype(int))
    difference = np.abs(images[0] - images[1])
    assert images[0].std() > 10
    assert difference.max() <= 3 and np.mean(difference > 0) < 0.1
