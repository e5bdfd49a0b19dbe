"""Names of folders and in tables as people write them: what means "missing", which two are one.

Spellings that look the same are one name: composed and decomposed letters, full-width forms,
no-break and zero-width spaces, and the numbers 0, 0.0 and 00.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction

# What spreadsheets, pandas, R, SQL and people write where nothing is known; in any case.
MISSING = frozenset(
    (
        "", ".", "-", "--", "?", "na", "n/a", "n.a.", "#na", "#n/a", "#n/a n/a", "<na>", "nan",
        "-nan", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan", "nat", "none", "<none>", "null",
        "(null)", "<null>", "nil", "unknown", "missing", "undefined", "not available", "unlabeled",
        "unlabelled", "#value!", "#ref!", "#div/0!", "#name?", "#null!", "#num!",
    )
)  # fmt: skip
# Characters without a width: soft hyphen, zero-width spaces, marks of direction, byte order mark.
INVISIBLE = (
    "\u00ad\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
)
_ENDS = re.compile(rf"^[\s{INVISIBLE}]+|[\s{INVISIBLE}]+$")
_NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,2})?", re.ASCII)
QUOTES = "'\"`\u2018\u2019\u201c\u201d\u00ab\u00bb"
_LETTER = r"[^\W\d_]"
# Between two letters, or a letter and a digit: "polar bear" and "polar_bear", "cat 1" and "cat1".
_JOINTS = re.compile(rf"(?<={_LETTER})[\s_-]+(?={_LETTER})|(?<={_LETTER})[\s_]+(?=\d)")


def trim(text: str) -> str:
    """The text without the spaces of every kind at its ends."""
    return text.strip() if text.isascii() else _ENDS.sub("", text)


def composed(text: str) -> str:
    """The text in Unicode's composed form (NFC), in which two spellings of a path are equal."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def plain(text: str) -> str:
    """The name that a person sees: composed, without invisible characters, single spaces."""
    if not text.isascii():
        text = "".join(_narrow(c) for c in composed(text) if c not in INVISIBLE)
    return " ".join(text.split())


def name_key(name: str) -> str:
    """Equal for names that a person takes for one: as `plain`, in any case, and 01 is 1."""
    text = plain(plain(name).casefold())
    return str(int(text)) if text.isdecimal() else text


def loose_key(name: str) -> str:
    """As `name_key`, and "polar bear", "polar_bear" and "polar-bear" are one."""
    return _JOINTS.sub("", name_key(name))


def groups(names: Iterable[str], key: Callable[[str], str]) -> list[tuple[str, ...]]:
    """The names that share a key with another, in their order."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(key(name), []).append(name)
    return [tuple(group) for group in found.values() if len(group) > 1]


def is_missing(text: str) -> bool:
    """Whether a field says that there is no value; see `MISSING`."""
    text = trim(text)
    return len(text) < 20 and plain(text).casefold() in MISSING  # a caption is seldom short


def number(text: str) -> Fraction | None:
    """The number that a text writes in digits of any script, exactly; None for other texts."""
    text = plain(text)
    if not text.isascii():
        text = "".join(str(unicodedata.decimal(c, c)) for c in text)
    return Fraction(text) if _NUMBER.fullmatch(text) else None


def whole_number(text: str) -> int | None:
    """The integer that a text writes, as 3, 03 or 3.0; None for other texts."""
    value = number(text)
    return int(value) if value is not None and value.denominator == 1 else None


def one_spelling(texts: Iterable[str]) -> dict[str, str]:
    """Every text -> its name, which is one for all texts that look the same or are one number.

    A text that is alone keeps its spelling.
    """
    found: dict[Fraction | str, list[str]] = {}
    for text in sorted(set(texts)):
        value = number(text)
        found.setdefault(plain(text) if value is None else value, []).append(text)
    names = {}
    for key, group in found.items():
        if len(group) == 1:
            name = group[0]
        elif isinstance(key, Fraction):
            name = str(key) if key.denominator == 1 else min(group, key=lambda t: (len(t), t))
        else:
            name = key
        names |= dict.fromkeys(group, name)
    return names


def merged_note(names: Mapping[str, str], what: str) -> tuple[str, ...]:
    """A sentence on the texts that `one_spelling` made one name, none where there are none."""
    merged = sorted(
        repr(name) + " (written " + ", ".join(ascii(t) for t in group) + ")"
        for name in set(names.values())
        if len(group := sorted(text for text in names if names[text] == name)) > 1
    )
    return (f"{what} that look the same are read as one: {'; '.join(merged)}.",) if merged else ()


def alike(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Names that differ only in case, quotation marks, or what is between letters ("_", "-")."""
    return groups(
        sorted(set(names)),
        # Not `loose_key`: which numbers are one, `one_spelling` has said.
        lambda name: _JOINTS.sub("", plain(plain(name).strip(QUOTES).casefold())),
    )


class ClassCodes:
    """The number of a class by what a table may call it.

    Args:
        class_names: Name of every label.
        with_numbers: Whether a class may be called by its number, too.
    """

    def __init__(self, class_names: Sequence[str], *, with_numbers: bool = True) -> None:
        self._by_text = {name: i for i, name in enumerate(class_names)}
        # A spelling that fits two classes is of none.
        uses = Counter(map(_key, class_names))
        self._by_key = {_key(n): i for n, i in self._by_text.items() if uses[_key(n)] == 1}
        self._count = len(class_names) if with_numbers else 0
        self._asked: dict[str, int | None] = {}

    def __contains__(self, text: str) -> bool:
        return self._find(text) is not None

    def __getitem__(self, text: str) -> int:
        code = self._find(text)
        if code is None:
            raise KeyError(text)
        return code

    def _find(self, text: str) -> int | None:
        if text not in self._asked:  # of many rows, which say the same few things
            self._asked[text] = self._look_up(text)
        return self._asked[text]

    def _look_up(self, text: str) -> int | None:
        if text in self._by_text:
            return self._by_text[text]
        if (code := self._by_key.get(_key(text))) is not None:
            return code
        value = whole_number(text)
        return value if value is not None and 0 <= value < self._count else None


def _key(text: str) -> Fraction | str:
    value = number(text)
    return plain(text) if value is None else value


def _narrow(character: str) -> str:
    """The usual form of a full-width or half-width character."""
    if unicodedata.decomposition(character).startswith(("<wide>", "<narrow>")):
        return unicodedata.normalize("NFKC", character)
    return character
