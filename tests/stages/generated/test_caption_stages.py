"""Captions from files and captioners, as a stage: what it hands on, and what it refuses."""

import logging
import sys
from dataclasses import replace

import numpy as np
import pytest
from caption_context import (
    GREY,
    LABELS,
    captions_of,
    extracted,
    make_context,
)
from runs import StopAfter

from ddb_jax.runtime.errors import Interrupted, UserError
from ddb_jax.stages.common import classifier_training as classifier
from ddb_jax.stages.generated import caption
from ddb_jax.stages.generated.captions_table import CaptionTable, read_caption_table, write_captions
from ddb_jax.text_to_image.captioned_set import Captioned


@pytest.fixture
def context(tmp_path):
    return make_context(tmp_path)


def from_csv(context, text):
    path = context.folder.parent / "mine.csv"
    path.write_text(text)
    context.config.captions.source, context.config.captions.csv = "csv", str(path)


# Captions from a file.


def test_captions_of_classes_are_taken_in_the_order_of_the_file(context):
    extracted(context, [1, 5, 6])
    from_csv(context, 'label,generated_text\nowl,"an owl, at night"\n0,a cat\ndog,a dog\n0,a cat\n')
    assert caption.run(context) == {"images": 3, "captions": 4}
    assert captions_of(context) == [
        ("label", "index", "caption"),
        ("2", "-1", "an owl, at night"),
        ("0", "-1", "a cat"),
        ("1", "-1", "a dog"),
        ("0", "-1", "a cat"),
    ]


def test_captions_of_images_are_taken_where_they_are_extracted(context, caplog):
    extracted(context, [6, 5, 2, 3])
    from_csv(
        context,
        "path,caption_1,caption_2\nimg/0.png,no,no\nimg/2.png,two,zwei\nimg/5.png,cinq,\n"
        "img/6.png,six,sechs\nimg/5.png,five,\n",
    )
    assert caption.run(context) == {"images": 4, "captions": 6}
    assert captions_of(context)[1:] == [
        ("2", "6", "six"),
        ("2", "6", "sechs"),
        ("1", "5", "cinq"),
        ("1", "5", "five"),
        ("0", "2", "two"),
        ("0", "2", "zwei"),
    ]
    told = [r.getMessage() for r in caplog.records]
    assert told[0] == "warning: stage: mine.csv: 2 empty captions are left out."
    assert "1 of 4 extracted images have no caption in" in told[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,text\na,b\n", "captioned: .*mine.csv has no column label or generated_text"),
        ("path,caption\nimg/9.png,x\n", "whose path is not among the 8 images .*'img/9.png'"),
        ("label,generated_text\n3,x\n", r"label is not a class \(cat, dog, owl\)"),
        ("label,generated_text\ncat,x\n", "class dog, owl is in .*mine.csv: add some"),
        ("path,caption\nimg/3.png,x\n", "caption of class cat, owl is of an extracted image: add"),
        ("path,caption\nimg/0.png,x\n", r"class cat, dog, owl is of .* the file\.$"),
    ],
)
def test_a_bad_file_is_refused(context, text, message):
    extracted(context, [1, 3, 7])
    from_csv(context, text)
    with pytest.raises(UserError, match=message):
        caption.run(context)


def test_a_file_that_is_not_there_is_refused(context):
    extracted(context, [1])
    context.config.captions.source, context.config.captions.csv = "csv", "none.csv"
    with pytest.raises(UserError, match=r"there is no file none\.csv"):
        caption.run(context)


# Captions from captioners.


def fake_captioner(monkeypatch, calls, chunk_size=2):
    """Says the grey value of an image, and how it was asked."""

    def make(name, **options):
        def captions(images, number):
            calls.append(len(images))
            seen = images[:, 0, 0, 0].tolist()
            return [[f"{name} {value} {i}" for i in range(number)] for value in seen]

        assert options["decoding"] == "beam" and options["prompt"] == "a picture of"
        return captions

    monkeypatch.setattr(caption, "hugging_face_captioner", make)
    kind = caption.CAPTIONERS["hugging_face"]._replace(chunk_size=chunk_size)
    monkeypatch.setitem(caption.CAPTIONERS, "hugging_face", kind)


def test_a_captioner_sees_the_extracted_images_and_goes_on_where_it_stopped(context, monkeypatch):
    calls = []
    fake_captioner(monkeypatch, calls)
    extracted(context, [5, 1, 6, 3, 7])
    captions = context.config.captions
    captions.source, captions.model, captions.prompt = "hugging_face", "m", "a picture of"
    stopped = replace(context, stop=StopAfter(2))
    with pytest.raises(Interrupted, match="4 of 5 images are captioned"):
        caption.run(stopped)
    assert calls == [2, 2]
    assert caption.run(context) == {"images": 5, "captions": 10}
    assert calls == [2, 2, 1]
    assert captions_of(context)[1:] == [
        (str(LABELS[i]), str(i), f"m {GREY[i]} {number}")
        for i in (5, 1, 6, 3, 7)
        for number in (0, 1)
    ]


def test_a_class_without_an_extracted_image_is_refused_unless_allowed(context, monkeypatch, caplog):
    fake_captioner(monkeypatch, [])
    extracted(context, [5, 6])
    captions = context.config.captions
    captions.source, captions.prompt = "hugging_face", "a picture of"
    with pytest.raises(UserError, match=r"class cat was written, .*extraction\.per_class=True, or"):
        caption.run(context)
    context.config.text_filter.allow_empty_classes = True
    assert caption.run(context)["captions"] == 4
    assert "class cat was written" in caplog.text and "none of its images is drawn" in caplog.text


def test_a_missing_captioner_is_told_with_the_command(context, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    extracted(context, [5])
    context.config.captions.source = "hugging_face"
    with pytest.raises(UserError, match=r"PyTorch.*pip install -e '\.\[captions\]'"):
        caption.run(context)


def reference_set(monkeypatch, greys, captions):
    def load_captioned(config, image_size):
        assert image_size == 4
        images = np.broadcast_to(np.array(greys)[:, None, None, None], (len(greys), 4, 4, 3))
        return Captioned(images.astype(np.uint8), captions, captions)

    monkeypatch.setattr(caption, "load_captioned", load_captioned)


def test_retrieval_by_pixels_is_by_the_distance_from_the_mean(context, monkeypatch):
    # All grey images have one direction: only less the mean, 120, are 30 and 210 apart.
    reference_set(monkeypatch, [200, 40], ("bright", "dark"))
    extracted(context, [1, 6, 3])
    context.config.captions.per_image = 1
    caption.run(context)
    assert captions_of(context)[1:] == [
        ("0", "1", "dark"),
        ("2", "6", "bright"),
        ("1", "3", "dark"),
    ]


def test_retrieval_by_pretrained_features(context, monkeypatch, caplog):
    c = context.config
    c.classifier = {
        "network": "mlp", "width": 8, "stem": "cifar", "norm": "batch", "dtype": "float32",
        "remat": False,
        "image_size": 4, "normalization": "symmetric", "weights": "",
    }  # fmt: skip
    reference_set(monkeypatch, [250, 10, 130], ("bright", "dark", "middling"))
    extracted(context, [4, 7, 0])
    c.captions.features, c.captions.per_image = "pretrained", 1
    with pytest.raises(UserError, match=r"needs config\.classifier\.weights, which is empty"):
        caption.run(context)

    def load_pretrained(network, variables, path):
        assert network == "mlp" and path.name == "some.safetensors"
        return variables, ("the head is new",)

    monkeypatch.setattr(classifier, "load_pretrained", load_pretrained)
    c.classifier.weights = "some.safetensors"
    caplog.set_level(logging.INFO)
    caption.run(context)
    # The very images are in the reference set.
    assert [row[2] for row in captions_of(context)[1:]] == ["middling", "bright", "dark"]
    assert "the head is new" in caplog.text


def test_too_few_captions_in_the_reference_set_are_told(context, monkeypatch):
    reference_set(monkeypatch, [200, 40], ("same", "same"))
    extracted(context, [1, 6, 3])
    with pytest.raises(UserError, match="captioned: num_captions is 2"):
        caption.run(context)


def test_the_table_gives_back_what_was_written(tmp_path):
    texts = ('say "cheese", please', "un café", "")
    table = CaptionTable(np.array([2, 0, 1], np.int32), np.array([-1, 5, 0], np.int32), texts)
    write_captions(tmp_path, table)
    read = read_caption_table(tmp_path)
    assert read.captions == texts
    assert read.labels.tolist() == [2, 0, 1] and read.indices.tolist() == [-1, 5, 0]
