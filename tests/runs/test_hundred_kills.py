"""Runs that are killed again and again, at moments drawn from fixed seeds, end as one that is not.

    pytest -n 0 -s -m slow tests/runs/test_hundred_kills.py     # KILLS=20 for fewer

Chains of SIGKILLs and restarts of one command go through every stage of configs/digits.py:smoke,
the first of them stage by stage.
All starts share what they compile, in KILLS_CACHE if that is given. A line for each stage says how
many kills met it.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("KILLS", "100"))
FINAL = ("scores.csv", "results.csv")
STARTING, BETWEEN = "starting", "between stages"
SEED = int(os.environ.get("KILLS_SEED", "0"))  # of the first chain, the next ones follow


class Run:
    """The command in a work directory, started as often as it is killed."""

    def __init__(self, workdir: Path, cache: Path) -> None:
        self.workdir, self._cache = workdir, cache
        self._log = workdir.with_suffix(".log")
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "ddb_jax.main", "--config=configs/digits.py:smoke"]
        options = ["--config.num_devices=1", f"--workdir={self.workdir}"]
        env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
        env |= {"XDG_CACHE_HOME": str(self._cache), "JAX_PLATFORMS": "cpu"}
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [*command, *options], cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT
            )

    def wait(self) -> None:
        status = self._process.wait(timeout=1800)
        assert status == 0, f"status {status}: {self._log.read_text()[-2000:]}"

    def running(self) -> bool:
        if self._process.poll() is None:
            return True
        self.wait()
        return False

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        assert self._process.wait() == -signal.SIGKILL
        assert "Traceback" not in self._log.read_text()

    def done(self) -> int:
        """How many tasks this start has finished or found done."""
        return len(re.findall(r"^\S+: (already done|[\d.]+ ?\w+)", self._log.read_text(), re.M))

    def stage(self) -> str:
        """The stage at work, by its folder; resumed stages keep theirs."""
        if "digits train: " not in self._log.read_text():
            return STARTING
        try:
            paths = [path.relative_to(self.workdir) for path in self.workdir.rglob("*.partial")]
        except FileNotFoundError:  # a folder was renamed while it was looked into
            return self.stage()
        # seed_0/train_classifier/erm.partial, seed_0/synthesize.partial, report.partial
        names = {path.parts[len(path.parts) > 1] for path in paths}
        return " and ".join(sorted(name.removesuffix(".partial") for name in names)) or BETWEEN

    def result(self) -> dict[str, bytes]:
        assert not list(self.workdir.rglob("*.partial"))
        return {name: (self.workdir / name).read_bytes() for name in FINAL}


def kill_at_random(run: Run, rng: np.random.Generator, longest: float) -> str:
    """Start, kill some time after a stage has begun; the stage that was met, "" if all is done.

    `longest` is how many seconds a stage takes at most.
    """
    run.start()
    if rng.random() < 0.1:  # at any moment of the start
        time.sleep(rng.uniform(0, 8))
    else:
        while run.running() and run.stage() == STARTING:
            time.sleep(0.05)
        before, stages = run.done(), rng.integers(0, 3)
        # Those that are done already pass at once.
        while run.running() and run.done() < before + stages:
            time.sleep(0.02)
        until = time.monotonic() + rng.uniform(0, longest)
        while run.running() and time.monotonic() < until:
            time.sleep(0.02)
    if not run.running():
        return ""
    stage = run.stage()
    run.kill()
    return stage


def kill_in(run: Run, stage: str, rng: np.random.Generator, seconds: float) -> str:
    """Start, kill while that stage is at work; the stage that was met, "" if all is done."""
    run.start()
    while run.running() and run.stage() != stage:
        time.sleep(0.002)
    until = time.monotonic() + rng.uniform(0, 0.7 * seconds)
    while run.running() and run.stage() == stage and time.monotonic() < until:
        time.sleep(0.002)
    if not run.running():
        return ""
    met = run.stage()
    run.kill()
    return met


@pytest.mark.slow
def test_killed_runs_end_as_one_that_is_not(tmp_path):
    cache = Path(os.environ.get("KILLS_CACHE") or tmp_path / "cache")
    whole = Run(tmp_path / "whole", cache)
    whole.start()
    whole.wait()
    expected = whole.result()
    records = [json.loads(path.read_text()) for path in whole.workdir.rglob("done.json")]
    longest = max(record["seconds"] for record in records)
    met, chains = Counter(), 0
    # Every stage once, in the order of the run; then at random.
    seconds = {record["stage"]: record["seconds"] for record in records}
    finished = sorted(whole.workdir.rglob("done.json"), key=lambda path: path.stat().st_mtime)
    order = dict.fromkeys(json.loads(path.read_text())["stage"] for path in finished)
    run, rng = Run(tmp_path / "every_stage", cache), np.random.default_rng(SEED)
    for stage in order:
        met[kill_in(run, stage, rng, seconds[stage])] += 1
        print(f"kill {met.total()}: in {stage}", flush=True)
    run.start()
    run.wait()
    assert run.result() == expected
    del met[""]  # a stage too short to be met
    while sum(met.values()) < KILLS:
        run = Run(tmp_path / f"chain_{chains}", cache)
        rng = np.random.default_rng(SEED + chains)
        chains += 1
        while sum(met.values()) < KILLS:
            stage = kill_at_random(run, rng, longest)
            if not stage:
                break
            met[stage] += 1
            print(f"kill {sum(met.values())}: chain {chains}, {stage}", flush=True)
        else:
            run.start()
            run.wait()
        assert run.result() == expected, f"chain {chains} differs"
    print(f"{sum(met.values())} kills in {chains} runs, all ended alike:")
    for stage, count in met.most_common():
        print(f"{count:5}  {stage}")
