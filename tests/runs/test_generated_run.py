"""Whole runs of methods on generated images: DiffuBias, and DDB's own model drawn otherwise."""

import csv
import json

import pytest
from runs import make_tiny_config, run, use_mlp

from ddb_jax.configs import digits_diffubias

METHODS = ("diffubias", "lff+diffubias", "ddb_i+rebalanced", "ddb_ii+steered")


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    config, tiny = digits_diffubias.get_config("smoke"), make_tiny_config()
    for section in ("unet", "diffusion", "synthesis", "measure_synthesis"):
        config[section] = tiny[section]
    config.num_devices = 1
    config.amplifier, config.classifier = tiny.amplifier, tiny.classifier
    use_mlp(config)
    config.classifier.selection = config.classifier.plain_selection = "last"
    config.gate.labels, config.gate.debiased_method = True, "erm"
    config.gate.copies = False  # of eight pixels a side all are near one another
    config.steering.fine_tune_steps = 4
    sizes = config.train_text_to_image
    sizes.image_size = 8
    sizes.autoencoder_channels = sizes.unet_channels = (8,)
    for training in (sizes.autoencoder, sizes.diffusion):
        training.num_steps = 4
    config.methods = METHODS
    folder = tmp_path_factory.mktemp("generated")
    run(config, folder)
    return folder


def read(path):
    return json.loads(path.read_text())


def test_every_method_is_in_the_table(workdir):
    with (workdir / "results.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "average_accuracy"]
    assert {row["method"] for row in rows} == set(METHODS)


def test_methods_train_on_what_the_gate_kept(workdir):
    for method in METHODS:
        source = method.split("+")[-1]
        kept = read(workdir / "seed_0/check_generated" / source / "gate.json")["all"]["kept"]
        selection = read(workdir / "seed_0/train_classifier" / method / "selection.json")
        assert selection["generated"] == kept > 0, method


def test_groups_count_real_and_generated_images(workdir):
    selection = read(workdir / "seed_0/train_classifier/ddb_i+rebalanced/selection.json")
    with (workdir / "seed_0/score/synthetic/scores.csv").open() as file:
        real = sum(row["split"] == "train" for row in csv.DictReader(file))
    assert sum(selection["group_sizes"].values()) == real + selection["generated"]


def test_only_what_the_amplifier_rejects_is_kept_of_its_own_models_images(workdir):
    with (workdir / "seed_0/score_generated/rebalanced/scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows and all(row["predicted"] != row["label"] for row in rows)


def test_opinions_are_of_real_images_alone(workdir):
    # LfF's weights are of both kinds; what it detects is judged where the bias is known.
    detection = read(workdir / "seed_0/train_classifier/lff+diffubias/detection.json")
    assert 0 < detection["bias_prevalence"] < 0.2


def test_the_report_shows_where_the_images_come_from(workdir):
    page = (workdir / "report.html").read_text()
    for words in (
        "Images generated against the bias",
        "A small model, trained on captioned coloured digits",
        "What the text filter did",
        "g CO2",
    ):
        assert words in page, words
