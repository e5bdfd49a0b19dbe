"""Scores from a file as the stage: thresholds, verdicts, the methods that need more."""

import json
import logging

import numpy as np
import pytest
from ml_collections import ConfigDict
from scores_csv import CLASSES, LABELS, LOSSES, NUMBERS, PATHS, PREDICTED, csv, train_rows

from ddb_jax.data.scores_file import GivenScores
from ddb_jax.data.source import ArraySource, Dataset
from ddb_jax.runtime.errors import UserError
from ddb_jax.stages.amplifier import given_scores
from ddb_jax.stages.amplifier.given_scores import (
    needed_column,
    refuse_methods,
    top_share_thresholds,
)
from ddb_jax.stages.common.classifier_training import Predictions
from ddb_jax.stages.common.scores_table import read_scores, select_split
from ddb_jax.stages.common.scoring import write_scoring
from ddb_jax.stages.context import Context


@pytest.fixture
def context(tmp_path):
    """Eight training, four validation and two test images; the bias of all but one is known."""
    biases = {"train": [0, 0, 0, 1, 1, 0, 0, -1], "validation": [0, 1, 1, 0], "test": [0, 1]}
    sources = {
        split: ArraySource(
            np.zeros((len(labels), 2, 2, 3), np.uint8),
            labels,
            np.array(biases[split]),
            PATHS[split],
        )
        for split, labels in LABELS.items()
    }
    dataset = Dataset("set", **sources, class_names=CLASSES, bias_names=CLASSES)
    config = ConfigDict()
    config.methods = ("erm", "ddb_i")
    config.given_scores = {"csv": str(tmp_path / "mine.csv")}
    config.pseudo_groups = {"rule": "loss_threshold", "gamma": 1.0, "top_share": 0.25}
    (tmp_path / "out").mkdir()
    return Context(config, dataset, None, None, "given", 0, tmp_path / "out", {})


def table(context, split="train"):
    return select_split(read_scores(context.folder / "scores.csv"), split)


def detection(context):
    return json.loads((context.folder / "detection.json").read_text())


# The stage.


def test_top_share_by_hand():
    labels = np.array([0] * 8 + [1] * 4 + [2] * 3 + [3])
    scores = np.array([1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 9, 4, 4, 4, -2.0])
    # A quarter: 2 of 8 are 7 and 8; of 0, 0, 0, 9 it is 9. Equal scores, and one image, give none.
    np.testing.assert_array_equal(
        top_share_thresholds(labels, scores, 0.25, 5), [7, 9, np.inf, np.inf, np.inf]
    )
    # Half of 0, 0, 0, 9 would cut among the zeros, of which none is more suspect than another.
    assert top_share_thresholds(labels, scores, 0.5, 5)[1] == 9
    # Ties at the threshold all belong to the share.
    ties = np.array([1, 5, 5, 5])
    assert top_share_thresholds(np.zeros(4, int), ties, 0.25, 1)[0] == 5


def test_a_score_alone_flags_the_top_share(context, tmp_path, caplog):
    rows = [*train_rows([-5, -6, -7, 3, 0, 2, 1, 0]), ("v0.png", 3), ("v1.png", 2.9)]
    csv(tmp_path, "path,score", [*rows, ("v2.png", 2), ("v3.png", -1)])
    with caplog.at_level(logging.INFO, "ddb_jax"):
        found = given_scores.run(context)
    assert "2 of 8 training images are flagged (top_share)" in caplog.text
    assert "warning" not in caplog.text
    train, validation = table(context), table(context, "validation")
    np.testing.assert_array_equal(train["pseudo_conflicting"], [0, 0, 0, 1, 0, 1, 0, 0])
    # Validation is flagged by the thresholds of train, 3 of cats and 2 of dogs.
    np.testing.assert_array_equal(validation["pseudo_conflicting"], [1, 0, 1, 0])
    np.testing.assert_array_equal(train["rank_in_class"], [2, 3, 4, 1, 3, 1, 2, 4])
    assert list(train["pseudo_group"][[0, 3, 5]]) == [
        "cat/aligned", "cat/conflicting", "big/dog/conflicting",
    ]  # fmt: skip
    for name in ("loss", "probability", "predicted", "error_set"):
        assert set(train[name]) == set(validation[name]) == {-1}, name
    written = detection(context)
    assert written["class_thresholds"] == [3, 2] and written["threshold"] is None
    assert written["train"]["accuracy"] is None and written["train"]["error_set"] is None
    # Conflicting are 3, 5, 6 of the seven whose bias is known, with scores 3, 2, 1, above all.
    assert found == written["train"]["rule"]
    assert found["bias_auroc"] == 1.0 and found["bias_precision"] == 1.0
    assert found["bias_recall"] == pytest.approx(2 / 3)


def test_predictions_bring_the_configured_rule(context, tmp_path):
    columns = (LOSSES, PREDICTED)
    rows = [*train_rows(*columns), ("v0.png", 9, 0), ("v1.png", 9, 1), ("v2.png", 0.2, 0)]
    csv(tmp_path, "path,loss,predicted", [*rows, ("v3.png", 0.5, 0)])
    given_scores.run(context)
    # Right ones have the losses .1, .2, .3, .1, .4: mean .22, deviation .117, threshold .337.
    written = detection(context)
    assert written["rule"] == "loss_threshold"
    assert written["threshold"] == pytest.approx(0.22 + np.sqrt(0.0136), abs=1e-6)
    np.testing.assert_array_equal(table(context)["pseudo_conflicting"], [0, 0, 0, 1, 0, 1, 1, 0])
    validation = table(context, "validation")
    np.testing.assert_array_equal(validation["pseudo_conflicting"], [0, 1, 0, 1])
    np.testing.assert_array_equal(validation["error_set"], [0, 1, 1, 1])
    assert written["validation"]["accuracy"] == 0.25
    context.config.pseudo_groups.rule = "error_set"
    given_scores.run(context)
    validation = table(context, "validation")
    np.testing.assert_array_equal(validation["pseudo_conflicting"], [0, 1, 1, 1])


def test_verdicts_alone_hold_and_validation_may_be_silent(context, tmp_path, caplog):
    csv(tmp_path, "path,pseudo_conflicting", train_rows([0, 1, 0, 0, 0, 0, 1, 0]))
    found = given_scores.run(context)
    assert "does not say which validation images conflict" in caplog.text
    train, validation = table(context), table(context, "validation")
    np.testing.assert_array_equal(train["pseudo_conflicting"], [0, 1, 0, 0, 0, 0, 1, 0])
    assert set(train["rank_in_class"]) == {-1} and set(validation["pseudo_conflicting"]) == {0}
    assert list(validation["index"]) == [0, 1, 2, 3]
    # Of 1 and 6 only 6 conflicts; 3 and 5 are missed. Nothing is ranked.
    assert found["bias_precision"] == 0.5 and found["bias_recall"] == pytest.approx(1 / 3)
    assert found["bias_auroc"] is None and found["bias_average_precision"] is None


def test_equal_scores_find_nothing_and_say_so(context, tmp_path, caplog):
    csv(tmp_path, "path,score", train_rows([1] * 8))
    given_scores.run(context)
    assert "the same score, 1" in caplog.text and "no training image is flagged" in caplog.text
    assert set(table(context)["pseudo_conflicting"]) == {0}
    assert detection(context)["train"]["dropped_groups"] == [
        "cat/conflicting",
        "big/dog/conflicting",
    ]


def test_our_own_table_comes_back_as_it_was(context, tmp_path):
    predictions = {
        8: Predictions(np.array(PREDICTED), np.exp(-np.float32(LOSSES)), np.float32(LOSSES)),
        4: Predictions(np.array([0, 1, 0, 1]), np.float32([0.5] * 4), np.float32([1, 2, 3, 4])),
    }
    write_scoring(context, context.dataset, lambda source: predictions[len(source)])
    first = (context.folder / "scores.csv").read_text()
    np.testing.assert_array_equal(table(context)["pseudo_conflicting"], [0, 0, 0, 1, 0, 1, 1, 0])
    (tmp_path / "mine.csv").write_text(first)
    context.config.methods = ("erm", "ddb_ii", "jtt+ddb", "bias_bal+ddb")
    given_scores.run(context)
    assert (context.folder / "scores.csv").read_text() == first
    assert detection(context)["rule"] == "given"


def test_a_vote_replaces_the_rule(context):
    calls = []

    def flag(split, labels, predictions):
        calls.append((split, list(labels), float(predictions.loss[0])))
        return np.arange(len(labels)) == 1

    def predict(source):
        zeros = np.zeros(len(source), np.int32)
        return Predictions(zeros, np.float32(zeros + 0.5), np.float32(zeros + 0.25))

    write_scoring(context, context.dataset, predict, flag=flag, flag_name="committee")
    assert calls == [
        ("train", list(LABELS["train"]), 0.25),
        ("validation", list(LABELS["validation"]), 0.25),
    ]
    assert list(np.flatnonzero(table(context)["pseudo_conflicting"])) == [1]
    assert list(np.flatnonzero(table(context, "validation")["pseudo_conflicting"])) == [1]
    assert list(table(context)["error_set"]) == [0] * 4 + [1] * 4
    assert detection(context)["rule"] == "committee" and detection(context)["threshold"] is None


def test_methods_that_need_more_are_refused(context, tmp_path):
    csv(tmp_path, "path,score", train_rows(NUMBERS))
    context.config.methods = ("erm", "ddb_ii", "ddb_i", "jtt+ddb", "bias_bal+ddb")
    with pytest.raises(UserError) as error:
        given_scores.run(context)
    said = str(error.value)
    assert "no column loss, which ddb_ii needs" in said and "may be called loss" in said
    assert "no column predicted, which jtt+ddb, bias_bal+ddb need" in said
    working = said.split("enough for ")[1].rstrip(".").split(", ")
    assert {"ddb_i", "resampling+ddb"} <= set(working)
    assert not {"ddb_ii", "jtt+ddb", "ddb_i_error_set", "bias_bal+ddb"} & set(working)
    assert "\n" not in said and not list(context.folder.iterdir())

    full = GivenScores(loss=np.ones(8), predicted=np.zeros(8))
    refuse_methods(tmp_path, full, context.config.methods)
    with pytest.raises(UserError, match="no column probability, which afr"):
        refuse_methods(tmp_path, full, ["afr+ddb"])


def test_what_each_method_reads():
    expected = {
        "erm": None, "jtt": None, "group_dro": None, "bias_bal": None, "ddb_i": None,
        "resampling+ddb": None, "ddb_ii": "loss", "lff+ddb": "loss", "disent+ddb": "loss",
        "bias_bal+ddb": "predicted", "selecmix+ddb": "predicted", "jtt+ddb": "predicted",
        "ddb_i_error_set": "predicted", "afr+ddb": "probability",
    }  # fmt: skip
    assert {method: needed_column(method) for method in expected} == expected


def test_a_bad_file_is_the_users(context):
    with pytest.raises(UserError, match=r"there is no file .*mine.csv"):
        given_scores.run(context)
