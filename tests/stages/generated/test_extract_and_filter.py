"""Extraction and the filter of captions, as stages: what they hand on, and what they refuse."""

import logging

import numpy as np
import pytest
from caption_context import LABELS, LOSSES, captions_of, make_context, rows_of

from ddb_jax.runtime.errors import UserError
from ddb_jax.stages.common.scores_table import COLUMNS, write_scores
from ddb_jax.stages.generated import extract, filter_captions
from ddb_jax.stages.generated.captions_table import CaptionTable, write_captions


@pytest.fixture
def context(tmp_path):
    return make_context(tmp_path)


def write_losses(context, losses):
    train = context.dataset.train
    columns = {name: np.zeros(len(train), np.int32) for name in COLUMNS}
    columns |= {"path": train.paths, "label": LABELS, "loss": losses}
    columns["split"] = ["train"] * len(train)
    write_scores(context.inputs["train_biased"] / "scores.csv", columns)


# Extraction.


def test_extract_writes_the_highest_losses_of_every_class_in_order(context):
    write_losses(context, LOSSES)
    result = extract.run(context)
    assert rows_of(context.folder / "extracted.csv") == [
        ("index", "path", "label", "loss"),
        ("1", "img/1.png", "0", "2"),
        ("2", "img/2.png", "0", "1"),
        ("5", "img/5.png", "1", "9"),
        ("3", "img/3.png", "1", "3"),
        ("6", "img/6.png", "2", "4"),
        ("7", "img/7.png", "2", "4"),
    ]
    assert result == {"images": 6, "per_class": {"cat": 2, "dog": 2, "owl": 2}}
    assert (context.folder / "sheet.png").stat().st_size > 0


def test_extract_over_all_classes(context):
    write_losses(context, LOSSES)
    context.config.extraction.per_class = False
    assert extract.run(context)["per_class"] == {"cat": 0, "dog": 1, "owl": 1}
    assert [row[0] for row in rows_of(context.folder / "extracted.csv")[1:]] == ["5", "6"]


def test_a_class_smaller_than_k_is_warned_of(context, caplog):
    write_losses(context, LOSSES)
    context.config.extraction.k = 3
    assert extract.run(context)["images"] == 8
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING] == [
        "warning: stage: 3 images of class owl were asked for and it has 2: all are taken."
    ]


def test_losses_that_are_not_finite_are_refused(context):
    write_losses(context, np.where(LABELS == 2, np.nan, LOSSES))
    with pytest.raises(UserError, match="do not rank the images: The loss of example 6 is nan"):
        extract.run(context)


# The filter.

TEXTS = ("a green bird", "two birds", "a green bird", "green grass", "a sofa", "Bird on a sofa")
#        the words: green 3, bird 3, then sofa 2, then birds, grass (two: 1, and before birds)


def captioned(context, texts=TEXTS, labels=(0, 1, 0, 1, 2, 2)):
    table = CaptionTable(np.array(labels, np.int32), np.arange(len(texts), dtype=np.int32), texts)
    write_captions(context.inputs["caption"], table)


def test_captions_without_a_frequent_word_are_dropped_and_duplicates_stay(context):
    captioned(context)
    context.config.text_filter.words_per_class = 1
    result = filter_captions.run(context)
    assert result == {"captions": 6, "kept": 5, "words": ["green", "bird", "sofa"]}
    assert captions_of(context)[1:] == [
        ("0", "0", "a green bird"),
        ("0", "2", "a green bird"),
        ("1", "3", "green grass"),
        ("2", "4", "a sofa"),
        ("2", "5", "Bird on a sofa"),
    ]
    assert rows_of(context.folder / "words.csv") == [
        ("word", "count"), ("green", "3"), ("bird", "3"), ("sofa", "2"),
    ]  # fmt: skip
    table = rows_of(context.folder / "filter.csv")
    assert table[0] == ("label", "caption", "kept", "why")
    assert table[2] == ("1", "two birds", "0", "contains none of the frequent words")
    assert table[6] == ("2", "Bird on a sofa", "1", "contains bird, sofa")


def test_substrings(context):
    captioned(context)
    context.config.text_filter.words_per_class = 1
    context.config.text_filter.whole_words = False
    assert filter_captions.run(context)["kept"] == 6


def test_a_class_without_a_caption_left_is_refused_unless_allowed(context, caplog):
    captioned(context, ("one cat", "one cat", "a dog", "an owl"), (0, 0, 1, 2))
    context.config.text_filter.words_per_class = 1
    # one, cat and dog are the words.
    with pytest.raises(UserError) as error:
        filter_captions.run(context)
    assert str(error.value) == (
        "no caption of class owl has one of the 3 most frequent words (one, cat, dog): raise"
        " config.text_filter.words_per_class, or set config.text_filter.allow_empty_classes=True"
        " to draw no image of such a class."
    )
    context.config.text_filter.allow_empty_classes = True
    assert filter_captions.run(context)["kept"] == 3
    assert "warning: stage: no caption of class owl has one of" in caplog.text


def test_no_caption_left_at_all_is_refused_even_where_empty_classes_are_allowed(context):
    captioned(context, ("12", "...", "3"), (0, 1, 2))
    context.config.text_filter.allow_empty_classes = True
    with pytest.raises(UserError, match="no caption of class cat, dog, owl"):
        filter_captions.run(context)
