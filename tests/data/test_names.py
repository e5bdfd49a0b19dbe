"""What means missing, and which spellings are one name."""

from fractions import Fraction

import pytest

from ddb_jax.data.names import (
    ClassCodes,
    alike,
    is_missing,
    loose_key,
    merged_note,
    name_key,
    number,
    one_spelling,
    plain,
    trim,
    whole_number,
)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "\u00a0", "\u200b", "nan", "NaN", "-nan", "None", "NULL", "null", "NA", "n/a",
        "N/A", "#N/A", "<NA>", "n.a.", "unknown", "Unknown", "MISSING", "-", "--", "?", ".",
        "#VALUE!", "NaT", "1.#IND", "(null)", "not  available", "\uff2e\uff41\uff2e", "Unlabelled",
    ],
)  # fmt: skip
def test_spellings_of_missing(text):
    assert is_missing(text)


@pytest.mark.parametrize("text", ["0", "-1", "nana", "nano", "no", "false", "other", "Nancy", "n"])
def test_what_is_not_missing(text):
    assert not is_missing(text)


def test_trim_and_plain():
    assert trim("\ufeff\u00a0 k\u00fche 1\u200b\t") == "k\u00fche 1"
    assert plain("polar\u00a0 \u200bbear ") == "polar bear"
    assert plain("ku\u0308he") == "k\u00fche"
    assert plain("\uff23\uff41\uff54\u3000\uff11") == "Cat 1"
    assert plain("x\u00b2") == "x\u00b2"  # which is not x2


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0), ("00", 0), ("-1.0", -1), ("+3", 3), ("\uff11\uff12", 12), ("\u0663", 3),
        ("1e2", 100), ("2.50", Fraction(5, 2)), (".5", Fraction(1, 2)),
        ("10000000000000001", 10**16 + 1), ("1_0", None), ("0x1", None), ("inf", None),
        ("nan", None), ("1,5", None), ("", None),
        ("9" * 5000, None), ("1e999", None),
    ],
)  # fmt: skip
def test_numbers(text, value):
    assert number(text) == value


def test_whole_numbers():
    assert [whole_number(text) for text in ("3", "3.0", "3.5", "x")] == [3, 3, None, None]


def test_one_spelling():
    texts = ("0", "0.0", "00", "0.5", "0.50", "cat", "k\u00fche", "ku\u0308he", "007", "Cat")
    assert one_spelling(texts) == {
        "0": "0", "0.0": "0", "00": "0", "0.5": "0.5", "0.50": "0.5", "cat": "cat", "Cat": "Cat",
        "k\u00fche": "k\u00fche", "ku\u0308he": "k\u00fche", "007": "007",
    }  # fmt: skip
    assert merged_note({"7": "7", "7.0": "7", "x": "x"}, "labels") == (
        "labels that look the same are read as one: '7' (written '7', '7.0').",
    )
    assert merged_note({"7": "7"}, "labels") == ()


def test_names_that_differ_in_little():
    assert alike(["Cat", "cat", "dog"]) == [("Cat", "cat")]
    assert alike(["polar bear", "polar_bear", "PolarBear"]) == [
        ("PolarBear", "polar bear", "polar_bear")
    ]
    assert alike(["'cat'", "cat"]) == [("'cat'", "cat")]
    assert alike(["cat 1", "cat1"]) == [("cat 1", "cat1")]
    # Blood groups, ranges of ages and temperatures are different things.
    assert alike(["A+", "A-", "A", "1-2", "12", "-5", "5", "x2", "x\u00b2"]) == []


def test_class_codes():
    codes = ClassCodes(("cat", "big dog"))
    assert [codes[text] for text in ("cat", "cat\u00a0", "big  dog", "1", "1.0")] == [0, 0, 1, 1, 1]
    assert "Cat" not in codes and "2" not in codes and "-1" not in codes and "" not in codes
    with pytest.raises(KeyError):
        codes["nan"]
    names = ClassCodes(("1", "2"), with_numbers=False)
    assert names["1.0"] == 0 and names["2"] == 1 and "0" not in names
    both = ClassCodes(("0", "0.0"), with_numbers=False)  # a folder's names, as they stand
    assert both["0.0"] == 1 and "00" not in both


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Cat", "cat"),
        ("caf\u00e9", "cafe\u0301"),
        ("cat", "cat "),
        ("cat", "cat\u200b"),
        ("cat", "\u202acat\u202c"),
        ("polar  bear", "polar\u00a0bear"),
        ("1", "01"),
        ("stra\u00dfe", "STRASSE"),
        ("\uff43\uff41\uff54", "cat"),
    ],
)
def test_names_that_look_the_same_have_one_key(one, other):
    assert name_key(one) == name_key(other)


def test_names_that_differ_have_two_keys():
    names = ["cat", "cats", "c-at", "10", "1", "1.0", "cafe", "caf\u00e9"]
    assert len({name_key(name) for name in names}) == len(names)
    assert loose_key("polar bear") == loose_key("Polar_Bear") != name_key("polar bear")
    assert loose_key("A-1") != loose_key("A1")
