"""The text filter: which words are counted, chosen and looked for."""

import numpy as np
import pytest

from ddb_jax.text_to_image.text_filter import (
    STOP_WORDS,
    TABLE_COLUMNS,
    filter_captions,
    most_frequent_words,
    words_of,
)

CAPTIONS = (
    "A man climbs a wall.",  # 0
    "a woman near a lake",  # 0
    "The man, and the man's rope",  # 0
    "a dog by the lake",  # 1
    "a lake",  # 1
)
LABELS = np.array([0, 0, 0, 1, 1])


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A man's T-shirt!", ["a", "man", "s", "t", "shirt"]),
        ("3 dogs, 2nd_place", ["dogs", "nd", "place"]),
        ("Cafe\u0301 CAFÉ", ["café", "café"]),
        ("", []),
        ("  12 % ... ", []),
    ],
)
def test_words_are_lower_cased_runs_of_letters(caption, words):
    assert words_of(caption) == words


def test_most_frequent_words_leave_out_stop_words_and_break_ties_by_occurrence():
    # man 3, lake 3, and once each: climbs, wall, woman, rope, dog.
    assert most_frequent_words(CAPTIONS, 4) == (("man", 3), ("lake", 3), ("climbs", 1), ("wall", 1))
    assert len(most_frequent_words(CAPTIONS, 99)) == 7
    assert most_frequent_words(CAPTIONS, 2, stop_words=()) == (("a", 6), ("man", 3))
    assert most_frequent_words(["on it", ""], 5) == ()


def test_stop_words_are_function_words_and_no_digit_or_colour():
    assert {"the", "with", "she", "doesn", "wouldn", "under", "were"} <= STOP_WORDS
    assert all(word == word.lower() and word.isalpha() for word in STOP_WORDS)
    nouns = "zero one two three four five six seven eight nine black white man woman young old"
    assert not STOP_WORDS & set(nouns.split())


def test_whole_words_and_substrings():
    whole = filter_captions(CAPTIONS, LABELS, 2, words_per_class=1)
    assert whole.words == (("man", 3), ("lake", 3))
    assert whole.kept.tolist() == [True, True, True, True, True]
    captions = ("a man", "a man", "a woman sits", "the superman sign", "lake lake")
    whole = filter_captions(captions, LABELS, 2, words_per_class=1)
    assert whole.words == (("man", 2), ("lake", 2))
    assert whole.kept.tolist() == [True, True, False, False, True]
    part = filter_captions(captions, LABELS, 2, words_per_class=1, whole_words=False)
    assert part.words == whole.words
    assert part.kept.tolist() == [True] * 5
    assert part.reasons[2] == "contains man"


def test_reasons_and_table():
    result = filter_captions(
        ("A man at a LAKE", "a man", "on, it; 5", "a man by lake"), [0, 0, 1, 1], 2,
        words_per_class=1,
    )  # fmt: skip
    assert result.words == (("man", 3), ("lake", 2))
    none = "contains none of the frequent words"
    assert result.reasons == ("contains man, lake", "contains man", none, "contains man, lake")
    assert TABLE_COLUMNS == ("label", "caption", "kept", "why")
    assert result.table[0] == (0, "A man at a LAKE", 1, "contains man, lake")
    assert result.table[2] == (1, "on, it; 5", 0, none)
    assert len(result.table) == 4


def test_number_of_words_is_that_of_the_paper():
    captions = [f"{word} {word}" for word in ("ant", "bee", "cow", "doe", "eel", "fox", "gnu")]
    result = filter_captions(captions, np.arange(7) % 3, 3)
    assert [word for word, _ in result.words] == ["ant", "bee", "cow", "doe", "eel", "fox"]
    assert result.kept.tolist() == [True] * 6 + [False]


def test_classes_without_a_caption_are_reported():
    # Class 1 loses all, class 3 never had one.
    result = filter_captions(("red red", "it is", "red"), [0, 1, 2], 4, words_per_class=1)
    assert result.classes_without == (1, 3)
    assert filter_captions((), [], 2).classes_without == (0, 1)
    assert filter_captions(CAPTIONS, LABELS, 2).classes_without == ()


@pytest.mark.parametrize(
    ("labels", "settings", "words"),
    [
        ([0, 0, 0, 1, 2], {}, "label of caption 4 is 2"),
        ([0, -1, 0, 1, 1], {}, "label of caption 1 is -1"),
        ([0, 0], {}, "5 captions for 2 labels"),
        (LABELS, {"words_per_class": 0}, "words_per_class is 0"),
    ],
)
def test_bad_arguments_are_refused(labels, settings, words):
    with pytest.raises(ValueError, match=words):
        filter_captions(CAPTIONS, labels, 2, **settings)
