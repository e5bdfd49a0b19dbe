"""A stage that was stopped and resumed ends with the very bits of one that ran through."""

import pytest
from runs import StopAfter, assert_same_weights, run, upstream_of

from ddb_jax.runtime.errors import Interrupted
from ddb_jax.runtime.files import read_json


def interrupt_and_resume(config, workdir, task, questions):
    with pytest.raises(Interrupted) as stopped:
        run(config, workdir, StopAfter(questions), only=task)
    assert stopped.value.exit_code == 143
    assert not (workdir / task / "done.json").exists()
    run(config, workdir, only=task)
    assert (workdir / task / "done.json").exists()


def test_train_diffusion(tiny_config, finished_run, tmp_path):
    task = "seed_0/train_diffusion"
    interrupt_and_resume(tiny_config, tmp_path, task, 5)
    assert_same_weights(finished_run / task, tmp_path / task)
    metrics = [(d / task / "metrics.jsonl").read_text() for d in (finished_run, tmp_path)]
    steps = [line.split(",")[0] for line in metrics[1].splitlines()]
    assert len(steps) == len(set(steps)), "a step stands in metrics.jsonl twice"


def test_synthesize(tiny_config, finished_run, tmp_path):
    task = "seed_0/synthesize"
    upstream_of(finished_run, tmp_path, "train_diffusion")
    interrupt_and_resume(tiny_config, tmp_path, task, 4)
    manifest = read_json(finished_run / task / "manifest.json")
    assert len(manifest["shards"]) == 3
    for name in manifest["shards"]:
        assert (finished_run / task / name).read_bytes() == (tmp_path / task / name).read_bytes()


def test_train_amplifier_and_scores(tiny_config, finished_run, tmp_path):
    task = "seed_0/train_amplifier/synthetic"
    upstream_of(finished_run, tmp_path, "train_diffusion", "synthesize")
    interrupt_and_resume(tiny_config, tmp_path, task, 5)
    assert_same_weights(finished_run / task, tmp_path / task)
    scores = "seed_0/score/synthetic"
    run(tiny_config, tmp_path, only=scores)
    left, right = (d / scores / "scores.csv" for d in (finished_run, tmp_path))
    assert left.read_bytes() == right.read_bytes()


@pytest.mark.parametrize("method", ["erm", "ddb_i", "ddb_ii", "group_dro"])
def test_train_classifier(tiny_config, finished_run, tmp_path, method):
    task = f"seed_0/train_classifier/{method}"
    upstream_of(finished_run, tmp_path, "train_diffusion", "synthesize", "train_amplifier", "score")
    interrupt_and_resume(tiny_config, tmp_path, task, 5)
    assert_same_weights(finished_run / task, tmp_path / task)
    left, right = (read_json(d / task / "selection.json") for d in (finished_run, tmp_path))
    assert left == right
