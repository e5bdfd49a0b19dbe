"""Detection metrics by counting pairs and ranks."""

import numpy as np
import pytest

from ddb_jax.evaluation.bias_detection import detection_metrics, metrics_where_known

# In falling order of score the truth is 1 0 1 (1 0 tied) 0.
SCORES = np.array([5.0, 4.0, 3.0, 2.0, 2.0, 1.0])
CONFLICTING = np.array([1, 0, 1, 1, 0, 0], bool)
FLAGGED = np.array([1, 1, 1, 0, 0, 0], bool)


def test_metrics_by_counting():
    pairs = [
        np.sign(positive - negative) / 2 + 0.5
        for positive in SCORES[CONFLICTING]
        for negative in SCORES[~CONFLICTING]
    ]
    assert sum(pairs) == 6.5  # 3 + 2 + 1.5 of 9
    result = detection_metrics(SCORES, FLAGGED, CONFLICTING)
    assert result == pytest.approx(
        {
            "bias_auroc": 6.5 / 9,
            # Recall grows by 1/3 at precision 1/1, 2/3, and (the tied two together) 3/5.
            "bias_average_precision": (1 + 2 / 3 + 3 / 5) / 3,
            "bias_prevalence": 0.5,
            "bias_precision": 2 / 3,
            "bias_recall": 2 / 3,
            "bias_flagged": 3,
        }
    )


def test_unknown_truth_leaves_the_count():
    result = detection_metrics(SCORES, FLAGGED, None)
    assert result.pop("bias_flagged") == 3
    assert set(result.values()) == {None}


@pytest.mark.parametrize(
    ("truth", "prevalence", "precision", "recall"), [(False, 0.0, 0.0, None), (True, 1.0, 1.0, 0.5)]
)
def test_images_of_one_kind_have_no_ranking_figures(truth, prevalence, precision, recall):
    result = detection_metrics(SCORES, FLAGGED, np.full(6, truth))
    assert result["bias_auroc"] is None and result["bias_average_precision"] is None
    assert result["bias_prevalence"] == prevalence
    assert result["bias_precision"] == precision
    assert result["bias_recall"] == recall


def test_nothing_flagged_has_recall_zero_and_no_precision():
    result = detection_metrics(SCORES, np.zeros(6, bool), CONFLICTING)
    assert (result["bias_precision"], result["bias_recall"]) == (None, 0.0)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="one length"):
        detection_metrics(SCORES, FLAGGED, CONFLICTING[:4])
    with pytest.raises(ValueError, match="not finite"):
        detection_metrics(np.where(SCORES == 5.0, np.nan, SCORES), FLAGGED, CONFLICTING)


def test_images_of_unknown_bias_are_left_out_of_the_figures():
    """Known: the first four, of which the second and fourth conflict; three pairs of four rank."""
    scores = np.array([0.1, 0.9, 0.5, 0.3, 7.0, 8.0])
    flagged = np.array([False, True, True, False, True, True])
    truth = np.array([0, 1, 0, 1, -1, -1])
    found = metrics_where_known(scores, flagged, truth)
    assert found == detection_metrics(scores[:4], flagged[:4], truth[:4] == 1)
    assert (found["bias_auroc"], found["bias_flagged"]) == (0.75, 2)
    assert (found["bias_precision"], found["bias_recall"]) == (0.5, 0.5)


def test_without_any_known_bias_all_flagged_images_are_counted():
    flagged = np.array([True, False, True])
    for scores in (np.array([1.0, 2.0, 3.0]), None):
        found = metrics_where_known(scores, flagged, np.full(3, -1))
        assert found.pop("bias_flagged") == 2 and set(found.values()) == {None}


def test_without_scores_nothing_is_said_of_their_ranking():
    flagged, truth = np.array([True, False, True]), np.array([1, 0, 0])
    found = metrics_where_known(None, flagged, truth)
    assert found["bias_auroc"] is None and found["bias_average_precision"] is None
    assert (found["bias_precision"], found["bias_recall"]) == (0.5, 1.0)
    assert found["bias_prevalence"] == pytest.approx(1 / 3)
