"""Images of highest loss: order, ties, small classes."""

import numpy as np
import pytest

from ddb_jax.debias.extraction import highest_losses

#         position: 0    1    2    3    4    5    6
LOSSES = np.array([0.5, 2.0, 0.1, 2.0, 9.0, 0.5, 3.0])
LABELS = np.array([0, 1, 0, 1, 2, 0, 1])


def test_per_class_is_class_by_class_with_ties_by_position():
    found = highest_losses(LOSSES, LABELS, 2)
    # Class 0: 0.5 at 0 and 5; class 1: 3.0 at 6, then the earlier 2.0; class 2 has one image.
    assert found.indices.tolist() == [0, 5, 6, 1, 4]


def test_overall():
    found = highest_losses(LOSSES, LABELS, 4, per_class=False)
    assert found.indices.tolist() == [4, 6, 1, 3]
    assert found.notes == ()


def test_agrees_with_a_sort_of_tuples():
    rng = np.random.default_rng(0)
    losses, labels = rng.integers(0, 20, 200) / 4, rng.integers(0, 4, 200)
    expected = []
    for label in range(4):
        ranked = sorted((-losses[i], i) for i in range(200) if labels[i] == label)
        expected += [i for _, i in ranked[:17]]
    assert highest_losses(losses, labels, 17).indices.tolist() == expected


def test_a_class_smaller_than_k_gives_all_and_is_named():
    found = highest_losses(LOSSES, LABELS, 3, class_names=("cat", "dog", "newt", "owl"))
    assert sorted(found.indices.tolist()) == list(range(7))
    assert [note.split(" were")[0] for note in found.notes] == [
        "3 images of class newt",
        "3 images of class owl",
    ]
    assert "it has 1" in found.notes[0] and "it has 0" in found.notes[1]
    found = highest_losses(LOSSES, LABELS, 8, per_class=False)
    assert len(found.indices) == 7
    assert len(found.notes) == 1 and "there are 7" in found.notes[0]


def test_exactly_k_is_no_note():
    assert highest_losses(LOSSES, LABELS, 1).notes == ()
    assert highest_losses(LOSSES, LABELS, 7, per_class=False).notes == ()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_is_refused(bad):
    losses = LOSSES.copy()
    losses[3] = bad
    with pytest.raises(ValueError, match="loss of example 3 is"):
        highest_losses(losses, LABELS, 1)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="k is 0"):
        highest_losses(LOSSES, LABELS, 0)
    with pytest.raises(ValueError, match="7 losses for 6 labels"):
        highest_losses(LOSSES, LABELS[:6], 1)
