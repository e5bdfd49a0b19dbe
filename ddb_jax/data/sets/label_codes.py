"""Labels and biases as a table writes them, made into numbers and names."""

from collections import Counter
from collections.abc import Mapping, Sequence

from ddb_jax.data.names import (
    ClassCodes,
    alike,
    is_missing,
    merged_note,
    one_spelling,
    plain,
    whole_number,
)
from ddb_jax.runtime.errors import first_few


def code_labels(
    where: str, labels: Sequence[str], places: Sequence[str]
) -> tuple[tuple[str, ...], list[int], tuple[str, ...]]:
    """Number the classes.

    Labels that are all whole numbers are the classes 0 to K-1; otherwise they are names, numbered
    in alphabetical order. Spellings that look the same are one class (see `names.py`).

    Args:
        where: The table, for messages.
        labels: Of every row.
        places: Of every row, "line 5".

    Returns:
        Class names, the number of every row's class, and notes.

    Raises:
        ValueError: A label is missing, the numbers have gaps, two names differ only in case or the
            like, or there is one class only.
    """
    refuse_missing(where, labels, places)
    names = one_spelling(labels)
    notes = merged_note(names, f"labels of {where}")
    notes = (*notes, *_check_alike(where, "labels", labels, places, names))
    numbers = {text: whole_number(text) for text in names}
    if None not in numbers.values():
        codes = [numbers[label] for label in labels]
        found = sorted(set(codes))
        if found != list(range(len(found))):
            raise ValueError(
                f"the labels of {where} are {len(found)} integers from {found[0]} to {found[-1]}:"
                f" number the classes 0 to {len(found) - 1}, or give their names."
            )
        classes = tuple(map(str, found))
    else:
        classes = tuple(sorted(set(names.values())))
        order = {name: i for i, name in enumerate(classes)}
        codes = [order[names[label]] for label in labels]
    if len(classes) == 1:
        raise ValueError(f"{where} has one class only, {classes[0]}: classification needs two.")
    return classes, codes, notes


def refuse_missing(where: str, labels: Sequence[str], places: Sequence[str]) -> None:
    """Stop at labels that say that there is none; "none" and the like are never a class.

    Raises:
        ValueError: There is one.
    """
    missing = [(p, t) for p, t in zip(places, labels, strict=True) if is_missing(t)]
    if not missing:
        return
    (place, text), *more = missing
    written = f" but {text!r}, which means missing" if text else ""
    others = f", like {len(more):,} more ({first_few(p for p, _ in more)})" if more else ""
    rename = f"; if {text!r} is a class, give it another name, say 'class {text}'" if text else ""
    raise ValueError(
        f"{place} of {where} has no label{written}{others}: fill it in or remove the row{rename}."
    )


def code_bias(
    where: str,
    values: Sequence[str],
    places: Sequence[str],
    classes: tuple[str, ...],
    labels: Sequence[int],
    splits: Sequence[str],
) -> tuple[list[int], tuple[str, ...], tuple[str, ...]]:
    """Number the bias values.

    What is missing (`names.MISSING`) is unknown, and so is -1, unless -1 and 1 are all that there
    is: then they are two values. Values that are classes, in the way the labels are, say which
    class an image's bias goes with. Other values get the number of the class in whose training
    images they are the most frequent.

    Args:
        where: The table, for messages.
        values: Of every row.
        places: Of every row, "line 5".
        classes: Class names.
        labels: Number of every row's class.
        splits: Split of every row; "train" counts.

    Returns:
        Bias of every row, -1 where unknown; names of the bias values; notes.

    Raises:
        ValueError: The values cannot be told apart, or cannot be paired with the classes.
    """
    words = Counter(plain(text).casefold() for text in values if text and is_missing(text))
    values = ["" if is_missing(text) else text for text in values]
    numbers = {text: whole_number(text) for text in set(values) if text}
    others = {x for x in numbers.values() if x != -1}
    signed = -1 in numbers.values() and others == {1}
    if -1 in numbers.values() and not signed:
        if len(others) == 1 and others != {None}:
            raise ValueError(
                f"the bias column of {where} holds only -1 and {others.pop()}, and -1 may be a"
                " value or mean unknown: leave unknown ones empty, and name the values."
            )
        words["-1"] = sum(numbers.get(text) == -1 for text in values)
        values = ["" if numbers.get(text) == -1 else text for text in values]
    notes = _note_unknown(where, words, len(values))
    names = one_spelling(text for text in values if text)
    notes += merged_note(names, f"bias values of {where}")
    notes += _check_alike(where, "bias values", values, places, names, classes)
    if not names:
        return [-1] * len(values), (), notes
    known = ClassCodes(classes, with_numbers=False)
    numbered = classes == tuple(map(str, range(len(classes))))
    if numbered and not signed and None not in map(whole_number, names):
        code = {text: whole_number(text) for text in names}
        if min(code.values()) < 0:
            raise ValueError(f"{where} has a negative bias: it must be a class, or empty.")
        largest = max(code.values())  # above the classes: a bias that goes with none
        bias_names = (*classes, *map(str, range(len(classes), largest + 1)))
        note = f"The bias column of {where} names the class that every image's bias goes with."
    elif all(text in known for text in names):
        code = {text: known[text] for text in names}
        bias_names = classes
        note = f"The bias column of {where} names the class that every image's bias goes with."
    else:
        named = [names.get(text, "") for text in values]
        paired = _pair_with_classes(where, classes, labels, splits, named)
        bias_names = (*paired, *sorted(set(names.values()) - set(paired)))
        code = {text: bias_names.index(name) for text, name in names.items()}
        pairs = ", ".join(f"{value} with {c}" for value, c in zip(paired, classes, strict=True))
        note = (
            f"Bias values of {where} go with the class in whose training images they are the"
            f" most frequent: {pairs}" + (" (here -1 is a value)." if signed else ".")
        )
    return [code.get(text, -1) for text in values], bias_names, (*notes, note)


def _note_unknown(where: str, words: Counter[str], count: int) -> tuple[str, ...]:
    if not words:
        return ()
    spelled = ", ".join(f"{word!r} ({n:,})" for word, n in sorted(words.items()))
    unknown = f"{sum(words.values()):,} of {count:,} bias values of {where}"
    return (f"{unknown} are read as unknown: {spelled}.",)


def _check_alike(
    where: str,
    what: str,
    texts: Sequence[str],
    places: Sequence[str],
    names: Mapping[str, str],
    others: Sequence[str] = (),
) -> tuple[str, ...]:
    """Refuse names that differ only in case or the like; of single letters, which may, note it."""
    first: dict[str, str] = {}
    for text, place in zip(texts, places, strict=True):
        first.setdefault(names.get(text, ""), place)
    letters = []
    groups = alike((*names.values(), *others))
    for group in (g for g in groups if any(name in first for name in g)):
        shown = " and ".join(
            f"{name!r} ({first[name]})" if name in first else f"{name!r} (a class)"
            for name in group
        )
        if any(len(name) > 1 for name in group):
            raise ValueError(
                f"{what} of {where} differ only in case, spaces or marks: {shown}; write one of"
                " them everywhere, or give them names that differ in more."
            )
        letters.append(shown)
    if not letters:
        return ()
    return (f"{what} of {where} differ only in case and are kept apart: {'; '.join(letters)}.",)


def _pair_with_classes(
    where: str,
    classes: tuple[str, ...],
    labels: Sequence[int],
    splits: Sequence[str],
    values: Sequence[str],
) -> list[str]:
    """The most frequent bias value of every class, if it is one-to-one."""
    counts = [Counter[str]() for _ in classes]
    for label, split, value in zip(labels, splits, values, strict=True):
        if split == "train" and value:
            counts[label][value] += 1
    paired = []
    for c, count in zip(classes, counts, strict=True):
        first, second = (*count.most_common(2), ("", 0), ("", 0))[:2]
        if first[1] == second[1] or first[0] in paired:
            raise ValueError(
                f"the bias column of {where} cannot be paired with the classes, for the training"
                f" images of {c} have no most frequent value of their own: write into it the class"
                " that each image's bias goes with."
            )
        paired.append(first[0])
    return paired
