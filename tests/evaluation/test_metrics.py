"""Accuracies on a table worked by hand."""

import numpy as np
import pytest

from ddb_jax.evaluation.metrics import (
    attribute_gaps,
    evaluate_predictions,
    train_weighted_accuracy,
    wilson_interval,
)

# (label, bias, images, correct); the smallest group, class 1 on bias 0, is not the worst.
CELLS = [(0, 0, 10, 9), (0, 1, 5, 2), (1, 0, 2, 1), (1, 1, 8, 8)]


def _expand(cells):
    labels, bias, predicted = [], [], []
    for label, attribute, count, correct in cells:
        labels += [label] * count
        bias += [attribute] * count
        predicted += [label] * correct + [1 - label] * (count - correct)
    return np.array(labels), np.array(predicted), np.array(bias)


def test_table_by_hand():
    labels, predicted, bias = _expand(CELLS)
    result = evaluate_predictions(
        labels, predicted, bias, num_classes=2, class_names=["land", "water"]
    )
    groups = result.pop("groups")
    assert result == pytest.approx(
        {
            "average_accuracy": 20 / 25,
            "worst_class_accuracy": 11 / 15,
            "unbiased_accuracy": (0.9 + 0.4 + 0.5 + 1.0) / 4,
            "worst_group_accuracy": 0.4,
            "aligned_accuracy": 17 / 18,
            "conflicting_accuracy": 3 / 7,
        }
    )
    assert groups == [
        {"name": "land/aligned", "count": 10, "accuracy": 0.9},
        {"name": "land/conflicting", "count": 5, "accuracy": 0.4},
        {"name": "water/aligned", "count": 8, "accuracy": 1.0},
        {"name": "water/conflicting", "count": 2, "accuracy": 0.5},
    ]


def test_groups_by_bias_split_the_conflicting_images_of_three_classes():
    labels = np.array([0, 0, 0, 1, 2, 2])
    bias = np.array([0, 1, 2, 1, 0, 0])
    predicted = np.array([0, 0, 1, 1, 2, 0])
    result = evaluate_predictions(labels, predicted, bias, num_classes=3, group_by="bias")
    assert [(group["name"], group["accuracy"]) for group in result["groups"]] == [
        ("0/0", 1.0),
        ("0/1", 1.0),
        ("0/2", 0.0),
        ("1/1", 1.0),
        ("2/0", 0.5),
    ]
    assert result["unbiased_accuracy"] == pytest.approx(3.5 / 5)
    assert result["worst_group_accuracy"] == 0.0
    by_conflict = evaluate_predictions(labels, predicted, bias, num_classes=3)
    assert by_conflict["unbiased_accuracy"] == pytest.approx((1.0 + 0.5 + 1.0 + 0.5) / 4)


def test_no_conflicting_image_gives_none_for_it_alone():
    labels = np.array([0, 0, 1])
    result = evaluate_predictions(labels, np.array([0, 1, 1]), labels, num_classes=2)
    assert result["conflicting_accuracy"] is None
    assert result["aligned_accuracy"] == pytest.approx(2 / 3)
    assert result["unbiased_accuracy"] == pytest.approx(0.75)


def test_images_of_unknown_bias_count_in_no_figure_of_bias():
    labels = np.array([0, 0, 1, 1])
    # Aligned and right, unknown and wrong, aligned and wrong, conflicting and right.
    predicted, bias = np.array([0, 1, 0, 1]), np.array([0, -1, 1, 0])
    result = evaluate_predictions(labels, predicted, bias, num_classes=2)
    assert result["average_accuracy"] == 0.5
    assert result["aligned_accuracy"] == 0.5 and result["conflicting_accuracy"] == 1.0
    assert [group["count"] for group in result["groups"]] == [1, 1, 1]


def test_unknown_bias_leaves_the_figures_of_all_images_and_classes():
    labels, predicted, bias = _expand(CELLS)
    bias[:] = -1
    result = evaluate_predictions(labels, predicted, bias, num_classes=2)
    assert result == {
        "average_accuracy": pytest.approx(0.8),
        "worst_class_accuracy": pytest.approx(11 / 15),
        "unbiased_accuracy": None,
        "worst_group_accuracy": None,
        "aligned_accuracy": None,
        "conflicting_accuracy": None,
        "groups": [],
    }


def test_wilson_interval():
    # Ends solve (share - p)^2 = z^2 p (1 - p) / n.
    for successes, n in [(8, 10), (1, 30)]:
        for end in wilson_interval(successes, n):
            assert (successes / n - end) ** 2 == pytest.approx(1.96**2 * end * (1 - end) / n)
    low, high = wilson_interval(8, 10)
    assert low < 0.8 < high
    # At none or all the closed forms are z^2 / (n + z^2) from the near end.
    assert wilson_interval(0, 4) == pytest.approx((0.0, 1.96**2 / (4 + 1.96**2)))
    assert wilson_interval(4, 4) == pytest.approx((4 / (4 + 1.96**2), 1.0))
    with pytest.raises(ValueError, match="5 of 4"):
        wilson_interval(5, 4)


@pytest.mark.parametrize(
    ("labels", "bias", "options", "message"),
    [
        ([], [], {}, "0 labels"),
        ([0, 1], [0], {}, "1 biases"),
        ([0, 2], [0, 1], {}, "label lies outside 0..1"),
        ([0, 1], [0, 1], {"group_by": "label"}, "'label'"),
        ([0, 1], [0, 2], {"group_by": "bias", "bias_names": ["a", "b"]}, "bias lies outside 0..1"),
    ],
)
def test_bad_input_is_refused(labels, bias, options, message):
    labels = np.array(labels, int)
    with pytest.raises(ValueError, match=message):
        evaluate_predictions(labels, labels, np.array(bias, int), num_classes=2, **options)


def test_train_weighted_accuracy_by_hand():
    labels, predicted, bias = _expand(CELLS)
    # Training: 90 of (0, 0), 10 of (0, 1), none of (1, 0), 100 of (1, 1).
    train_labels = np.repeat([0, 0, 1], [90, 10, 100])
    train_bias = np.repeat([0, 1, 1], [90, 10, 100])
    found = train_weighted_accuracy(labels, predicted == labels, bias, train_labels, train_bias)
    assert found == pytest.approx((90 * 0.9 + 10 * 0.4 + 100 * 1.0) / 200)
    unknown = np.full_like(train_bias, -1)
    assert train_weighted_accuracy(labels, predicted == labels, bias, train_labels, unknown) is None


def test_gaps_of_two_attributes_by_hand():
    # Bias 0 and 1 are both attributes urban, both country; 2 is background urban with a country
    # object, 3 the other way round. Class 0 is urban.
    attributes = {"background": (0, 1, 0, 1), "object": (0, 1, 1, 0)}
    cells = [  # label, bias, images, correct
        (0, 0, 10, 10), (1, 1, 10, 8),  # nothing conflicts
        (0, 3, 4, 2), (1, 2, 4, 1),  # the background does
        (0, 2, 5, 4), (1, 3, 5, 2),  # the object does
        (0, 1, 2, 0), (1, 0, 2, 1),  # both do
    ]  # fmt: skip
    labels, predicted, bias = _expand(cells)
    found = attribute_gaps(labels, predicted == labels, bias, attributes, reference=0.9)
    assert found == pytest.approx(
        {
            "background_conflicting_accuracy": 3 / 8,
            "background_gap": 0.9 - 3 / 8,
            "object_conflicting_accuracy": 6 / 10,
            "object_gap": 0.9 - 6 / 10,
            "background_and_object_conflicting_accuracy": 1 / 4,
            "background_and_object_gap": 0.9 - 1 / 4,
        }
    )
