"""A run of all methods of the table: who sees bias labels, and what comes out.

The run is of a small perceptron, on scores from a file, so that no diffusion model is trained.
"""

import csv
import dataclasses
import html
import itertools
import math

import jax
import numpy as np
import pytest
from runs import StopAfter, run, weights

from ddb_jax.checks.config import check_config
from ddb_jax.configs import digits
from ddb_jax.data.datasets import load_dataset
from ddb_jax.data.source import ArraySource, without_bias
from ddb_jax.debias.table import METHODS
from ddb_jax.models import mlp
from ddb_jax.run import pipeline
from ddb_jax.runtime.errors import Interrupted, UserError
from ddb_jax.runtime.files import read_json

ORACLES = ("bias_bal", "bias_con", "dfr", "group_dro", "resampling", "reweighting")
UNSUPERVISED = tuple(name for name in METHODS if name not in ORACLES)


@pytest.fixture(scope="module", autouse=True)
def cheap():
    """Compilation is what the runs cost: of one hidden layer, not optimised, and kept."""
    name = "jax_persistent_cache_min_compile_time_secs"
    before, optimised = getattr(jax.config, name), jax.jit

    def jit(*function, **options):
        if function and function[0].__module__.startswith("ddb_jax."):
            options["compiler_options"] = {"xla_backend_optimization_level": 0}
        return optimised(*function, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "jit", jit)
        patch.setattr(mlp, "HIDDEN_LAYERS", 1)
        patch.setattr(pipeline, "estimate_costs", lambda *arguments: [])
        jax.config.update(name, 0.0)
        yield
    jax.config.update(name, before)


def write_given_scores(path, dataset):
    """Losses, predictions and probabilities; one image in seven is an error of a high loss."""
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        file.write("split,index,predicted,loss,probability\n")
        for split in ("train", "validation"):
            for i, label in enumerate(dataset.splits[split].labels):
                error, sure = i % 7 == 0, i % 13 == 0  # an error of a low loss at every 91st
                loss = rng.uniform(2.0, 5.0) if error and not sure else rng.uniform(0.0, 0.4)
                predicted = (label + 1 + i % 9) % 10 if error else label
                file.write(f"{split},{i},{predicted},{loss:.6f},{math.exp(-loss):.6f}\n")


@pytest.fixture(scope="module")
def make_config(tmp_path_factory):
    scores = tmp_path_factory.mktemp("given") / "scores.csv"

    def make(methods):
        c = digits.get_config("smoke")
        c.num_devices = 1
        c.methods = methods
        c.given_scores.csv = str(scores)
        c.diffusion.image_size = c.classifier.image_size = 8
        c.classifier.network = "mlp"
        c.classifier.num_steps = 6
        c.classifier.batch_size = 16
        c.classifier.optimizer = "sgd"
        c.classifier.momentum = 0.0
        c.classifier.learning_rate = 0.1
        c.classifier.lr_schedule = "constant"
        c.classifier.max_shift = 0
        c.classifier.log_every = 0
        c.classifier.checkpoint_every = 0
        c.classifier.evaluate_every = 3
        c.classifier.plain_selection = "average"
        c.reference.num_steps = 4
        c.committee.members = 3
        c.committee.agreement = 2
        c.committee.confidence = 0.1  # after so few steps no member is surer
        c.disent.swap_after = 2
        c.eiil.num_steps = 50
        c.afr.num_steps = 20
        c.dfr.refits = 2
        c.dfr.c_grid = (1.0, 0.1)
        check_config(c)
        return c

    write_given_scores(scores, load_dataset(digits.get_config("smoke").data, 8))
    return make


def run_training(config, workdir, change=lambda dataset: dataset):
    """Every task before the evaluation, on a changed data set."""

    def no_report(context):
        (context.folder / "table.txt").write_text("")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "load_dataset", lambda *a: change(load_dataset(*a)))
        for stage, run_stage in (("evaluate", lambda context: None), ("report", no_report)):
            row = pipeline.STAGES[stage]
            patch.setitem(pipeline.STAGES, stage, row._replace(run=run_stage))
        patch.setattr(pipeline, "publish_model", lambda *a: None)  # it reads what evaluate wrote
        run(config, workdir)


@pytest.fixture(scope="module")
def finished(make_config, tmp_path_factory):
    """Work directory of all methods, on the bias labels as they are."""
    workdir = tmp_path_factory.mktemp("finished")
    run(make_config(tuple(METHODS)), workdir)
    return workdir


def trained(workdir, method):
    return workdir / "seed_0" / METHODS[method].stage / method


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def assert_equal_weights(left, right, methods):
    for method in methods:
        a, b = (weights(trained(workdir, method)) for workdir in (left, right))
        assert a.keys() == b.keys() and a
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=f"{method} {name}")


def differing(left, right):
    """Whether two trees of weights differ somewhere."""
    return left.keys() != right.keys() or any(np.any(left[n] != right[n]) for n in left)


def test_hidden_bias_labels_change_no_unsupervised_method(make_config, finished, tmp_path):
    run_training(make_config(UNSUPERVISED), tmp_path, without_bias)
    assert_equal_weights(finished, tmp_path, UNSUPERVISED)
    tables = [path.parent.relative_to(tmp_path) for path in tmp_path.rglob("scores.csv")]
    assert {str(path).split("/")[1] for path in tables} == {
        "given_scores", "train_reference", "train_committee", "infer_environments",
    }  # fmt: skip
    for path in tables:
        seen, hidden = (read_csv(workdir / path / "scores.csv") for workdir in (finished, tmp_path))
        unbiased = [{**row, "bias": "", "conflicting": ""} for row in seen]
        assert hidden == unbiased and seen != unbiased, path


def test_other_bias_labels_change_every_oracle(make_config, finished, tmp_path):
    """What the test above would find, if an unsupervised method read a bias label."""

    def shift(dataset):
        sources = {
            split: ArraySource(s.images, s.labels, np.roll(s.bias, 1), s.paths)
            for split, s in dataset.splits.items()
        }
        return dataclasses.replace(dataset, **sources)

    run_training(make_config(("erm", *ORACLES)), tmp_path, shift)
    assert_equal_weights(finished, tmp_path, ["erm"])
    for method in ORACLES:
        a, b = (weights(trained(workdir, method)) for workdir in (finished, tmp_path))
        assert differing(a, b), method


def test_no_two_methods_are_the_same(finished):
    """A method that a setting or a missing column turned into another one would be seen here."""
    found = {method: weights(trained(finished, method)) for method in METHODS}
    for a, b in itertools.combinations(METHODS, 2):
        assert differing(found[a], found[b]), (a, b)


def test_oracles_are_refused_without_bias_labels(make_config, tmp_path):
    with pytest.raises(UserError) as error:
        run_training(make_config(("erm", *ORACLES, "ddb_i")), tmp_path, without_bias)
    assert str(error.value) == (
        "bias_bal, bias_con, dfr, group_dro, resampling, reweighting need the true bias of every"
        " training and validation image, and digits has 1,347 images without it: leave them out of"
        " config.methods."
    )
    assert not any(tmp_path.iterdir())


def test_all_are_in_the_results(finished):
    rows = read_csv(finished / "results.csv")
    accuracy = {r["method"]: float(r["value"]) for r in rows if r["metric"] == "average_accuracy"}
    assert set(accuracy) == set(METHODS)
    for method in METHODS:
        answers = read_csv(finished / "seed_0/evaluate" / method / "predictions.csv")
        right = np.mean([row["label"] == row["predicted"] for row in answers])
        assert accuracy[method] == pytest.approx(right, rel=1e-5), method
    page = (finished / "report.html").read_text()
    assert all(html.escape(entry.title) in page for entry in METHODS.values())


def test_finders_are_in_the_results(finished):
    rows = read_csv(finished / "results.csv")
    found = {}
    for row in rows:
        if row["metric"].startswith("bias_"):
            found.setdefault(row["method"], {})[row["metric"]] = float(row["value"])
    assert set(found) == {
        "gce", "lff", "lff+ddb", "lff+be", "disent", "disent+ddb", "disent+be", "debian",
        "given_scores", "jtt_reference", "committee", "eiil_environments",
    }  # fmt: skip
    tables = {
        "given_scores": ("given_scores", "pseudo_conflicting"),
        "jtt_reference": ("train_reference", "error_set"),
        "committee": ("train_committee", "pseudo_conflicting"),
        "eiil_environments": ("infer_environments", "pseudo_conflicting"),
    }
    for finder, (task, column) in tables.items():
        train = [
            row
            for row in read_csv(finished / "seed_0" / task / "scores.csv")
            if row["split"] == "train"
        ]
        truth = np.array([row["bias"] != row["label"] for row in train])
        flagged = np.array([row[column] == "1" for row in train])
        assert 0 < flagged.sum() < len(flagged), finder
        assert found[finder]["bias_prevalence"] == pytest.approx(truth.mean(), rel=1e-5)
        assert found[finder]["bias_recall"] == pytest.approx(flagged[truth].mean(), rel=1e-5)
        assert found[finder]["bias_precision"] == pytest.approx(truth[flagged].mean(), rel=1e-5)
    # The file says so itself: errors of a high loss.
    train = read_csv(finished / "seed_0/given_scores/scores.csv")[:1077]
    expected = [i % 7 == 0 and i % 13 != 0 for i in range(1077)]
    assert [row["pseudo_conflicting"] == "1" for row in train] == expected


def test_two_networks_and_their_memories_survive_a_stop(make_config, finished, tmp_path):
    config = make_config(("lff",))
    with pytest.raises(Interrupted, match="stopped at step 4 of 6"):
        run(config, tmp_path, stop=StopAfter(5), only="train_classifier")
    run(config, tmp_path, only="train_classifier")
    assert_equal_weights(finished, tmp_path, ["lff"])


def test_eight_devices_train_two_networks_as_one_does(make_config, finished, tmp_path):
    config = make_config(("lff", "disent"))
    config.num_devices = 8
    run(config, tmp_path, only="train_classifier")
    for method in config.methods:
        one, eight = (trained(workdir, method) for workdir in (finished, tmp_path))
        steps = [read_json(folder / "selection.json")["selected_step"] for folder in (one, eight)]
        assert steps[0] == steps[1]
        one, eight = weights(one), weights(eight)
        for name in one:
            np.testing.assert_allclose(one[name], eight[name], atol=1e-6, err_msg=method + name)
    assert jax.device_count() == 8
