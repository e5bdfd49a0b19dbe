"""Scores from anywhere: the file's columns and its joining to the images."""

import numpy as np
import pytest
from scores_csv import CLASSES, LABELS, LOSSES, NUMBERS, PATHS, PREDICTED, csv, train_rows

from ddb_jax.data.scores_file import GivenScores, read_given_scores


def read(path, paths=PATHS):
    return read_given_scores(path, paths, LABELS, CLASSES)


# The reader.


def test_rows_are_joined_by_path_in_any_order(tmp_path):
    rows = [*train_rows(LOSSES, ["cat", 0, "cat", "big/dog", 1, "0", "cat", 1])]
    rows += [(f"v{i}.png", i, 0) for i in range(4)] + [("s0.png", 9, 0)]
    path = csv(tmp_path, "path,Loss,predicted", rows[::-1])
    found, notes = read(path)
    np.testing.assert_array_equal(found["train"].loss, np.float32(LOSSES))
    np.testing.assert_array_equal(found["train"].predicted, PREDICTED)
    np.testing.assert_array_equal(found["validation"].loss, [0, 1, 2, 3])
    assert found["train"].score is None and found["train"].flagged is None
    assert notes == ("mine.csv: its 1 rows of test images are not read.",)


def test_rows_are_joined_by_split_and_index(tmp_path):
    rows = [("train", i, -i / 2) for i in range(8)] + [("val", i, i) for i in (3, 1, 0, 2)]
    found, notes = read(csv(tmp_path, "split,index,score", rows))
    np.testing.assert_array_equal(found["train"].score, -np.arange(8) / 2)
    np.testing.assert_array_equal(found["validation"].score, np.arange(4))
    assert notes == ()
    # Splits that number their images alike take the split into account, and need it.
    alike = {split: [str(i) for i in range(len(paths))] for split, paths in PATHS.items()}
    by_path = csv(tmp_path, "split,path,score", rows)
    np.testing.assert_array_equal(read(by_path, alike)[0]["train"].score, -np.arange(8) / 2)
    with pytest.raises(ValueError, match=r"several images are named 0: give the columns split and"):
        read(csv(tmp_path, "path,score", [row[1:] for row in rows]), alike)


def test_verdicts(tmp_path):
    kinds = (
        ["cat/aligned"] * 3 + ["cat/conflicting", "big/dog/aligned"] + ["big/dog/conflicting"] * 3
    )
    expected = [False, False, False, True, False, True, True, True]
    for header, column in (
        ("path,pseudo_group", kinds),
        ("path,pseudo_conflicting", [int(flag) for flag in expected]),
        ("path,conflicting_guess", expected),
    ):
        found, _ = read(csv(tmp_path, header, train_rows(column)))
        np.testing.assert_array_equal(found["train"].flagged, expected)
        assert found["validation"] == GivenScores()
        assert found["train"].loss is None


@pytest.mark.parametrize(
    ("header", "rows", "sentence"),
    [
        ("path,loss", train_rows(LOSSES)[:4], r"lacks 4 of 8 train.*t4.png, t5.png, t6.png and 1"),
        ("path,loss", [*train_rows(LOSSES), ("v1.png", 1)], "lacks 3 of 4 validation images"),
        ("path,loss", [*train_rows(LOSSES), ("x.png", 1)], "1 of 9 rows.*line 10: x.png.*'t0.png'"),
        ("path,loss", [*train_rows(LOSSES), ("t2.png", 1)], "1 rows of images .*line 10: t2.png"),
        ("name,loss", train_rows(LOSSES), "cannot be joined.*path, or split and index"),
        ("path,colour", train_rows(LOSSES), "no scores of .*loss, score, pseudo_group or"),
        ("path,loss", train_rows([*LOSSES[:7], -0.5]), "1 values of loss.*line 9: '-0.5'"),
        ("path,loss", train_rows([*LOSSES[:7], ""]), "1 values of loss.*line 9: ''"),
        ("path,loss", train_rows([*LOSSES[:7], "1e39"]), "1 values of loss"),
        ("path,score", train_rows(["nan", "inf", *LOSSES[:6]]), "2 values of score.*line 2: 'nan'"),
        ("path,score,predicted", train_rows(NUMBERS, [0] * 7 + [2]), "line 9: '2'"),
        ("path,score,probability", train_rows(NUMBERS, NUMBERS), "6 values of probability"),
        ("path,pseudo_group", train_rows(["cat"] * 8), "8 values of pseudo_group.*<class>/aligned"),
        ("path,pseudo_group", train_rows(["cat/aligned"] * 8), "4 rows whose pseudo_group.*line 6"),
        ("path,score,label", train_rows(NUMBERS, [0] * 8), "4 rows whose label.*other images"),
        ("path,conflicting_guess", train_rows([2] * 8), "8 values of conflicting_guess"),
        (
            "path,conflicting_guess,pseudo_conflicting",
            train_rows([0] * 8, [0, 1] + [0] * 6),
            "1 rows whose conflicting_guess is not the verdict of pseudo_conflicting .line 3",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path, header, rows, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        read(csv(tmp_path, header, rows))
    assert "\n" not in str(error.value)


def test_equal_scores_are_noted(tmp_path):
    _, notes = read(csv(tmp_path, "path,loss,score", train_rows(LOSSES, [7] * 8)))
    assert len(notes) == 1 and "the same score, 7: it does not tell them apart" in notes[0]
