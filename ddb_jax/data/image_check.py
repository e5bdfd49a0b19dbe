"""What is suspicious about the images of a set: copies, leaks, one colour, sizes that tell classes.

A classifier learns whatever separates the classes. Images that are one picture, or whose sizes and
kinds already tell the class, give it less to learn than their number says, or something else.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence

import numpy as np

from ddb_jax.data.images.facts import Finding, Image, ImageFacts, grey_bits_in_use, number_of
from ddb_jax.data.source import Dataset

NEAR_EMPTY = 2.0  # deviation of decoded values, of 255, below which there is little to see
SMALL_SHARE = 0.01  # of a set, from which images that had to be enlarged are told
TELLS = 0.95  # accuracy of naming the class from here on is told, if it is well above chance
ABOVE_CHANCE = 0.2
MIN_OF_A_KIND = 5  # images of a size, for it to say anything about a class
SHOWN = 3  # examples in a sentence


def all_images(dataset: Dataset) -> list[Image]:
    """The images of all splits; none where their facts are not known."""
    return [
        Image(split, i, path, int(label), facts)
        for split, source in dataset.splits.items()
        if split in dataset.images
        for i, (path, label, facts) in enumerate(
            zip(source.paths, source.labels, dataset.images[split], strict=True)
        )
    ]


def check_images(
    dataset: Dataset, *, background: str = "white", allow_leaks: bool = False
) -> tuple[Finding, ...]:
    """What is suspicious, the gravest first.

    Args:
        dataset: As `load_listing` returns it.
        background: What transparent parts were composed on, for the sentence.
        allow_leaks: Whether a run may go on where test images are in train or validation, too.
    """
    images = all_images(dataset)
    if not images:
        return ()
    found = (
        _all_one_colour(images),
        *_copies(images, dataset, allow_leaks),
        _one_colour(images, dataset),
        _near_empty(images, dataset),
        _transparent(images, dataset, background),
        _grey(images),
        *_tell_tales(images, dataset),
        _enlarged(images, dataset),
    )
    return tuple(finding for finding in found if finding)


def _all_one_colour(images: Sequence[Image]) -> Finding | None:
    hashes = {image.facts.sha256 for image in images}
    if len(hashes) > 1 or not images[0].facts.one_colour:
        return None
    return Finding(
        "all one colour",
        f"all {len(images):,} images are of one and the same colour, for example"
        f" {images[0].path}: there is nothing to learn from. If they should not be, look at the"
        " files; transparent parts show config.data.background.",
        tuple(images[:10]),
        refused=True,
    )


def _copies(images: Sequence[Image], dataset: Dataset, allow_leaks: bool) -> list[Finding | None]:
    """Images that are equal pixel by pixel: across splits, under two labels, twice in one split."""
    groups: dict[str, list[Image]] = defaultdict(list)
    for image in images:
        if not image.facts.one_colour:  # has a finding of its own
            groups[image.facts.sha256].append(image)
    several = [group for group in groups.values() if len(group) > 1]
    size = dataset.train.image_shape[0]
    leaks = [group for group in several if 0 < _number_in(group, "test") < len(group)]
    shared = [g for g in several if _number_in(g, "train") and _number_in(g, "validation")]
    contradictory = [group for group in several if len({image.label for image in group}) > 1]
    repeated = [
        group for group in several if max(Counter(image.split for image in group).values()) > 1
    ]
    return [
        _finding(
            "in test and in training",
            leaks,
            f"{sum(_number_in(g, 'test') for g in leaks):,} of {_number_in(images, 'test'):,} test"
            f" images are in train or validation, too, equal in every pixel at {size} px: {{}}."
            " Remove them from one side"
            + ("." if allow_leaks else ", or go on with config.data.allow_leaks=True."),
            refused=not allow_leaks,
        ),
        _finding(
            "in train and in validation",
            shared,
            f"{sum(_number_in(g, 'validation') for g in shared):,} of"
            f" {_number_in(images, 'validation'):,} validation images are training images, too,"
            " equal in every pixel: {}. Steps and settings are chosen on what was learned by"
            " heart; remove them from one side.",
        ),
        _finding(
            "under two labels",
            contradictory,
            f"{number_of(contradictory)} under two classes, equal in every pixel: {{}}."
            " Decide which class is right.",
            named=lambda image: f"{image.path} ({dataset.class_names[image.label]})",
        ),
        _finding(
            "more than once",
            repeated,
            f"{number_of(repeated)} more than once in a split, equal in every pixel:"
            f" {{}}. Together they count {sum(map(len, repeated)):,} times.",
        ),
    ]


def _number_in(images: Iterable[Image], split: str) -> int:
    return sum(image.split == split for image in images)


def _finding(
    kind: str,
    groups: Sequence[Sequence[Image]],
    sentence: str,
    named: Callable[[Image], str] = lambda image: f"{image.path} ({image.split})",
    refused: bool = False,
) -> Finding | None:
    """A finding of groups of equal images; "{}" in the sentence is for examples."""
    if not groups:
        return None
    shown = "; ".join(
        " = ".join(named(image) for image in _spread(group)) for group in groups[:SHOWN]
    )
    more = f"; and {len(groups) - SHOWN:,} more" if len(groups) > SHOWN else ""
    images = tuple(image for group in groups for image in group)
    return Finding(kind, sentence.replace("{}", shown + more), images, refused)


def _spread(group: Sequence[Image]) -> list[Image]:
    """Two of a group, of different splits or labels where there are such."""
    first = next((image for image in group if image.split != "test"), group[0])
    for differs in (
        lambda i: i.split == "test" != first.split,
        lambda i: i.split != first.split,
        lambda i: i.label != first.label,
    ):
        if other := next(filter(differs, group), None):
            return [first, other]
    return list(group[:2])


def _one_colour(images: Sequence[Image], dataset: Dataset) -> Finding | None:
    found = [image for image in images if image.facts.one_colour]
    if not found:
        return None
    return Finding(
        "one colour",
        f"{_by_class(found, images, dataset)} show one colour and nothing else, for example"
        f" {_examples(found)}: look at the files, and remove them if nothing is in them.",
        tuple(found),
    )


def _near_empty(images: Sequence[Image], dataset: Dataset) -> Finding | None:
    found = [i for i in images if i.facts.deviation < NEAR_EMPTY and not i.facts.one_colour]
    if not found:
        return None
    return Finding(
        "nearly empty",
        f"{_by_class(found, images, dataset)} are all but of one colour (their values deviate by"
        f" less than {NEAR_EMPTY:g} of 255), for example {_examples(found)}: look at the files.",
        tuple(found),
    )


def _transparent(images: Sequence[Image], dataset: Dataset, background: str) -> Finding | None:
    found = [image for image in images if image.facts.transparent]
    if not found:
        return None
    return Finding(
        "transparent",
        f"{_by_class(found, images, dataset)} have transparent parts, which show {background}"
        f" (config.data.background), for example {_examples(found)}.",
        tuple(found),
    )


def _grey(images: Sequence[Image]) -> Finding | None:
    deep = [image for image in images if image.facts.grey_high >= 0]
    if not deep:
        return None
    bits = grey_bits_in_use(image.facts for image in images)
    low, high = (
        min(image.facts.grey_low for image in deep),
        max(image.facts.grey_high for image in deep),
    )
    sentence = (
        f"{len(deep):,} of {len(images):,} images are grey with 16 bits, and their values go from"
        f" {low:,} to {high:,} over the whole set: they are read as {bits}-bit grey, 0 to"
        f" {(1 << bits) - 1:,}."
    )
    if bits > 8 and high - low < 1 << (bits - 3):
        sentence += (
            " That leaves little contrast: scale them to 8 bits yourself, over the range that"
            " matters."
        )
    return Finding("16-bit grey", sentence, tuple(deep))


def _tell_tales(images: Sequence[Image], dataset: Dataset) -> list[Finding | None]:
    """What is no part of the picture, and tells the class all the same."""
    return [
        _tells(images, dataset, "size", lambda f: (f.width, f.height), "{0[0]} x {0[1]} pixels"),
        _tells(images, dataset, "kind of pixel", lambda f: f.mode, "{0} (as Pillow calls it)"),
    ]


def _tells(
    images: Sequence[Image],
    dataset: Dataset,
    what: str,
    of: Callable[[ImageFacts], Hashable],
    shown: str,
) -> Finding | None:
    """Accuracy of naming the commonest class of each size or kind that is not rare."""
    counts: dict[Hashable, Counter[int]] = defaultdict(Counter)
    for image in images:
        counts[of(image.facts)][image.label] += 1
    overall = Counter(image.label for image in images)
    commonest = max(overall.values())
    common = {value: c for value, c in counts.items() if c.total() >= MIN_OF_A_KIND}
    rare = len(images) - sum(c.total() for c in common.values())
    right = sum(max(c.values()) for c in common.values()) + rare * commonest / len(images)
    accuracy, chance = right / len(images), commonest / len(images)
    if accuracy < TELLS or accuracy < chance + ABOVE_CHANCE:
        return None
    value, classes = max(common.items(), key=lambda item: item[1].total())
    label = classes.most_common(1)[0][0]
    name = dataset.class_names[label]
    return Finding(
        f"{what} tells the class",
        f"the {what} of a file alone tells the class of {100 * accuracy:.0f}% of the images"
        f" (always naming the largest class: {100 * chance:.0f}%), for example"
        f" {shown.format(value)}: {classes[label]:,} of {classes.total():,} are {name}. Sharpness,"
        " borders or compression may tell it to a network, too.",
        (),
    )


def _enlarged(images: Sequence[Image], dataset: Dataset) -> Finding | None:
    size = dataset.train.image_shape[0]
    found = [image for image in images if 2 * max(image.facts.width, image.facts.height) < size]
    if len(found) < SMALL_SHARE * len(images):
        return None
    return Finding(
        "enlarged",
        f"{_by_class(found, images, dataset)} are less than half of {size} pixels wide and high"
        f" and were enlarged, for example {_examples(found)}: are they thumbnails?",
        tuple(found),
    )


def _by_class(found: Sequence[Image], images: Sequence[Image], dataset: Dataset) -> str:
    """ "7 of 40 images (cat 6 of 20, dog 1 of 20)"."""
    sizes = Counter(image.label for image in images)
    counts = Counter(image.label for image in found).most_common()
    parts = [f"{dataset.class_names[c]} {n:,} of {sizes[c]:,}" for c, n in counts[:SHOWN]]
    more = ", ..." if len(counts) > SHOWN else ""
    return f"{len(found):,} of {len(images):,} images ({', '.join(parts)}{more})"


def _examples(found: Sequence[Image]) -> str:
    return ", ".join(image.path for image in found[:SHOWN])


def sizes_sentence(dataset: Dataset) -> str:
    """One sentence on the sizes and kinds of the files; "" where they are not known."""
    images = all_images(dataset)
    if not images:
        return ""
    sides = np.array([(image.facts.width, image.facts.height) for image in images])
    low, middle, high = sides.min(0), np.median(sides, axis=0), sides.max(0)
    if np.array_equal(low, high):
        sizes = f"all {low[0]:,} x {low[1]:,} pixels"
    else:
        sizes = (
            f"{low[0]:,} to {high[0]:,} pixels wide (median {middle[0]:,.0f}) and {low[1]:,} to"
            f" {high[1]:,} high (median {middle[1]:,.0f})"
        )
    modes = Counter(image.facts.mode for image in images).most_common()
    kinds = ", ".join(f"{n:,} {mode}" for mode, n in modes)
    return f"{dataset.name} files: {sizes}; {kinds}."
