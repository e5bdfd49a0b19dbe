"""Real processes on loopback: two and four run a tiny digits pipeline as one process does."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from runs import make_perceptron_config, run, upstream_of

from ddb_jax.data.images.records import load_records
from ddb_jax.main import main
from ddb_jax.runtime.files import read_json
from ddb_jax.training.metric_writer import read_metrics

ROOT = Path(__file__).parents[2]
CONFIG = """
from runs import make_perceptron_config


def get_config(preset=""):
    config = make_perceptron_config()
    config.num_devices = 0
    return config
"""
TIMEOUT = 900  # seconds, for all processes of a run, beside other tests


@pytest.fixture(scope="module")
def launch(tmp_path_factory):
    """Starts a run of several processes: (workdir, count, *arguments) -> their Popen objects."""
    folder = tmp_path_factory.mktemp("processes")
    (folder / "config.py").write_text(CONFIG)
    started = []

    def start(workdir, count, *arguments):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "ddb_jax.main", f"--config={folder / 'config.py'}"]
        command += [f"--workdir={workdir}", *arguments]
        environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
            "PYTHONUNBUFFERED": "1",
            "JAX_PLATFORMS": "cpu",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",
            "XDG_CACHE_HOME": str(folder / "cache"),
        }
        together = [f"--coordinator=127.0.0.1:{port}", f"--num_processes={count}"]
        processes = [
            subprocess.Popen(
                [*command, *([*together, f"--process_id={i}"] if count > 1 else [])],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for i in range(count)
        ]
        started.extend(processes)
        return processes

    yield start
    for process in started:
        process.kill()


def finish(processes):
    """Wait for all; returns (status, stdout, stderr) of each."""
    outputs = [process.communicate(timeout=TIMEOUT) for process in processes]
    return [(p.returncode, *output) for p, output in zip(processes, outputs, strict=True)]


@pytest.fixture(scope="module")
def alone(finished_run, tmp_path_factory):
    """The work directory of the run by one process, which is this one."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    upstream_of(finished_run, workdir, "train_diffusion", "synthesize")
    run(make_perceptron_config(), workdir)
    return workdir


def images(workdir):
    folder = workdir / "seed_0/synthesize"
    shards = read_json(folder / "manifest.json")["shards"]
    return load_records([folder / shard for shard in shards], (8, 8, 3)).images.astype(int)


def accuracies(workdir):
    with (workdir / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = [f"{name}_accuracy" for name in ("average", "unbiased", "aligned", "conflicting")]
    return {(r["method"], r["metric"]): float(r["value"]) for r in rows if r["metric"] in names}


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_several_processes_give_what_one_gives(launch, alone, tmp_path, count):
    workdir = tmp_path / "run"
    results = finish(launch(workdir, count))
    assert [status for status, _, _ in results] == [0] * count, results[-1][2]
    # One process speaks for all.
    assert "finished in" in results[0][1]
    assert [out for _, out, _ in results[1:] if "train" in out] == []

    stages = sorted(path.relative_to(alone) for path in alone.rglob("metrics.jsonl"))
    assert len(stages) >= 5
    for stage in stages:
        one, several = (read_metrics(folder / stage) for folder in (alone, workdir))
        # Equal steps, each once: no other process wrote to the file.
        assert [row["step"] for row in one] == [row["step"] for row in several]
        for a, b in zip(one, several, strict=True):
            assert a.keys() == b.keys()
            if "loss" in a:
                assert b["loss"] == pytest.approx(a["loss"], rel=5e-3), stage
    difference = np.abs(images(alone) - images(workdir))
    assert difference.max() <= 3 and np.mean(difference > 0) < 0.1
    one, several = accuracies(alone), accuracies(workdir)
    assert one.keys() == several.keys() and len(one) == 8
    for key, value in one.items():
        assert several[key] == pytest.approx(value, abs=0.02), key
    # Nothing half written, nothing of another process.
    assert not [
        path for path in workdir.rglob("*") if ".tmp" in path.name or ".partial" in path.name
    ]
    assert json.loads((workdir / "seed_0/score/synthetic/done.json").read_text())[
        "device"
    ].startswith(f"{count} x ")


NUM_STEPS, LOG_EVERY = 60, 2
LONG = (
    "--stage=train_diffusion",
    f"--config.diffusion.num_steps={NUM_STEPS}",
    f"--config.diffusion.log_every={LOG_EVERY}",
    "--config.diffusion.checkpoint_every=4",
)


def saved_steps(workdir):
    folder = workdir / "seed_0/train_diffusion.partial/checkpoints"
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())


def wait_for_checkpoint(workdir, processes, after=0):
    """Until two checkpoints are whole, the last of them of a step after that one."""
    folder = workdir / "seed_0/train_diffusion.partial/checkpoints"
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        if folder.exists() and len(steps := saved_steps(workdir)) >= 2 and steps[-1] > after:
            return
        assert all(process.poll() is None for process in processes), finish(processes)
        time.sleep(0.05)
    raise AssertionError("no checkpoint was written")


@pytest.mark.parametrize("victim", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_a_kill_and_a_signal_stop_all_and_each_restart_resumes(launch, tmp_path, victim):
    workdir = tmp_path / "run"
    processes = launch(workdir, 2, *LONG)
    wait_for_checkpoint(workdir, processes)
    processes[victim].kill()
    killed = time.monotonic()
    [*_, (status, _, errors)] = finish([processes[victim], processes[1 - victim]])
    assert time.monotonic() - killed < 90
    assert status not in (0, -signal.SIGKILL)
    # Where process 0 is gone, JAX's own watch may be the first to notice, and has its own words.
    ours = "stops, since another one has ended or cannot be reached"
    assert ours in errors or "another task died" in errors, errors
    if victim == 1:
        assert ours in errors and "start all of them again" in errors

    before = saved_steps(workdir)[-1]
    processes = launch(workdir, 2, *LONG)
    wait_for_checkpoint(workdir, processes, before)
    processes[1].send_signal(signal.SIGTERM)
    results = finish(processes)
    assert "resuming at step" in results[0][1]
    for status, _, errors in results:
        assert status == 143
        assert "is saved; run the same command to resume" in errors
    assert before < saved_steps(workdir)[-1] < NUM_STEPS

    # One process goes on with what two have saved.
    config = make_perceptron_config()
    config.diffusion.num_steps = config.diffusion.checkpoint_every = NUM_STEPS
    config.diffusion.log_every = LOG_EVERY
    run(config, workdir, only="train_diffusion")
    rows = read_metrics(workdir / "seed_0/train_diffusion/metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(LOG_EVERY, NUM_STEPS + 1, LOG_EVERY))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--num_processes=2"], "go together"),
        (["--coordinator=h:1", "--num_processes=2", "--process_id=2"], "below --num_processes"),
        (["--coordinator=h", "--num_processes=2", "--process_id=1"], "it must be HOST:PORT"),
    ],
)
def test_bad_arguments_get_one_sentence(tmp_path, capsys, arguments, says):
    config = ROOT / "configs" / "digits.py"
    assert main([f"--config={config}", f"--workdir={tmp_path / 'run'}", *arguments]) == 1
    errors = capsys.readouterr().err
    assert says in errors and len(errors.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--distributed"], "give --coordinator=HOST:PORT"),
        (
            [
                "--coordinator=127.0.0.1:9",
                "--num_processes=2",
                "--process_id=1",
                "--join_timeout=1",
            ],
            "did not all meet at 127.0.0.1:9 within 1 s",
        ),
    ],
)
def test_processes_that_cannot_meet_say_so(launch, tmp_path, arguments, says):
    [(status, _, errors)] = finish(launch(tmp_path / "run", 1, *arguments))
    assert status == 1
    assert says in errors and len(errors.strip().splitlines()) == 1
