"""What a run consists of, and what a changed field makes to be done again."""

import pytest

from ddb_jax.configs import base, cmnist, waterbirds
from ddb_jax.run.plan import Planner, plan
from ddb_jax.run.records import records

HASHES = {"generator": "a", "classifier": "b"}


@pytest.fixture
def config():
    c = waterbirds.get_config()
    c.methods = ("erm", "ddb_i", "group_dro")
    c.classifier.weights = c.amplifier.weights = ""
    return c


def changed(config, change, hashes=HASHES):
    """Stages of which some task is to be done again."""
    tasks = plan(config, bias_known=True)
    before = records(config, tasks, HASHES)
    change(config)
    after = records(config, plan(config, bias_known=True), hashes)
    stages = {t.name: t.stage for t in tasks}
    names = [n for n in before if after[n]["fingerprint"] != before[n]["fingerprint"]]
    return {stages[name] for name in names if name != "report"}, names


def test_plain_training_needs_no_diffusion_model(config):
    config.methods = ("erm",)
    assert {task.stage for task in plan(config, True)} == {"train_classifier", "evaluate", "report"}
    config.classifier.plain_selection = "worst_pseudo_group"
    assert "train_diffusion" in {task.stage for task in plan(config, True)}


def test_the_classifiers_size_leaves_the_amplifier_as_it_is(config):
    stages, _ = changed(config, lambda c: c.classifier.update({"image_size": 160}))
    assert stages == {"train_classifier", "evaluate"}


def test_the_generators_size_leaves_the_oracle_as_it_is(config):
    _, names = changed(config, lambda c: c.diffusion.update({"image_size": 32}))
    assert "seed_0/score/synthetic" in names and "seed_0/train_classifier/ddb_i" in names
    assert "seed_0/train_classifier/group_dro" not in names
    assert "seed_0/train_classifier/erm" not in names


def test_the_rule_of_the_pseudo_groups_concerns_those_whom_it_flags_for(config):
    config.methods = ("ddb_i", "jtt", "lff+be", "softcon")
    _, names = changed(config, lambda c: c.pseudo_groups.update({"gamma": 1.0}))
    assert "seed_0/score/synthetic" in names and "seed_0/train_classifier/ddb_i" in names
    assert "seed_0/train_committee" not in names and "seed_0/train_bias_features" not in names
    # Of given scores alone.
    assert changed(config, lambda c: c.pseudo_groups.update({"top_share": 0.2}))[0] == set()


def test_a_last_layer_is_fitted_anew_over_the_same_network(config):
    config.methods = ("afr", "dfr")
    _, names = changed(config, lambda c: c.afr.update({"gamma": 1.0}))
    assert [n for n in names if "train" in n] == ["seed_0/train_last_layer/afr"]
    stages, names = changed(config, lambda c: c.afr.update({"held_out_share": 0.3}))
    assert stages == {"train_base", "train_last_layer", "evaluate"}
    assert "seed_0/train_last_layer/dfr" not in names


def test_where_the_data_lies_changes_nothing_and_what_it_is_everything(config):
    def move(c):
        c.data.root, c.data.cache, c.data.num_threads = "elsewhere", "there", 7

    assert changed(config, move) == (set(), [])
    stages, _ = changed(config, lambda c: None, {"generator": "a", "classifier": "other"})
    assert stages == {"train_classifier", "evaluate"}
    stages, _ = changed(config, lambda c: None, {"generator": "other", "classifier": "b"})
    assert {"train_diffusion", "score"} <= stages


def test_weights_count_by_their_content(config, tmp_path):
    (tmp_path / "w.npz").write_bytes(b"first")
    config.classifier.weights = str(tmp_path / "w.npz")

    def rewrite(c):
        (tmp_path / "w.npz").rename(tmp_path / "moved.npz")
        c.classifier.weights = str(tmp_path / "moved.npz")

    assert changed(config, rewrite) == (set(), [])
    stages, _ = changed(config, lambda c: (tmp_path / "moved.npz").write_bytes(b"second"))
    assert stages == {"train_classifier", "evaluate"}


def test_without_known_bias_the_synthetic_images_are_not_measured(config):
    assert "measure_synthesis" in {task.stage for task in plan(config, True)}
    assert "measure_synthesis" not in {task.stage for task in plan(config, False)}


def test_presets():
    assert cmnist.get_config("augmented").classifier.random_resized_crop == 0.5
    with pytest.raises(ValueError, match="no preset 'smoky'; the nearest is 'smoke'"):
        waterbirds.get_config("smoky")
    assert base.get_config().classifier.plain_selection == "average"


def test_two_different_tasks_under_one_name_are_an_error(config):
    planner = Planner(config, bias_known=True)
    name = planner.add("train_diffusion", 0)
    assert name == "seed_0/train_diffusion"
    assert planner.add("train_diffusion", 0) == name and list(planner.tasks) == [name]
    with pytest.raises(ValueError, match="two tasks are called seed_0/train_diffusion"):
        planner.add("train_diffusion", 0, steps=7)


def test_the_planner_adds_what_a_task_reads_from_before_it(config):
    planner = Planner(config, bias_known=False)
    assert planner.scores(0, "synthetic") == "seed_0/score/synthetic"
    assert list(planner.tasks) == [
        "seed_0/train_diffusion", "seed_0/synthesize", "seed_0/train_amplifier/synthetic",
        "seed_0/score/synthetic",
    ]  # fmt: skip
