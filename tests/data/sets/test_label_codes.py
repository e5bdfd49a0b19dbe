"""Labels and biases of tables as people write them."""

import pytest

from ddb_jax.data.sets.label_codes import code_bias, code_labels


def places(values):
    return [f"line {i + 2}" for i in range(len(values))]


def labels(*values):
    return code_labels("FILE", values, places(values))


def bias(values, codes=(0, 1, 0, 1), classes=("cat", "dog")):
    return code_bias("FILE", values, places(values), classes, codes, ["train"] * len(values))


def test_equal_numbers_are_one_class():
    assert labels("0", "1", "0.0", "1.0") == (
        ("0", "1"),
        [0, 1, 0, 1],
        (
            "labels of FILE that look the same are read as one: '0' (written '0', '0.0');"
            " '1' (written '1', '1.0').",
        ),
    )
    assert labels("0", "\uff11", "00", "1.")[:2] == (("0", "1"), [0, 1, 0, 1])
    assert labels("7", "cat", "7.0")[:2] == (("7", "cat"), [0, 1, 0])
    assert labels("10", "9", "8", *map(str, range(8)))[1][:3] == [10, 9, 8]


def test_names_that_look_the_same_are_one_class():
    found = labels("polar bear", "ku\u0308h", "polar\u00a0bear", "k\u00fch", "polar  bear")
    assert found[:2] == (("k\u00fch", "polar bear"), [1, 0, 1, 0, 1])
    assert "'ku\\u0308h', 'k\\xfch'" in found[2][0]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (("cat", "Cat", "dog"), "'Cat' (line 3) and 'cat' (line 2)"),
        (("True", "false", "TRUE", "False"), "'False' (line 5) and 'false' (line 3)"),
        (("polar bear", "polar_bear"), "'polar bear' (line 2) and 'polar_bear' (line 3)"),
        (("cat", '"cat"', "dog"), "'\"cat\"' (line 3) and 'cat' (line 2)"),
    ],
)
def test_names_that_differ_in_little_are_refused(values, shown):
    with pytest.raises(ValueError) as error:
        labels(*values)
    assert str(error.value) == (
        f"labels of FILE differ only in case, spaces or marks: {shown}; write one of them"
        " everywhere, or give them names that differ in more."
    )


def test_letters_are_kept_apart_and_noted():
    assert labels("A", "a", "b") == (
        ("A", "a", "b"),
        [0, 1, 2],
        ("labels of FILE differ only in case and are kept apart: 'A' (line 2) and 'a' (line 3).",),
    )
    assert bias(("A", "a", "A", ""), (0, 1, 0, 1), ("A", "a"))[2] == (
        "bias values of FILE differ only in case and are kept apart: 'A' (line 2) and 'a' (line"
        " 3).",
        "The bias column of FILE names the class that every image's bias goes with.",
    )


@pytest.mark.parametrize("word", ["nan", "None", "#N/A", "NULL", "unknown", "-", "?", "n/a"])
def test_a_class_never_is_missing(word):
    with pytest.raises(ValueError) as error:
        labels("cat", word, "dog", word, word, word, word)
    assert str(error.value) == (
        f"line 3 of FILE has no label but {word!r}, which means missing, like 4 more"
        " (line 5, line 6, line 7 and 1 more): fill it in or remove the row; if"
        f" {word!r} is a class, give it another name, say 'class {word}'."
    )
    assert labels("cat", f"class {word}")[0] == ("cat", f"class {word}")


def test_attributes_of_minus_one_and_one_are_values():
    # As in CelebA's list_attr_celeba; of the training images -1 goes with the first class.
    for classes in (("0", "1"), ("dark", "blond")):
        for values in (("-1", "1", "-1", "1", "1"), ("-1.0", "1.0", "-1.0", "1", "+1")):
            codes, names, notes = bias(values, (0, 1, 0, 1, 1), classes)
            assert codes == [0, 1, 0, 1, 1] and len(names) == 2
            assert notes[-1].endswith("(here -1 is a value).")
    assert bias(("-1", "1", "", "1"))[0] == [0, 1, -1, 1]
    # Three classes cannot be paired with two values.
    with pytest.raises(ValueError, match="cannot be paired with the classes"):
        bias(("-1", "1", "-1"), (0, 1, 2), ("a", "b", "c"))


def test_minus_one_beside_codes_and_names_is_unknown():
    assert bias(("0", "1", "-1", "1"), classes=("0", "1")) == (
        [0, 1, -1, 1],
        ("0", "1"),
        (
            "1 of 4 bias values of FILE are read as unknown: '-1' (1).",
            "The bias column of FILE names the class that every image's bias goes with.",
        ),
    )
    assert bias(("0.0", "1.0", "-1.0", "1"), classes=("0", "1"))[0] == [0, 1, -1, 1]
    assert bias(("sea", "land", "-1", "land"))[:2] == ([0, 1, -1, 1], ("sea", "land"))
    assert bias(("-1",) * 4) == (
        [-1] * 4,
        (),
        ("4 of 4 bias values of FILE are read as unknown: '-1' (4).",),
    )


@pytest.mark.parametrize("other", ["0", "2"])
def test_minus_one_beside_another_single_code_is_not_clear(other):
    with pytest.raises(ValueError, match=f"holds only -1 and {other}, and -1 may be a value or"):
        bias(("-1", other, "-1", other), classes=("0", "1"))


def test_missing_biases_are_unknown_and_counted():
    assert bias(("cat", "NaN", "None", "dog"))[0] == [0, -1, -1, 1]
    codes, names, notes = bias(("sea", "n/a", "sea", "land", "?", "N/A"), (0, 1, 0, 1, 0, 1))
    assert codes == [0, -1, 0, 1, -1, -1] and names == ("sea", "land")
    assert notes[0] == "3 of 6 bias values of FILE are read as unknown: '?' (1), 'n/a' (2)."
    assert bias(("", "", "", "")) == ([-1] * 4, (), ())


def test_biases_meet_the_classes_in_any_spelling():
    assert bias(("1.0", "0.0", "", "1"), classes=("0", "1"))[0] == [1, 0, -1, 1]
    assert bias(("dog\u00a0", "cat", "dog", "cat"))[0] == [1, 0, 1, 0]
    with pytest.raises(ValueError, match=r"'Cat' \(line 2\) and 'cat' \(a class\); write one of"):
        bias(("Cat", "dog", "Cat", "dog"))
