"""Bootstrap intervals against images drawn one by one and against closed forms."""

import numpy as np
import pytest
from scipy import stats

from ddb_jax.evaluation.bootstrap import bootstrap_intervals

# (label, bias, images, right): classes 0 and 1, bias values 0, 1, 2; the last cell is unknown.
CELLS = [(0, 0, 60, 54), (0, 1, 20, 11), (0, 2, 15, 7), (1, 1, 50, 46), (1, 0, 12, 6)]
UNKNOWN = (1, -1, 30, 21)


def expand(cells):
    rows = [
        (label, label if i < right else 1 - label, bias)
        for label, bias, count, right in cells
        for i in range(count)
    ]
    return (np.array(column) for column in zip(*rows, strict=True))


def image_by_image(labels, predicted, bias, group_by, resamples, level):
    """The same intervals from images that are drawn with replacement within their groups."""
    rng = np.random.default_rng(7)
    cells = {}
    for i, (label, b) in enumerate(zip(labels, bias, strict=True)):
        kind = "unknown" if b < 0 else b if group_by == "bias" else b == label
        cells.setdefault((label, kind), []).append(i)
    rows = []
    for _ in range(resamples):
        drawn = {cell: rng.choice(members, len(members)) for cell, members in cells.items()}
        everything = np.concatenate(list(drawn.values()))
        right, label, b = (predicted == labels)[everything], labels[everything], bias[everything]
        groups = [
            np.mean((predicted == labels)[part])
            for (_, kind), part in drawn.items()
            if kind != "unknown"
        ]
        rows.append(
            {
                "average_accuracy": right.mean(),
                "worst_class_accuracy": min(right[label == 0].mean(), right[label == 1].mean()),
                "unbiased_accuracy": np.mean(groups),
                "worst_group_accuracy": np.min(groups),
                "aligned_accuracy": right[(b >= 0) & (b == label)].mean(),
                "conflicting_accuracy": right[(b >= 0) & (b != label)].mean(),
            }
        )
    outside = (1 - level) / 2
    return {
        name: np.quantile([row[name] for row in rows], [outside, 1 - outside]) for name in rows[0]
    }


@pytest.mark.parametrize("group_by", ["conflicting", "bias"])
def test_as_drawing_image_by_image(group_by):
    labels, predicted, bias = expand([*CELLS, UNKNOWN])
    expected = image_by_image(labels, predicted, bias, group_by, 3000, 0.9)
    found = bootstrap_intervals(
        labels, predicted, bias, num_classes=2, group_by=group_by, resamples=20_000, level=0.9
    )
    assert found.keys() == expected.keys()
    for name, (low, high) in found.items():
        # The Monte-Carlo error may move a quantile by one of the 47 conflicting images.
        assert (low, high) == pytest.approx(tuple(expected[name]), abs=1.01 / 47), name
        assert high - low > 0.05


def test_one_group_has_binomial_quantiles():
    labels, predicted, bias = expand([(0, 0, 200, 170)])
    found = bootstrap_intervals(
        labels, predicted, bias, num_classes=2, group_by="bias", resamples=200_000
    )
    exact = stats.binom.ppf([0.025, 0.975], 200, 0.85) / 200
    for name in ("average_accuracy", "aligned_accuracy", "worst_group_accuracy"):
        assert found[name] == pytest.approx(tuple(exact), abs=1.01 / 200)
    assert "conflicting_accuracy" not in found


def test_the_mean_over_groups_is_normal_by_its_variance():
    cells = [(0, 0, 4000, 3600), (0, 1, 400, 200), (1, 1, 5000, 4500), (1, 0, 600, 240)]
    labels, predicted, bias = expand(cells)
    found = bootstrap_intervals(
        labels, predicted, bias, num_classes=2, group_by="conflicting", resamples=20_000
    )
    shares = [(right / n, n) for _, _, n, right in cells]
    centre = sum(p for p, _ in shares) / 4
    deviation = np.sqrt(sum(p * (1 - p) / n for p, n in shares)) / 4
    expected = stats.norm.ppf([0.025, 0.975], centre, deviation)
    assert found["unbiased_accuracy"] == pytest.approx(tuple(expected), abs=0.05 * deviation)
    # Of all 10,000 images, with the groups' sizes held: not the variance p (1 - p) / n.
    deviation = np.sqrt(sum(n * p * (1 - p) for p, n in shares)) / 10_000
    expected = stats.norm.ppf([0.025, 0.975], 8540 / 10_000, deviation)
    assert found["average_accuracy"] == pytest.approx(tuple(expected), abs=3e-4)


def test_no_bias_leaves_two_figures_and_a_seed_repeats():
    labels, predicted, _ = expand(CELLS)
    unknown = np.full(len(labels), -1)
    settings = {"num_classes": 2, "group_by": "conflicting"}
    found = bootstrap_intervals(labels, predicted, unknown, **settings)
    assert set(found) == {"average_accuracy", "worst_class_accuracy"}
    assert found == bootstrap_intervals(labels, predicted, unknown, **settings, seed=0)
    wider = bootstrap_intervals(labels, predicted, unknown, **settings, level=0.99)
    assert wider["average_accuracy"][0] < found["average_accuracy"][0]
    assert wider["average_accuracy"][1] > found["average_accuracy"][1]


def test_bad_settings_are_refused():
    labels, predicted, bias = expand(CELLS)
    for wrong in ({"resamples": 0}, {"level": 1.0}, {"group_by": "colour"}):
        with pytest.raises(ValueError, match=r"resamples is|group_by is"):
            bootstrap_intervals(
                labels, predicted, bias, **{"num_classes": 2, "group_by": "bias", **wrong}
            )
