"""The gate before training on generated images, and the amplifier's scores of what it lets pass.

The classifiers give one class whatever they see, or the class that the red of an image stands for.
"""

import csv
import dataclasses
import logging
from dataclasses import replace

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from ddb_jax.configs import generated_images
from ddb_jax.data.images.records import write_shard
from ddb_jax.data.source import ArraySource, Dataset
from ddb_jax.runtime.errors import UserError
from ddb_jax.runtime.files import read_json, write_json
from ddb_jax.runtime.stop import StopFlag
from ddb_jax.stages.common.networks import build_classifier, init_variables
from ddb_jax.stages.common.sampled_set import load_finite, load_sampled
from ddb_jax.stages.common.scores_table import COLUMNS, read_scores
from ddb_jax.stages.context import Context
from ddb_jax.stages.generated import check_generated, score_generated
from ddb_jax.training.checkpoint import save_weights
from ddb_jax.training.mesh import make_mesh

CLASSES = ("cat", "dog", "owl")
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1])
SIDE = {"drawn": 8, "classifier": 4, "generator": 2}


def section(side):
    return ConfigDict(
        {
            "network": "mlp", "width": 6, "stem": "cifar", "norm": "batch", "dtype": "float32",
            "remat": False,
            "image_size": side, "normalization": "unit",
        }
    )  # fmt: skip


def noise(count, seed, side):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def dataset_at(side):
    source = ArraySource(noise(12, 1, side), np.arange(12) % 3, np.full(12, -1))
    return Dataset("set", source, source, source, CLASSES)


@pytest.fixture
def context(tmp_path):
    config = ConfigDict()
    generated_images.add_sections(config)
    config.gate.labels = config.gate.copies = False
    config.classifier, config.amplifier = section(4), section(0)
    config.amplifier.image_size = 0
    config.diffusion = ConfigDict({"image_size": SIDE["generator"]})
    names = ("drawn", "train_biased", "debiased", "train_amplifier", "score", "out")
    folders = {name: tmp_path / name for name in names}
    for folder in folders.values():
        folder.mkdir()
    out = folders.pop("out")
    mesh = make_mesh(1)
    return Context(
        config, dataset_at(SIDE["classifier"]), mesh, StopFlag(), "gate", 0, out,
        {"drawn": folders["drawn"]},
    )  # fmt: skip


def draw(context, images, labels=LABELS, finite=None):
    """What a stage that draws leaves, in two shards."""
    folder, half = context.inputs["drawn"], len(images) // 2
    finite = np.full(len(images), True) if finite is None else finite
    for name, part in (("a", slice(None, half)), ("b", slice(half, None))):
        numbers = np.arange(len(images))[part]
        write_shard(folder / f"{name}.arrayrecord", images[part], labels[part], numbers)
        np.save(folder / f"{name}.finite.npy", finite[part])
    shards = ["a.arrayrecord", "b.arrayrecord"]
    manifest = {"shards": shards, "image_shape": list(images.shape[1:])}
    write_json(folder / "manifest.json", manifest)


def add_classifier(context, name, bias, red=0.0):
    """An input with a classifier whose logits are bias [K], plus `red` times the red for class 2.

    Red, 0..1, is that of the pixel in the upper left corner.
    """
    side = SIDE["generator" if name == "train_amplifier" else "classifier"]
    settings = context.config.amplifier if name == "train_amplifier" else context.config.classifier
    model = build_classifier(settings, 3)
    zeros = jax.eval_shape(lambda: init_variables(model, jax.random.key(0), side))
    variables = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), zeros)
    params = variables["params"]
    for i in range(3):
        params[f"hidden_{i}"]["kernel"][0, 0] = 1.0
    params["head"]["kernel"][0, 2] = red
    params["head"]["bias"][:] = bias
    folder = context.folder.parent / name
    save_weights(folder / "weights", {"params": params})
    write_json(folder / "selection.json", {"network": "classifier"})
    context.inputs[name] = folder


def with_training(context, images):
    """The same with other training images, all of a kind."""
    train = ArraySource(images, np.zeros(len(images)), np.full(len(images), -1))
    return replace(context, dataset=replace(context.dataset, train=train))


def numbers(context):
    """kept.csv as pairs."""
    with (context.folder / "kept.csv").open(newline="") as file:
        return [(int(row["number"]), int(row["drawn"])) for row in csv.DictReader(file)]


def test_images_that_are_not_finite_are_counted_and_never_trained_on(context, caplog):
    images = noise(8, 0, 8)
    draw(context, images, finite=np.array([1, 0, 1, 1, 1, 0, 1, 1], bool))
    counts = check_generated.run(context)
    assert counts == {
        "drawn": 8, "not_finite": 2, "copies": 0, "expected": 0, "denied": 0, "kept": 6,
    }  # fmt: skip
    assert numbers(context) == [(0, 0), (1, 2), (2, 3), (3, 4), (4, 6), (5, 7)]
    kept = load_finite(context.folder)
    assert kept.image_shape == (4, 4, 3)
    assert kept.labels.tolist() == [0, 2, 0, 1, 0, 1]
    assert "2 images are not finite and are left out" in caplog.text
    gate = read_json(context.folder / "gate.json")
    assert gate["all"] == counts and gate["held_out_copies"] is None
    assert gate["classes"]["owl"] == {
        "drawn": 2, "not_finite": 1, "copies": 0, "expected": 0, "denied": 0, "kept": 1,
    }  # fmt: skip
    for sheet in ("kept.png", "dropped.png"):
        assert (context.folder / sheet).stat().st_size > 0


def test_kept_images_are_brought_to_the_classifier_s_size(context):
    # Of one colour each, which every size keeps.
    colours = np.random.default_rng(3).integers(0, 256, (8, 1, 1, 3), dtype=np.uint8)
    draw(context, np.broadcast_to(colours, (8, 8, 8, 3)))
    check_generated.run(context)
    source, finite = load_sampled(context.folder)
    np.testing.assert_array_equal(source.images, np.broadcast_to(colours, (8, 4, 4, 3)))
    assert finite.all() and source.labels.tolist() == LABELS.tolist()
    manifest = read_json(context.folder / "manifest.json")
    assert manifest["counts"] == {"cat": 3, "dog": 3, "owl": 2}


def test_a_label_is_denied_where_both_classifiers_deny_it(context):
    draw(context, noise(8, 0, 8))
    context.config.gate.labels = True
    add_classifier(context, "train_biased", [1, 0, 0])
    add_classifier(context, "debiased", [0, 0, 1])
    counts = check_generated.run(context)
    # The one says cat of all and the other owl: nobody says dog.
    assert counts["denied"] == 3 and counts["kept"] == 5
    assert [drawn for _, drawn in numbers(context)] == [0, 2, 3, 5, 6]


def test_only_what_the_amplifier_rejects_is_kept(context, caplog):
    draw(context, noise(8, 0, 8))
    add_classifier(context, "train_amplifier", [0, 1, 0])
    counts = check_generated.run(context)
    assert counts["expected"] == 3
    assert [drawn for _, drawn in numbers(context)] == [0, 2, 3, 5, 6]
    warned = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warned == [
        "warning: gate: no generated image of class dog is left, which is trained on real images"
        " alone"
    ]


def test_copies_are_dropped_and_the_validation_images_tell_how_sure_that_is(context, caplog):
    images = noise(8, 5, 8)
    # At the classifier's size, which is where they are compared, these are training images.
    small = context.dataset.train.images
    images[[1, 6]] = np.repeat(np.repeat(small[[4, 9]], 2, axis=1), 2, axis=2)
    context.config.gate.copies, context.config.gate.copy_neighbours = True, 4
    draw(context, images)
    own = check_generated.resize_all(images[[1, 6]], 4)
    context = with_training(context, np.concatenate([small[:10], own]))
    assert check_generated.run(context)["copies"] == 2
    assert [drawn for _, drawn in numbers(context)] == [0, 2, 3, 4, 5, 7]
    # Ten of the twelve validation images are in the training set.
    assert read_json(context.folder / "gate.json")["held_out_copies"] == pytest.approx(10 / 12)
    assert "also flags 83% of the validation images as copies" in caplog.text


def test_the_first_reason_counts(context):
    images = noise(8, 0, 8)
    finite = np.arange(8) > 0
    draw(context, images, finite=finite)
    context.config.gate.labels = context.config.gate.copies = True
    shown = check_generated.resize_all(images[:2], 4)
    context = with_training(context, np.concatenate([shown, noise(10, 1, 4)]))
    context.config.gate.copy_neighbours = 2
    # 0 is not finite and a copy, 1 a copy and expected, 4 and 7 expected and denied, 2 and 5
    # denied.
    add_classifier(context, "train_amplifier", [0, 1, 0])
    add_classifier(context, "train_biased", [1, 0, 0])
    add_classifier(context, "debiased", [1, 0, 0])
    assert check_generated.run(context) == {
        "drawn": 8, "not_finite": 1, "copies": 1, "expected": 2, "denied": 2, "kept": 2,
    }  # fmt: skip


def test_a_gate_that_lets_nothing_pass_is_refused(context):
    draw(context, noise(8, 0, 8), labels=np.ones(8, int))
    add_classifier(context, "train_amplifier", [0, 1, 0])
    with pytest.raises(UserError, match=r"none of the 8 .* expected 8, denied 0\): see .*dropped"):
        check_generated.run(context)


def test_a_stage_that_was_killed_midway_gives_the_same(context, monkeypatch):
    monkeypatch.setattr(check_generated, "SHARD_SIZE", 3)
    draw(context, noise(8, 0, 8))
    check_generated.run(context)
    first = load_finite(context.folder)
    shards = sorted(context.folder.glob("*.arrayrecord"))
    assert len(shards) == 3
    shards[1].unlink()
    for name in ("manifest.json", "kept.csv", "gate.json"):
        (context.folder / name).unlink()
    check_generated.run(context)
    np.testing.assert_array_equal(load_finite(context.folder).images, first.images)
    assert len(numbers(context)) == 8


@pytest.mark.parametrize(
    ("threshold", "flagged"),
    [(1.5, [1, 0, 0, 0, 0]), (None, [1, 1, 0, 0, 1]), (0.9, [1, 1, 0, 0, 1])],
)
def test_kept_images_are_scored_by_the_threshold_of_the_real_ones(context, threshold, flagged):
    # Red 0, 0.2, ... of 1, here of the images that are kept: 0, 2, 3, 5 and 7.
    red = np.array([255, 9, 0, 0, 9, 255, 9, 51])
    draw(context, np.broadcast_to(red[:, None, None, None], (8, 8, 8, 3)).astype(np.uint8))
    # Logits 0, 0 and 2 red - 0.1.
    add_classifier(context, "train_amplifier", [0.5, 0, -0.1], red=2.0)
    for name in ("score", "check_generated"):
        context.inputs[name] = context.folder.parent / name
        context.inputs[name].mkdir(exist_ok=True)
    write_json(context.inputs["score"] / "detection.json", {"threshold": threshold})
    kept = [0, 2, 3, 5, 7]
    text = "".join(f"{i},{number}\n" for i, number in enumerate(kept))
    (context.inputs["check_generated"] / "kept.csv").write_text("number,drawn\n" + text)
    context = dataclasses.replace(context, dataset=dataset_at(SIDE["generator"]))
    result = score_generated.run(context)

    table = read_scores(context.folder / "scores.csv")
    logits = np.stack([np.full(5, 0.5), np.zeros(5), 2 * red[kept] / 255 - 0.1], axis=1)
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    of_label = probability[np.arange(5), LABELS[kept]]
    loss = -np.log(of_label)
    # cat: owl, cat (0.5 is most), owl: cat, owl: owl, dog: cat.
    predicted = logits.argmax(axis=1)
    errors = [1, 1, 0, 0, 1]
    assert predicted.tolist() == [2, 0, 0, 2, 0]
    assert LABELS[kept].tolist() == [0, 2, 0, 2, 1]
    assert set(table) == set(COLUMNS) and set(table["split"]) == {"generated"}
    assert table["index"].tolist() == [0, 1, 2, 3, 4]
    assert table["label"].tolist() == [0, 2, 0, 2, 1]
    assert table["predicted"].tolist() == predicted.tolist()
    np.testing.assert_allclose(table["probability"], of_label, rtol=1e-6)
    np.testing.assert_allclose(table["loss"], loss, rtol=1e-6)
    assert table["error_set"].tolist() == errors
    assert table["pseudo_conflicting"].tolist() == flagged
    names = ["aligned", "conflicting"]
    assert table["pseudo_group"].tolist() == [
        f"{CLASSES[label]}/{names[flag]}" for label, flag in zip(LABELS[kept], flagged, strict=True)
    ]
    # Losses of the cats 1.76 and 0.87, of the owls 1.30 and 0.45.
    assert table["rank_in_class"].tolist() == [1, 1, 2, 2, 1]
    assert table["bias"].tolist() == [-1] * 5 and table["conflicting"].tolist() == [-1] * 5
    assert table["path"].tolist()[-1] == "b.arrayrecord/3"
    assert result == {"images": 5, "conflicting": sum(flagged)}
