"""Where the splits and the classes are in a folder of images, or the reason why it is not clear.

A folder whose levels are misread trains without an error on classes that are none: splits, halves
of an align/conflict tree, a copy of the set inside itself. What looks so is refused.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ddb_jax.data.folder_names import (
    ALIGNED,
    CONFLICTING,
    FILLING,
    SHORT,
    joined,
    split_folders,
)
from ddb_jax.data.images.files import images_in, subfolders
from ddb_jax.data.images.left_out import shown
from ddb_jax.data.names import name_key

FIELD = "config.data.folders_are_classes=true"
TABLE = "a table with columns path, label, split and bias for --config=configs/csv.py"


@dataclass(frozen=True)
class Layout:
    """Where the class folders of each split are.

    Attributes:
        folders: Split -> the folder that holds its class folders, relative to the root.
        tops: Split -> the folder in the root that names it; these differ where folders are nested.
        warnings: Sentences on what was understood and may not be meant.
        notes: Sentences on what was understood.
        halves: Split -> of an align/conflict tree, the folders that hold its class folders, each
            with whether its images are aligned; empty for a split that has no halves.
    """

    folders: Mapping[str, str]
    tops: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    halves: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)

    def parts(self, split: str) -> dict[str, bool | None]:
        """The folders that hold class folders of a split; None where the bias is unknown."""
        return dict(self.halves.get(split, {})) or {self.folders[split]: None}


def find_layout(root: Path) -> Layout:
    """Tell `<root>/<class>/*` from `<root>/<split>/<class>/*`.

    A split may be an align/conflict tree: `<split>/align/<class>/*` and
    `<split>/conflict/<class>/*`, with nothing beside the two.

    A folder that only holds a folder of its own name, or one called images or data, or one with the
    splits, is stepped into, with a warning.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It has neither layout, or what looks like a level above the classes.
    """
    warnings: list[str] = []
    base = _step_into(root, "", warnings)
    at = root / base
    folders = subfolders(at)
    if not folders:
        raise ValueError(
            f"there is no train/ or class folder in {at}: put one folder of images per class"
            f" there, or {at}/train/<class>/*."
        )
    _refuse_align_conflict(at, folders)
    splits = _splits(at, folders)
    if not splits:
        _refuse_one_folder(at, folders)
        inside = {folder: subfolders(at / folder) for folder in folders}
        _refuse_copy(at, inside)
        _refuse_level_above(at, inside)
        return Layout({"train": base}, {"train": base}, tuple(warnings))
    unread = sorted(set(folders) - set(splits.values()))
    if unread:
        warnings.append(
            f"Beside the splits {at} has {', '.join(unread)}, which are not read: move what"
            " should be read into a split."
        )
    if loose := images_in(at):
        warnings.append(
            f"Images of {at} beside the splits were left out: {len(loose):,}, for example"
            f" {shown(loose[0])}. Move them into the folders of their classes."
        )
    tops = {split: f"{base}/{folder}" if base else folder for split, folder in splits.items()}
    inner, halves = {}, {}
    for split, top in tops.items():
        inner[split] = _step_into(root, top, warnings)
        classes = subfolders(root / inner[split])
        if not classes:
            _refuse_flat(root / inner[split], split, unread)
        if found := _halves(root, inner[split], classes):
            halves[split] = found
            continue
        _refuse_align_conflict(root / inner[split], classes)
        below = {c: subfolders(root / inner[split] / c) for c in classes}
        if split == "train" and (common := _common_folders(below)):
            warnings.append(
                f"The folders {_some(classes)} of {root / inner[split]} hold the same folders,"
                f" {_some(common)}, and are taken for the classes. If {_some(common)} are the"
                f" classes, move them up by one level; if they are the bias, write {TABLE}."
            )
    renamed = [f"{tops[s]} is {s}" for s in splits if splits[s].lower() not in (s, "val", "valid")]
    notes = [f"The splits of {at}: {', '.join(renamed)}."] if renamed else []
    if halves:
        notes.append(
            f"The {' and '.join(halves)} images of {at} lie in folders of aligned and of"
            " conflicting ones: which images conflict is known, their bias attribute is not."
        )
    return Layout(inner, tops, tuple(warnings), tuple(notes), halves)


def _splits(at: Path, folders: Sequence[str]) -> dict[str, str]:
    """The folder of every split that is there."""
    try:
        found = split_folders(folders)
    except ValueError as error:
        raise ValueError(f"{at} {error}, or, if they are classes, set {FIELD}.") from None
    named = [name for names in found.values() for name in names]
    if all(joined(name) in SHORT for name in named) and not all(subfolders(at / n) for n in named):
        return {}  # languages, say: tr and te
    for split, names in found.items():
        if len(names) > 1:
            raise ValueError(
                f"{at} has {' and '.join(names)}, which both name the {split} split: keep one and"
                f" rename the other, or, if all folders are classes, set {FIELD}."
            )
    if found and "train" not in found:
        names = ", ".join(f"{folder}/" for (folder,) in found.values())
        raise ValueError(
            f"{at} has {names} but no train/: put the training images into {at}/train/<class>/, or"
            f" rename that folder if it is a class, or set {FIELD}."
        )
    return {split: folder for split, (folder,) in found.items()}


def _step_into(root: Path, folder: str, warnings: list[str]) -> str:
    """The folder, or what it holds where it is only a cover."""
    while True:
        at = root / folder
        inside = subfolders(at)
        if len(inside) != 1:
            return folder
        inner = subfolders(at / inside[0])
        same = name_key(inside[0]) == name_key(at.resolve().name)
        plain = joined(inside[0]) in FILLING
        if not (((same or plain) and inner) or (not folder and "train" in _found(inner))):
            return folder
        warnings.append(
            f"{at} holds a single folder, {inside[0]}, which is taken for what is to be read."
        )
        folder = f"{folder}/{inside[0]}" if folder else inside[0]


def _found(folders: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """As `split_folders`; the splits of several things are none here."""
    try:
        return split_folders(folders)
    except ValueError:
        return {}


def _halves(root: Path, folder: str, inside: Sequence[str]) -> dict[str, bool]:
    """The folders of aligned and of conflicting images, if a split holds these two alone.

    Both must hold folders of the same names, which are then the classes; of a share (1pct) there
    may be several, and the choice is the user's.
    """
    kinds = {name: joined(name) in ALIGNED for name in inside}
    known = all(joined(name) in ALIGNED + CONFLICTING for name in inside)
    if len(inside) != 2 or not known or len(set(kinds.values())) < 2:
        return {}
    aligned, conflicting = sorted(inside, key=lambda name: not kinds[name])
    classes, others = (subfolders(root / folder / name) for name in (aligned, conflicting))
    keys = {name_key(name) for name in classes}
    if len(classes) < 2 or not others or not keys.issuperset(map(name_key, others)):
        return {}
    return {f"{folder}/{aligned}": True, f"{folder}/{conflicting}": False}


def _refuse_align_conflict(at: Path, folders: Sequence[str]) -> None:
    """Refuse align/ and conflict/ in a folder, or in its folders of shares such as 0.5pct."""
    keys = {joined(folder): folder for folder in folders}
    halves = [next((keys[k] for k in names if k in keys), "") for names in (ALIGNED, CONFLICTING)]
    end = f"For classes of your own write {TABLE}. If these folders are classes, set {FIELD}."
    if all(halves):
        shares = [name for name in subfolders(at / halves[1]) if name.endswith("pct")]
        config = (
            f" BiasEnsemble's BAR is read by --config=configs/bar.py --config.data.pct={shares[0]}."
            if shares
            else " The published sets are read by configs/cmnist.py and configs/ccifar10.py (with"
            " --config.data.name=cmnist_tree, ccifar10_tree), bffhq.py and dogs_and_cats.py."
        )
        raise ValueError(
            f"{at} holds {halves[0]}/ and {halves[1]}/, which are the halves of an align/conflict"
            f" tree and no classes.{config} {end}"
        )
    for share in (folder for folder in folders if folder.endswith("pct")):
        inside = [joined(name) for name in subfolders(at / share)]
        if any(k in ALIGNED for k in inside) and any(k in CONFLICTING for k in inside):
            raise ValueError(
                f"{at / share} holds align/ and conflict/, so {at} is an align/conflict tree. The"
                " published ones are read by --config=configs/bffhq.py, dogs_and_cats.py, and"
                " cmnist.py and ccifar10.py with --config.data.name=cmnist_tree, ccifar10_tree,"
                f" each with --config.data.pct={share}. {end}"
            )


def _refuse_one_folder(at: Path, folders: Sequence[str]) -> None:
    if len(folders) > 1:
        return
    inner = subfolders(at / folders[0])
    fix = "give the folder that holds two or more"
    if len(inner) > 1:
        fix = f"if its folders {_some(inner)} are the classes, give {at / folders[0]}"
    raise ValueError(f"{at} has one class folder only, {folders[0]}: {fix}.")


def _refuse_copy(at: Path, inside: Mapping[str, Sequence[str]]) -> None:
    """Refuse a folder, among classes, that holds the classes again, or splits that they lack."""
    for folder, names in inside.items():
        others = [other for other in inside if other != folder]
        keys = {name_key(name) for name in names}
        splits = _found(names)
        if len(others) > 1 and all(name_key(other) in keys for other in others):
            what = f"{_some(others)}, as there are beside it"
        elif "train" in splits and len(splits) > 1 and any(inside[o] != names for o in others):
            named = [name for found in splits.values() for name in found]
            what = f"{_some(named)}, which look like splits"
        else:
            continue
        raise ValueError(
            f"{at / folder} holds the folders {what}: it looks like a set of its own and no class."
            f" Give {at / folder} as config.data.root, or move it away; if it is a class, set"
            f" {FIELD}."
        )


def _refuse_level_above(at: Path, inside: Mapping[str, Sequence[str]]) -> None:
    common = _common_folders(inside)
    if common:
        raise ValueError(
            f"the folders {_some(list(inside))} of {at} hold the same folders, {_some(common)}:"
            " they look like a level above the classes. If they are splits, name them train, val"
            " and test; if they are parts, give one of them as config.data.root or put the images"
            f" of a class into one folder; if they are the classes, set {FIELD}."
        )


def _common_folders(inside: Mapping[str, Sequence[str]]) -> list[str]:
    """Names that most of the folders hold; empty where these are fewer than two."""
    several = [names for names in inside.values() if len(names) > 1]
    if len(several) < 2 or 2 * len(several) < len(inside):
        return []
    keys = {name: name_key(name) for names in several for name in names}
    for names in several:
        counts = Counter(keys[name] for name in names)
        # Beside each other, "cat" and "cat " are two.
        keys |= {name: name for name in names if counts[keys[name]] > 1}
    spelling = {keys[name]: name for names in several for name in names}
    uses = Counter(key for names in several for key in {keys[name] for name in names})
    common = sorted(spelling[key] for key, n in uses.items() if 2 * n > len(several))
    return common if len(common) > 1 else []


def _refuse_flat(at: Path, split: str, beside: Sequence[str]) -> None:
    like = f", like {beside[0]} beside it" if beside else ""
    raise ValueError(
        f"there is no class folder in {at}, whose name says that it is the {split} split: put one"
        f" folder of images per class there; if it is a class itself{like}, set {FIELD}."
    )


def _some(names: Sequence[str]) -> str:
    """The first names of many, on one line."""
    names = [shown(name) for name in names]
    more = len(names) - 4
    if more > 0:
        return f"{', '.join(names[:4])} and {more:,} more"
    return " and ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else names[0]
