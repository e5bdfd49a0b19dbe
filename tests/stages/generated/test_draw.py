"""The stage that draws images from captions: which captions, how many images, restarts."""

import csv
import json
import logging

import numpy as np
import pytest
from runs import StopAfter
from tiny_text_to_image import CAPTIONS, nan_in_decoder, write_model

from ddb_jax.configs import base
from ddb_jax.data.source import ArraySource, Dataset
from ddb_jax.runtime.errors import Interrupted, UserError
from ddb_jax.runtime.stop import StopFlag
from ddb_jax.stages.common.images_per_class import images_per_class, labels_in_turn
from ddb_jax.stages.common.sampled_set import load_finite, load_sampled
from ddb_jax.stages.common.scores_table import COLUMNS, write_scores
from ddb_jax.stages.context import Context
from ddb_jax.stages.generated import draw
from ddb_jax.training.mesh import make_mesh

pytest.importorskip("tokenizers")

# Class 0 has two captions, class 1 one, class 2 none.
ROWS = ((0, 4, CAPTIONS[0]), (1, 9, CAPTIONS[1]), (0, -1, CAPTIONS[2]))
# What the biased classifier says of four images a class: 3, 4 and 2 of them are right.
PREDICTED = (0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 0, 0)
NAMES = ("zero", "one", "two")


def make_context(tmp_path, *, model=None, stop=None, **changes):
    """Inputs are written under tmp_path; `model` is the folder of a model."""
    config = base.get_config()
    config.text_to_image.update(
        {"num_steps": 2, "dtype": "float32", "batch_size": 2, "shard_size": 4}
    )
    config.update_from_flattened_dict(changes)
    config.text_to_image.folder = str(model or "")
    captions, biased, folder = (tmp_path / name for name in ("captions", "biased", "draw"))
    for path in (captions, biased, folder):
        path.mkdir(exist_ok=True)
    with (captions / "captions.csv").open("w", newline="") as file:
        csv.writer(file).writerows((("label", "index", "caption"), *ROWS))
    columns = {name: np.zeros(15, kind) for name, kind in COLUMNS.items()}
    # Three images of validation, which do not count.
    columns["split"] = np.array(["train"] * 12 + ["validation"] * 3)
    columns["label"] = np.array([*np.repeat([0, 1, 2], 4), 0, 1, 2])
    columns["predicted"] = np.array([*PREDICTED, 0, 1, 2])
    write_scores(biased / "scores.csv", columns)
    source = ArraySource(np.zeros((1, 8, 8, 3), np.uint8), [0], [0])
    return Context(
        config,
        Dataset("toy", source, source, source, NAMES),
        make_mesh(1),
        StopFlag() if stop is None else stop,
        "seed_0/draw/diffubias",
        0,
        folder,
        {"captions": captions, "train_biased": biased},
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return folder


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    """A run that nothing stopped: its folder and result."""
    context = make_context(tmp_path_factory.mktemp("whole"), model=model)
    return context.folder, draw.run(context)


def prompts_of(folder):
    with (folder / "prompts.csv").open(newline="") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize(
    ("ratio", "expected"), [(1.0, [3, 4, 2]), (2.5, [8, 10, 5]), (0.1, [1, 1, 1]), (0.0, [3, 4, 2])]
)
def test_how_many_images(tmp_path, ratio, expected):
    """2.5 * 3 = 7.5 is rounded to the even 8."""
    context = make_context(tmp_path, **{"generated.ratio": ratio})
    np.testing.assert_array_equal(images_per_class(context), expected)


def test_labels_take_turns():
    assert labels_in_turn(np.array([3, 1, 0, 2])).tolist() == [0, 1, 3, 0, 3, 0]


def test_captions_take_turns(whole):
    """Of class 2, which has no caption, nothing is drawn."""
    folder, result = whole
    assert result == {"images": 7, "captions": 3}
    a, b, c = CAPTIONS
    assert prompts_of(folder) == [
        ["number", "label", "index", "caption"],
        ["0", "0", "4", a],
        ["1", "1", "9", b],
        ["2", "0", "-1", c],
        ["3", "1", "9", b],
        ["4", "0", "4", a],
        ["5", "1", "9", b],
        ["6", "1", "9", b],
    ]


def test_what_is_written(whole, model):
    folder, _ = whole
    source, finite = load_sampled(folder)
    assert source.image_shape == (8, 8, 3) and finite.all()
    assert source.labels.tolist() == [0, 1, 0, 1, 0, 1, 1]
    assert len({image.tobytes() for image in source.images}) == 7
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["counts"] == {"zero": 3, "one": 4, "two": 0}
    assert manifest["text_to_image_model"] == str(model)
    assert manifest["network_evaluations"] == 2 and manifest["not_finite"] == 0
    assert (folder / "contact_sheet.png").exists()


def test_a_ratio_of_zero_draws_one_for_each_caption(model, tmp_path, whole):
    context = make_context(tmp_path, model=model, **{"generated.ratio": 0.0})
    assert draw.run(context) == {"images": 3, "captions": 3}
    assert [row[3] for row in prompts_of(context.folder)[1:]] == list(CAPTIONS)
    # The first three prompts are those of the whole run, and so are the images.
    images, _ = load_sampled(context.folder)
    np.testing.assert_array_equal(images.images, load_sampled(whole[0])[0].images[:3])


def test_a_stopped_run_goes_on(model, tmp_path, whole):
    """Asked before each batch of two: the third question comes when one shard of four is whole."""
    with pytest.raises(Interrupted, match="1 of 2 shards are written"):
        draw.run(make_context(tmp_path, model=model, stop=StopAfter(3)))
    folder = tmp_path / "draw"
    first = folder / "images-00000-of-00002.arrayrecord"
    written = first.stat().st_mtime_ns
    assert not (folder / "images-00001-of-00002.arrayrecord").exists()
    assert draw.run(make_context(tmp_path, model=model)) == whole[1]
    assert first.stat().st_mtime_ns == written
    np.testing.assert_array_equal(load_sampled(folder)[0].images, load_sampled(whole[0])[0].images)


def test_a_trained_model_is_taken_where_no_folder_is_given(tmp_path, whole):
    trained = tmp_path / "trained"
    write_model(trained / "model")
    (trained / "done.json").write_text('{"fingerprint": "abc"}')
    context = make_context(tmp_path)
    context.inputs["train_text_to_image"] = trained
    draw.run(context)
    assert json.loads((tmp_path / "draw/manifest.json").read_text())["text_to_image_model"] == "abc"
    np.testing.assert_array_equal(
        load_sampled(context.folder)[0].images, load_sampled(whole[0])[0].images
    )


def test_images_that_are_not_finite_are_counted(tmp_path, caplog):
    write_model(tmp_path / "model", change_params=nan_in_decoder)
    with caplog.at_level(logging.WARNING, "ddb_jax"):
        draw.run(make_context(tmp_path, model=tmp_path / "model"))
    assert "7 of 7 images are not finite and are left out" in caplog.text
    assert len(load_finite(tmp_path / "draw")) == 0
    assert json.loads((tmp_path / "draw" / "manifest.json").read_text())["not_finite"] == 7


def test_a_model_that_lacks_files(tmp_path):
    (tmp_path / "model" / "unet").mkdir(parents=True)
    with pytest.raises(UserError, match=r"it lacks model_index\.json, .*unet/config\.json"):
        draw.run(make_context(tmp_path, model=tmp_path / "model"))
