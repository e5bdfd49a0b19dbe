"""Any image set in folders: one folder of images per class, with or without folders for splits."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ddb_jax.data.images.files import files_of, find_images, left_out_notes, subfolders
from ddb_jax.data.listing import Listing

SPLIT_FOLDERS = {
    "train": ("train",),
    "validation": ("val", "valid", "validation"),
    "test": ("test",),
}


def list_folder(root: Path, *, name: str = "folder") -> Listing:
    """List `<root>/<class>/*`, which is all train, or `<root>/{train,val,test}/<class>/*`.

    The split folders are known by SPLIT_FOLDERS in any case of letters; val and test may be
    missing. Images in folders below a class folder belong to the class. Classes are the folders of
    train, sorted by name, or by number if all are numbers. No bias is known.

    Args:
        root: Folder with the class folders or the split folders.
        name: Name of the data set.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It has not this layout, has one class only, a class folder without images, or a
            class that train lacks.
    """
    root = Path(root)
    folders = subfolders(root)
    split_folders = _split_folders(root, folders)
    if not folders:
        raise ValueError(
            f"there is no train/ or class folder in {root}: put one folder of images per class"
            f" there, or {root}/train/<class>/*."
        )
    if split_folders and "train" not in split_folders:
        found = ", ".join(f"{folder}/" for folder in split_folders.values())
        raise ValueError(
            f"{root} has {found} but no train/: put the training images into {root}/train/<class>/,"
            " or rename that folder if it is a class."
        )
    notes = []
    unread = sorted(set(folders) - set(split_folders.values())) if split_folders else []
    if unread:
        notes.append(f"Beside the splits {root} has {', '.join(unread)}, which are not read.")

    by_class, others = {}, []
    for split, folder in (split_folders or {"train": ""}).items():
        by_class[split], left_out, split_notes = _read_split(root, folder)
        others += left_out
        notes += split_notes
    classes = _sorted_classes(by_class["train"])
    if len(classes) == 1:
        raise ValueError(
            f"{root / split_folders.get('train', '')} has one class folder only, {classes[0]}: give"
            " the folder that holds two or more."
        )
    for split, found in by_class.items():
        foreign = _sorted_classes(set(found) - set(classes))
        if foreign:
            raise ValueError(
                f"the {split} split of {root} has class {foreign[0]}, which train lacks: add"
                f" training images of it or remove {root / split_folders[split] / foreign[0]}."
            )
        absent = [c for c in classes if c not in found]
        if absent:
            notes.append(f"The {split} split of {name} has no image of class {', '.join(absent)}.")
    splits = {
        split: files_of(
            (path, label, -1) for label, c in enumerate(classes) for path in found.get(c, ())
        )
        for split, found in by_class.items()
    }
    return Listing(name, root, splits, classes, notes=(*notes, *left_out_notes(others)))


def _split_folders(root: Path, folders: Sequence[str]) -> dict[str, str]:
    """The folder of every split that is there."""
    result = {}
    for split, names in SPLIT_FOLDERS.items():
        found = [folder for folder in folders if folder.lower() in names]
        if len(found) > 1:
            raise ValueError(
                f"{root} has {' and '.join(found)}, which both name the {split} split: keep one."
            )
        if found:
            result[split] = found[0]
    return result


def _read_split(root: Path, folder: str) -> tuple[Mapping[str, list[str]], list[str], list[str]]:
    """Image paths by class, the other files, and notes."""
    at = root / folder
    by_class: dict[str, list[str]] = {c: [] for c in subfolders(at)}
    if not by_class:
        raise ValueError(
            f"there is no class folder in {at}: put one folder of images per class there."
        )
    images, others = find_images(root, folder)
    loose, nested = [], []
    for path in images:
        c, *inner = path.removeprefix(f"{folder}/").split("/")
        if not inner:
            loose.append(path)
            continue
        by_class[c].append(path)
        if len(inner) > 1:
            nested.append(path)
    for c, paths in by_class.items():
        if not paths:
            raise ValueError(
                f"the class folder {at / c} has no images: add some, or remove the folder."
            )
    notes = []
    if loose:
        notes.append(
            f"Images of {at} in no class folder were left out: {len(loose):,}, for example"
            f" {loose[0]}."
        )
    if nested:
        notes.append(
            f"Images of {at} in folders below a class folder count as that class: {len(nested):,},"
            f" for example {nested[0]}."
        )
    return by_class, others, notes


def _sorted_classes(names: set[str] | Mapping[str, list[str]]) -> tuple[str, ...]:
    """By number if all are numbers, so that folder 10 follows folder 9; else by name."""
    numbers = all(name.isdecimal() for name in names)
    return tuple(sorted(names, key=lambda name: (int(name) if numbers else 0, name)))
