"""What counts in what a result depends on; that old results are recognised."""

import pytest

from ddb_jax.configs import bar, digits, digits_diffubias
from ddb_jax.run.plan import plan
from ddb_jax.run.records import records

HASHES = {"generator": "a", "classifier": "b"}


def fingerprints(config):
    made = records(config, plan(config, bias_known=True), HASHES)
    return {name: record["fingerprint"] for name, record in made.items()}


@pytest.mark.parametrize(
    ("module", "preset", "task", "expected"),
    [
        (digits, "", "seed_0/train_classifier/ddb_ii", "5db7c8cdbef52dd9"),
        (bar, "smoke", "seed_0/evaluate/ddb_i", "feab02f93ab3f1d4"),
        (
            digits_diffubias,
            "smoke",
            "seed_0/train_classifier/diffubias",
            "a253976aa1e41f28",
        ),
    ],
    ids=["digits", "bar", "digits_diffubias"],
)
def test_fingerprints_stay_what_they_were(module, preset, task, expected):
    """Work directories hold these: a change of them does all the work again.

    They may change with the defaults of a config, and with nothing else.
    """
    assert fingerprints(module.get_config(preset))[task] == expected


def test_only_the_named_fields_count_for_nothing():
    before = fingerprints(digits.get_config())
    config = digits.get_config()
    config.data.cache, config.data.root, config.data.max_broken = "there", "elsewhere", 3
    config.unet.remat, config.classifier.log_every, config.diffusion.checkpoint_every = True, 7, 8
    assert fingerprints(config) == before
    # The same names in sections where no row excepts them.
    config.group_dro.cache, config.lff.root = "there", "elsewhere"
    after = fingerprints(config)
    changed = {name for name in before if after[name] != before[name] and name != "report"}
    assert changed == {
        f"seed_0/{stage}/{method}"
        for stage in ("train_classifier", "evaluate")
        for method in ("ddb_i", "group_dro")
    }


def test_a_file_counts_by_its_bytes_and_a_folder_by_names_and_sizes(tmp_path):
    def task(**fields):
        config = digits_diffubias.get_config("smoke")
        config.update_from_flattened_dict({n.replace("__", "."): v for n, v in fields.items()})
        return fingerprints(config)["seed_0/caption"], fingerprints(config)["seed_0/draw/diffubias"]

    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    first.write_text("path,caption\n")
    second.write_text("path,caption\n")
    same = task(captions__csv=str(first))
    assert task(captions__csv=str(second)) == same
    second.write_text("path,caption!\n")
    assert task(captions__csv=str(second)) != same

    for name, text in (("a", "12345"), ("b", "54321"), ("c", "123456")):
        (tmp_path / name / "unet").mkdir(parents=True)
        (tmp_path / name / "unet" / "weights").write_text(text)
    same = task(text_to_image__folder=str(tmp_path / "a"))
    assert task(text_to_image__folder=str(tmp_path / "b")) == same
    assert task(text_to_image__folder=str(tmp_path / "c"))[1] != same[1]
    (tmp_path / "b" / "unet" / "weights").rename(tmp_path / "b" / "unet" / "other")
    assert task(text_to_image__folder=str(tmp_path / "b"))[1] != same[1]


def test_a_field_that_a_task_names_by_itself_counts_as_in_its_section(tmp_path):
    table = tmp_path / "captions.csv"
    table.write_text("path,caption\n")
    config = digits_diffubias.get_config("smoke")
    config.captions.csv = str(table)
    task = next(task for task in plan(config, True) if task.stage == "train_biased")
    named = task._replace(sections=("classifier.log_every", "captions.csv", "biased.num_steps"))
    section = task._replace(sections=("captions",))
    record = records(config, [named], HASHES)[task.name]
    in_section = records(config, [section], HASHES)[task.name]
    assert record["config"] == {
        "captions.csv": in_section["config"]["captions"]["csv"],
        "biased.num_steps": 0,
    }
    # sha256 of the file's bytes, worked out by sha256sum.
    assert record["config"]["captions.csv"] == "7c196955d950d960"
