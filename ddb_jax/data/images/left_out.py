"""The sentences on files that are not read: how many, of what kind, and in which class."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from ddb_jax.data.images.file_kinds import LOST, SYSTEM, is_side_file
from ddb_jax.data.listing import Listing

SHARE = 0.1  # of a class's files, from which files of other kinds than LOST are warned about, too
SHOWN = 5  # classes in a sentence


class Other(NamedTuple):
    """A file that is not read, or a folder that a system made."""

    path: str  # relative to the listing's root
    kind: str  # as `kind_of_file`, or SYSTEM


def with_left_out(
    listing: Listing, others: Sequence[Other], class_of: Callable[[str], str] = os.path.dirname
) -> Listing:
    """The listing with the notes and warnings on what was left out.

    Args:
        listing: Has all images that were found.
        others: What was found beside them.
        class_of: See `left_out_warnings`.
    """
    images = [path for files in listing.splits.values() for path in files.paths]
    return replace(
        listing,
        notes=(*listing.notes, *left_out_notes(others)),
        warnings=(*listing.warnings, *left_out_warnings(others, images, class_of)),
    )


def left_out_notes(others: Sequence[Other]) -> tuple[str, ...]:
    """A sentence on files that are not images and one on what systems make; for the log."""
    notes = []
    files = [other for other in others if other.kind != SYSTEM]
    if len(files) == 1:
        notes.append(
            f"1 file that is not an image was left out, for example {shown(files[0].path)}."
        )
    elif files:
        counts = Counter((os.path.dirname(other.path), other.kind) for other in files)
        places = [f"{n:,} {kind} in {shown(at) or '.'}" for (at, kind), n in counts.most_common()]
        notes.append(
            f"{len(files):,} files that are not images were left out, for example"
            f" {shown(files[0].path)}. They are {_first(places)}."
        )
    system = [other.path for other in others if other.kind == SYSTEM]
    if system:
        notes.append(
            "Hidden images and folders, and files and folders that systems make, were left out:"
            f" {len(system):,}, for example {shown(system[0])}."
        )
    return tuple(notes)


def left_out_warnings(
    others: Sequence[Other],
    images: Iterable[str],
    class_of: Callable[[str], str] = os.path.dirname,
) -> tuple[str, ...]:
    """One sentence for each kind of file that costs classes images, with the counts by class.

    Args:
        others: What was left out.
        images: Paths of what was not.
        class_of: Name of the class or folder of a path; "" where it belongs to none.
    """
    lost = [other for other in others if not is_side_file(*other)]
    if not lost:
        return ()
    sizes = Counter(map(class_of, images))
    sizes.update(class_of(other.path) for other in lost)
    counts = Counter((other.kind, class_of(other.path)) for other in lost)
    sentences = []
    for kind in sorted({other.kind for other in lost}):
        found = [
            (name, n)
            for (of, name), n in counts.items()
            if of == kind and name and (kind in LOST or n >= SHARE * sizes[name])
        ]
        if not found:
            continue
        found.sort(key=lambda pair: (-pair[1] / sizes[pair[0]], pair[0]))
        places = [f"{n:,} of {sizes[name]:,} files of {shown(name)}" for name, n in found]
        example = next(o.path for o in lost if o.kind == kind and class_of(o.path) == found[0][0])
        verb = "is" if len(found) == 1 and found[0][1] == 1 else "are"
        sentences.append(
            f"{_first(places)} {verb} not read ({kind}), for example {shown(example)}:"
            f" {LOST.get(kind, 'look whether these should be images')}."
        )
    return tuple(sentences)


def shown(path: str) -> str:
    """The path on one line of a log."""
    return path if path.isprintable() else ascii(path)


def _first(parts: Sequence[str]) -> str:
    more = len(parts) - SHOWN
    return ", ".join(parts[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")
