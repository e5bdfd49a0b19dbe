"""Methods on generated images: their names, the tasks before them, and what can be wrong."""

import pytest

from ddb_jax.checks.generated_images import unusable_generated
from ddb_jax.configs import digits, digits_diffubias
from ddb_jax.debias.table import METHODS, method_entry, method_title
from ddb_jax.run.plan import plan
from ddb_jax.run.records import records

HASHES = {"generator": "a", "classifier": "b"}


@pytest.fixture
def config():
    c = digits_diffubias.get_config()
    c.classifier.plain_selection = "last"  # what the amplifier is needed for then shows
    c.seeds = (0,)
    return c


def tasks_of(config, *methods):
    config.methods = methods
    return {task.name.removeprefix("seed_0/"): task for task in plan(config, bias_known=False)}


def stages_of(config, *methods):
    return {task.stage for task in tasks_of(config, *methods).values()}


def test_a_source_alone_is_plain_training_on_it():
    entry = method_entry("diffubias")
    assert (entry.make, entry.requires, entry.generated) == (
        METHODS["erm"].make, "nothing", "diffubias",
    )  # fmt: skip
    assert entry.title == "DiffuBias"


def test_a_host_keeps_what_it_requires():
    entry = method_entry("lff+ddb+steered")
    assert (entry.make, entry.requires) == (METHODS["lff+ddb"].make, "amplifier_scores")
    assert entry.generated == "steered"
    assert entry.title == "LfF on the amplifier + steered synthesis"
    assert method_entry("lff+ddb").generated == ""


@pytest.mark.parametrize("name", ["jtt+steered", "group_dro+diffubias", "afr+diffubias"])
def test_a_method_on_what_real_images_alone_have_is_refused(name):
    with pytest.raises(ValueError, match="cannot be trained on generated images"):
        method_entry(name)


@pytest.mark.parametrize("name", ["diffubais", "lff+foo", "foo+steered"])
def test_an_unknown_name_is_answered_by_the_nearest(name):
    with pytest.raises(ValueError, match=r"is no method, the nearest of erm, .* is '"):
        method_entry(name)
    assert method_title(name) == name


def test_diffubias_needs_no_model_of_ddb(config):
    config.gate.labels = False
    assert stages_of(config, "diffubias") == {
        "train_biased", "extract", "caption", "filter_captions", "train_autoencoder",
        "train_text_to_image", "draw", "check_generated", "train_classifier", "evaluate", "report",
    }  # fmt: skip


def test_the_filter_is_what_the_ablation_goes_without(config):
    tasks = tasks_of(config, "diffubias", "diffubias_unfiltered")
    captions = {
        name: tasks[f"draw/{name}"].inputs["captions"]
        for name in ("diffubias", "diffubias_unfiltered")
    }
    assert captions == {
        "diffubias": "seed_0/filter_captions", "diffubias_unfiltered": "seed_0/caption",
    }  # fmt: skip
    # One text-to-image model draws for both.
    models = {tasks[f"draw/{name}"].inputs["train_text_to_image"] for name in captions}
    assert models == {"seed_0/train_text_to_image"}


def test_a_pretrained_folder_spares_the_training(config):
    config.text_to_image.folder = "somewhere"
    stages = stages_of(config, "diffubias")
    assert not stages & {"train_autoencoder", "train_text_to_image"}


def test_starting_from_a_folder_spares_the_autoencoder(config):
    config.train_text_to_image.start_from = "somewhere"
    stages = stages_of(config, "diffubias")
    assert "train_text_to_image" in stages and "train_autoencoder" not in stages


def test_seeds_share_the_model_that_stands_for_a_pretrained_one(config):
    config.seeds, config.share_upstream = (0, 1), False
    config.methods = ("diffubias",)
    names = {task.name for task in plan(config, bias_known=False)}
    assert {"seed_0/draw/diffubias", "seed_1/draw/diffubias"} <= names
    assert "seed_1/train_biased" in names
    assert "seed_1/train_text_to_image" not in names


def test_steered_images_are_drawn_by_ddbs_own_model_and_judged_by_the_amplifier(config):
    tasks = tasks_of(config, "steered", "rebalanced", "rejection")
    assert {name: task.options["by"] for name, task in tasks.items() if "steer/" in name} == {
        "steer/steered": "gradient", "steer/rebalanced": "difference", "steer/rejection": "none",
    }  # fmt: skip
    assert "train_text_to_image" not in {task.stage for task in tasks.values()}
    for name in ("steered", "rebalanced", "rejection"):
        inputs = tasks[f"check_generated/{name}"].inputs
        assert inputs["train_amplifier"] == "seed_0/train_amplifier/synthetic"
    assert "train_balanced_diffusion" in tasks["steer/rebalanced"].inputs
    assert "train_balanced_diffusion" not in tasks["steer/steered"].inputs


def test_the_amplifier_scores_generated_images_for_those_who_ask(config):
    tasks = tasks_of(config, "steered", "ddb_i+steered")
    assert "score_generated" not in tasks["train_classifier/steered"].inputs
    # A rule of selection looks at validation alone.
    config.classifier.plain_selection = "worst_pseudo_group"
    assert "score_generated" not in {task.stage for task in tasks_of(config, "steered").values()}
    inputs = tasks["train_classifier/ddb_i+steered"].inputs
    assert inputs["score_generated"] == "seed_0/score_generated/steered"
    assert inputs["check_generated"] == "seed_0/check_generated/steered"


def test_the_debiased_judge_is_trained_on_real_images(config):
    tasks = tasks_of(config, "diffubias")
    assert tasks["check_generated/diffubias"].inputs["debiased"] == "seed_0/train_classifier/jtt"
    assert not tasks["train_classifier/jtt"].inputs.keys() & {"check_generated"}
    assert "evaluate/jtt" not in tasks  # it is no method of this run


def changed(config, field, value):
    """Stages of which some task is to be done again."""
    config.methods = ("diffubias", "rebalanced")
    tasks = plan(config, bias_known=False)
    before = records(config, tasks, HASHES)
    config.update_from_flattened_dict({field: value})
    after = records(config, tasks, HASHES)
    again = {t.stage for t in tasks if after[t.name] != before[t.name]}
    return again - {"report", "check_generated", "train_classifier", "evaluate"}


def test_what_a_changed_field_makes_to_be_done_again(config):
    assert changed(config, "text_filter.whole_words", False) == {"filter_captions", "draw"}
    assert changed(config, "text_to_image.guidance_scale", 2.0) == {"draw"}
    assert changed(config, "text_to_image.dtype", "bfloat16") == {"draw"}
    assert changed(config, "steering.guidance_scale", 3.0) == {"steer"}
    assert changed(config, "train_text_to_image.diffusion.num_steps", 7) == {
        "train_text_to_image", "draw",
    }  # fmt: skip
    assert changed(config, "gate.copy_ratio", 0.1) == set()  # but for what comes after it


def test_how_often_a_nested_training_logs_changes_nothing(config):
    assert changed(config, "train_text_to_image.diffusion.log_every", 7) == set()


def problems(config, *methods, **fields):
    config.methods = methods
    config.update_from_flattened_dict(fields)
    return "; ".join(unusable_generated(config))


def test_settings_that_cannot_work(config, tmp_path):
    assert problems(config, "diffubias") == ""
    assert "must be a method without bias labels" in problems(
        config, "diffubias", **{"gate.debiased_method": "group_dro"}
    )
    config.gate.debiased_method = "jtt"
    assert "there is no such file" in problems(config, "diffubias", **{"captions.source": "csv"})
    config.captions.source = "retrieval"
    assert "names no file of weights" in problems(
        config, "diffubias", **{"captions.features": "pretrained"}
    )
    config.captions.features = "pixels"
    empty = tmp_path / "model"
    empty.mkdir()
    message = problems(config, "diffubias", **{"text_to_image.folder": str(empty)})
    assert "unet/config.json" in message and "vae/config.json" in message
    # A method that draws nothing from texts does not care.
    assert problems(config, "steered") == ""


def test_captions_need_a_reference(config):
    message = problems(config, "diffubias", **{"data.reference_share": 0.0})
    assert "need captioned images: give config.captioned.csv, or config.data.reference" in message


def test_given_scores_say_nothing_of_generated_images(config):
    config.given_scores.csv = "scores.csv"
    assert problems(config, "diffubias", "lff+diffubias") == ""
    message = problems(config, "steered", "ddb_i+diffubias")
    assert "says nothing of generated images, and steered, ddb_i+diffubias" in message


def test_plain_digits_keep_no_reference():
    assert digits.get_config().data.reference_share == 0.0
