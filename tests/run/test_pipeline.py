"""Whole runs as a user makes them: what they write, what they skip, what they refuse."""

import csv
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from runs import assert_same_weights, run, use_mlp, weights

from ddb_jax.data.source import without_bias
from ddb_jax.main import main
from ddb_jax.run import pipeline
from ddb_jax.runtime.errors import UserError
from ddb_jax.runtime.files import read_json

CONFIG = "--config=configs/digits.py:smoke"


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_outputs(finished_run):
    results = read_csv(finished_run / "results.csv")
    assert list(results[0]) == [
        "dataset", "method", "seed", "selection", "metric", "value", "low", "high", "tries",
    ]  # fmt: skip
    assert {row["method"] for row in results} >= {"erm", "ddb_i", "ddb_ii", "group_dro"}
    scores = read_csv(finished_run / "scores.csv")
    assert list(scores[0])[:8] == [
        "index", "path", "split", "label", "predicted", "probability", "loss", "pseudo_group",
    ]  # fmt: skip
    train = [row for row in scores if row["split"] == "train"]
    assert [int(row["index"]) for row in train] == list(range(1077))
    # Independently: probability = exp(-loss), rank 1 is the largest loss of the class.
    for row in train[:50]:
        assert float(row["probability"]) == pytest.approx(np.exp(-float(row["loss"])), rel=1e-4)
    for label in "0123456789":
        own = [row for row in train if row["label"] == label]
        top = max(own, key=lambda row: float(row["loss"]))
        assert top["rank_in_class"] == "1"
    page = (finished_run / "report.html").read_text()
    assert page.count("data:image/png;base64") >= 3
    assert "http" not in page, "the report must need nothing from outside"
    assert json.loads((finished_run / "config.json").read_text())["name"] == "digits_smoke"
    assert "ddb_ii" in (finished_run / "report/table.txt").read_text()
    for line in (finished_run / "seed_0/train_diffusion/metrics.jsonl").read_text().splitlines():
        assert np.isfinite(json.loads(line)["loss"])
    events = list((finished_run / "seed_0/train_diffusion/tensorboard").glob("events.*"))
    assert events and events[0].stat().st_size > 100


def test_test_accuracy_is_that_of_the_predictions(tiny_config, finished_run):
    for method in tiny_config.methods:
        folder = finished_run / "seed_0/evaluate" / method
        rows = read_csv(folder / "predictions.csv")
        right = [row["label"] == row["predicted"] for row in rows]
        conflicting = [r for r, row in zip(right, rows, strict=True) if row["label"] != row["bias"]]
        metrics = read_json(folder / "metrics.json")["metrics"]
        assert metrics["average_accuracy"] == pytest.approx(sum(right) / len(right))
        assert metrics["conflicting_accuracy"] == pytest.approx(sum(conflicting) / len(conflicting))


def test_finished_stages_are_skipped(tiny_config, finished_run, tmp_path, monkeypatch):
    workdir = tmp_path / "copy"
    shutil.copytree(finished_run, workdir)

    def refuse(context):
        raise AssertionError(f"{context.name} ran again")

    refusing = {name: row._replace(run=refuse) for name, row in pipeline.STAGES.items()}
    monkeypatch.setattr(pipeline, "STAGES", refusing)
    tiny_config.diffusion.log_every = 7  # cannot change a result
    run(tiny_config, workdir, only="train_diffusion")


def test_dry_run_changes_nothing(tiny_config, finished_run, tmp_path, capsys):
    run(tiny_config, finished_run, dry_run="plan")
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("done") for line in lines) == 18
    run(tiny_config, tmp_path / "new", dry_run="plan")
    tasks, _, costs = capsys.readouterr().out.partition("estimated cost")
    assert sum(line.startswith("would run") for line in tasks.splitlines()) == 18
    assert "seed_0/train_diffusion" in costs
    assert not (tmp_path / "new").exists()


def test_changed_config_is_refused_then_rerun(tiny_config, finished_run, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(finished_run, workdir)
    tiny_config.pseudo_groups.gamma = 1.5
    with pytest.raises(UserError, match=r"pseudo_groups.gamma was 3.0 and is 1.5.*--rerun"):
        run(tiny_config, workdir)
    before = (workdir / "seed_0/train_diffusion/done.json").stat().st_mtime_ns
    run(tiny_config, workdir, rerun=True, only="score")
    assert (workdir / "seed_0/train_diffusion/done.json").stat().st_mtime_ns == before
    record = read_json(workdir / "seed_0/score/synthetic/done.json")
    assert record["config"]["pseudo_groups.gamma"] == 1.5


def test_unsupervised_methods_never_see_the_bias(tiny_config, finished_run, tmp_path, monkeypatch):
    """All bias labels gone: the same amplifier, pseudo-groups and classifiers, bit for bit."""
    load = pipeline.load_dataset
    monkeypatch.setattr(pipeline, "load_dataset", lambda *a: without_bias(load(*a)))
    tiny_config.methods = ("erm", "ddb_i", "ddb_ii", "bias_bal+ddb")
    tiny_config.amplifier.compare = False
    run(tiny_config, tmp_path)
    for method in tiny_config.methods:
        task = f"seed_0/train_classifier/{method}"
        assert_same_weights(finished_run / task, tmp_path / task)
    columns = ("index", "split", "label", "predicted", "loss", "pseudo_group")
    with_bias, without = (read_csv(d / "scores.csv") for d in (finished_run, tmp_path))
    assert [[row[c] for c in columns] for row in with_bias] == [
        [row[c] for c in columns] for row in without
    ]
    assert all(row["bias"] == row["conflicting"] == "" for row in without)
    tiny_config.methods = ("group_dro",)
    with pytest.raises(UserError, match="needs the true bias"):
        run(tiny_config, tmp_path / "oracle")


def test_several_seeds_share_the_upstream(tiny_config):
    tiny_config.seeds = (0, 1)
    tiny_config.methods = ("ddb_i",)
    shared = [task.name for task in pipeline.plan(tiny_config, True)]
    assert "seed_1/train_classifier/ddb_i" in shared and "seed_1/train_diffusion" not in shared
    tiny_config.share_upstream = False
    assert "seed_1/train_diffusion" in [t.name for t in pipeline.plan(tiny_config, True)]


def test_erm_alone_with_plain_selection_needs_no_diffusion(tiny_config):
    tiny_config.methods = ("erm",)
    tiny_config.classifier.plain_selection = "average"
    stages = [task.stage for task in pipeline.plan(tiny_config, True)]
    assert stages == ["train_classifier", "evaluate", "report"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/nothing.py"], "there is no config file configs/nothing.py"),
        ([CONFIG, "--config.difusion.num_steps=3"], "the nearest is config.diffusion.num_steps"),
        (
            [CONFIG, "--config.seedz=1", "--config.diffusion.num_steps=many"],
            "there is no field config.seedz, the nearest is config.seeds; "
            "--config.diffusion.num_steps=many does not give the int",
        ),
        (
            [CONFIG, "--config.methods=erm,dbb_i", "--config.synthesis.sampler=dim"],
            "config.synthesis.sampler is 'dim'.*config.methods: 'dbb_i' is no method",
        ),
        ([CONFIG, "--config.seeds=a,b"], "config.seeds is .* whole numbers"),
        ([CONFIG, "--config.pseudo_groups.gamma=nan"], "must be a finite number"),
        ([CONFIG, "--config.unet.num_heads=3"], "config.unet.channels is 8"),
        (["--config=configs/base.py:smoke"], "this config has none"),
    ],
)
def test_bad_arguments_get_one_sentence(arguments, message, tmp_path, capsys):
    status = main([*arguments, f"--workdir={tmp_path / 'w'}"])
    error = capsys.readouterr().err
    assert status == 1 and error.startswith("error: ") and error.count("\n") == 1
    assert re.search(message, error), error


def test_second_process_is_refused(tmp_path, capsys):
    with (tmp_path / ".lock").open("w") as lock:
        lock.write("4711")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main([CONFIG, f"--workdir={tmp_path}"]) == 1
    assert "in use by process 4711" in capsys.readouterr().err


def test_unwritable_work_directory(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main([CONFIG, f"--workdir={tmp_path / 'file' / 'w'}"]) == 1
    assert "cannot be written to" in capsys.readouterr().err


def test_non_finite_loss_names_stage_and_step(tiny_config, tmp_path):
    tiny_config.diffusion.learning_rate = 1e30
    tiny_config.diffusion.warmup_steps = 0
    with pytest.raises(UserError, match=r"of seed_0/train_diffusion became (nan|inf) at step \d"):
        run(tiny_config, tmp_path, only="train_diffusion")


def test_damaged_weights_are_named(tiny_config, finished_run, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(finished_run, workdir)
    shutil.rmtree(workdir / "seed_0/synthesize")
    for path in (workdir / "seed_0/train_diffusion/weights").rglob("*"):
        if path.is_file() and path.stat().st_size > 1000:
            path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match="train_diffusion/weights is damaged"):
        run(tiny_config, workdir, only="synthesize")


def test_other_shapes_of_a_run(tiny_config, tmp_path):
    """Real-trained amplifier, last step, two seeds each with an upstream of its own."""
    use_mlp(tiny_config)
    tiny_config.seeds = (3, 4)
    tiny_config.share_upstream = False
    tiny_config.methods = ("ddb_i_error_set", "resampling")
    tiny_config.amplifier.train_on = "real"
    tiny_config.amplifier.compare = False
    tiny_config.amplifier.loss = "generalized_cross_entropy"
    tiny_config.classifier.selection = "last"
    tiny_config.classifier.oracle_selection = "average"
    run(tiny_config, tmp_path)
    assert not list(tmp_path.glob("seed_*/train_diffusion"))
    rows = read_csv(tmp_path / "results.csv")
    assert {(r["method"], r["seed"], r["selection"]) for r in rows} >= {
        ("ddb_i_error_set", "3", "last"),
        ("resampling", "4", "average"),
    }


def test_train_without_a_conflicting_image(tiny_config, tmp_path):
    """Nothing conflicts: detection has no figure, empty groups are left out, the run goes on."""
    use_mlp(tiny_config)
    tiny_config.data.aligned_share = 1.0
    tiny_config.methods = ("ddb_i",)
    tiny_config.amplifier.train_on = "real"
    tiny_config.amplifier.compare = False
    run(tiny_config, tmp_path)
    found = read_json(tmp_path / "seed_0/score/real/detection.json")["train"]["rule"]
    assert found["bias_auroc"] is None and found["bias_prevalence"] == 0.0


@pytest.mark.slow
def test_kill_minus_nine_and_start_again(tmp_path):
    """Killed without warning in the middle of the diffusion training, then started again."""
    command = [
        sys.executable, "-m", "ddb_jax.main", "--config=configs/digits.py:smoke",
        "--config.diffusion.num_steps=60", "--config.methods=ddb_ii",
        "--config.amplifier.compare=False",
    ]  # fmt: skip
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    subprocess.run([*command, f"--workdir={straight}"], check=True, env=environment)
    process = subprocess.Popen([*command, f"--workdir={killed}"], env=environment)
    checkpoints = killed / "seed_0/train_diffusion.partial/checkpoints"
    deadline = time.time() + 300
    while not (checkpoints / "20").exists() and time.time() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "seed_0/train_diffusion").exists()
    subprocess.run([*command, f"--workdir={killed}"], check=True, env=environment)
    for task in ("train_diffusion", "train_amplifier/synthetic", "train_classifier/ddb_ii"):
        assert_same_weights(straight / "seed_0" / task, killed / "seed_0" / task)
    assert (straight / "results.csv").read_bytes() == (killed / "results.csv").read_bytes()


def test_full_disk_leaves_the_old_file(tmp_path):
    """A file-size limit stands in for a full disk: both fail the write."""
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from ddb_jax.runtime.files import write_atomically\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    write_atomically(Path(sys.argv[1]), b'x' * 5000)\n"
        "except OSError as error:\n"
        "    print('refused')\n"
    )
    path = tmp_path / "table.csv"
    path.write_text("old")
    out = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    assert out.stdout == "refused\n"
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["table.csv"]


def test_weights_reader_sees_a_difference(finished_run):
    a = weights(finished_run / "seed_0/train_classifier/erm")
    b = weights(finished_run / "seed_0/train_classifier/ddb_i")
    assert any(not np.array_equal(a[name], b[name]) for name in a)
