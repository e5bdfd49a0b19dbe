"""Any image set in folders: one folder of images per class, with or without folders for splits."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ddb_jax.data.images.file_kinds import SYSTEM
from ddb_jax.data.images.files import Row, files_of, find_images, subfolders, system_entries
from ddb_jax.data.images.left_out import Other, shown, with_left_out
from ddb_jax.data.listing import Files, Listing
from ddb_jax.data.names import groups, loose_key, name_key, plain
from ddb_jax.data.sets.folder_layout import FIELD, Layout, find_layout


def list_folder(root: Path, *, name: str = "folder", folders_are_classes: bool = False) -> Listing:
    """List `<root>/<class>/*`, which is all train, or `<root>/{train,val,test}/<class>/*`.

    The split folders are known by their usual names, see `split_folders`; val and test may be
    missing. Images in folders below a class folder belong to the class. Classes are the folders of
    train, sorted by name, or by number if all are numbers; a class is found in the other splits
    under any spelling that looks the same.

    No bias is known, unless a split is an align/conflict tree (`train/align/<class>/*` and
    `train/conflict/<class>/*`): there the bias is the label, or the next label, which only marks
    the image as conflicting.

    Args:
        root: Folder with the class folders or the split folders.
        name: Name of the data set.
        folders_are_classes: Every folder of root is a class, whatever it is called or holds.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It has not this layout, or what looks like a level above the classes; it has one
            class only, two whose names look the same, a training class without images, or a class
            that train lacks.
    """
    root = Path(root)
    same = {"train": ""}
    layout = Layout(same, same) if folders_are_classes else find_layout(root)
    notes = list(layout.notes)
    warnings = list(layout.warnings)
    images: dict[str, dict[str, list[str]]] = {}  # by the folder that holds the class folders
    others: list[Other] = []
    for split, folder in layout.folders.items():
        top = layout.tops[split]
        for part, aligned in layout.parts(split).items():
            must = split == "train" and aligned is not False
            images[part], left_out = _read_split(root, part, must, notes, warnings)
            others += left_out
            for cover in {folder, top} - {part}:
                made = system_entries(root / cover)
                others += [Other(f"{cover}/{name}", kind) for name, kind in made]
    if "" not in layout.folders.values():
        others += system_entries(root)
    first, *_ = layout.parts("train")
    classes = _sorted_classes(images[first])
    if len(classes) == 1:
        raise ValueError(
            f"{root / first} has one class folder only, {classes[0]}: give the folder that"
            " holds two or more."
        )
    warnings += _check_alike(root / first, classes, folders_are_classes)
    splits = {}
    for split in layout.folders:
        rows: list[Row] = []
        for part, aligned in layout.parts(split).items():
            by_class = images[part]
            if part != first:
                by_class = _match(root / part, split, by_class, classes, notes)
            for label, c in enumerate(classes):
                bias = {None: -1, True: label, False: (label + 1) % len(classes)}[aligned]
                rows += [(path, label, bias) for path in by_class.get(c, ())]
        splits[split] = files_of(rows)
        warnings += _absent(root / layout.folders[split], name, split, splits[split], classes)
    listing = Listing(
        name,
        root,
        splits,
        classes,
        classes if layout.halves else (),
        tuple(notes),
        bias_is_marker=bool(layout.halves),
        warnings=tuple(warnings),
    )
    return with_left_out(listing, others, _class_of(images))


def _absent(
    at: Path, name: str, split: str, files: Files, classes: Sequence[str]
) -> tuple[str, ...]:
    """A warning on the classes of which a split has no image; it must have one of some."""
    there = set(files.labels.tolist())
    absent = [c for label, c in enumerate(classes) if label not in there]
    if len(absent) == len(classes):
        raise ValueError(f"the class folders of {at} have no images: add some, or remove {at}.")
    if not absent:
        return ()
    return (f"The {split} split of {name} has no image of class {_list(absent)}.",)


def _read_split(
    root: Path, folder: str, must: bool, notes: list[str], warnings: list[str]
) -> tuple[dict[str, list[str]], list[Other]]:
    """Image paths by class, and what is left out; adds to the notes and warnings.

    Where they `must`, all class folders have images.
    """
    at = root / folder
    prefix = f"{folder}/" if folder else ""
    by_class: dict[str, list[str]] = {c: [] for c in subfolders(at)}
    if not by_class:
        raise ValueError(
            f"there is no class folder in {at}: put one folder of images per class there."
        )
    images, others = find_images(root, folder)
    loose, nested = [], []
    for path in images:
        c, *inner = path.removeprefix(prefix).split("/")
        if not inner:
            loose.append(path)
            continue
        by_class[c].append(path)
        if len(inner) > 1:
            nested.append(path)
    for c, paths in by_class.items():
        if not paths:
            own = [o for o in others if o.path.startswith(f"{prefix}{c}/") and o.kind != SYSTEM]
            if own or must:
                _refuse_empty(at / c, own)
    if loose:
        warnings.append(
            f"Images of {at} in no class folder were left out: {len(loose):,}, for example"
            f" {shown(loose[0])}. Move them into the folders of their classes."
        )
    if nested:
        below = f"Images of {at} in folders below a class folder count as that class: "
        below += f"{len(nested):,}, for example {shown(nested[0])}."
        inner = set(nested)
        # Thumbnails, masks and copies lie in a folder beside the images.
        if any(0 < len(inner.intersection(paths)) < len(paths) for paths in by_class.values()):
            warnings.append(f"{below} Move them away if they are masks, thumbnails or copies.")
        else:
            notes.append(below)
    return by_class, others


def _refuse_empty(at: Path, others: Sequence[Other]) -> None:
    why = ""
    if others:
        kinds = sorted({other.kind for other in others})
        number = f"{len(others):,} files that are" if len(others) > 1 else "1 file that is"
        why = f", only {number} not read ({', '.join(kinds)})"
    fix = "convert them to JPEG or PNG" if others else "add some"
    raise ValueError(f"the class folder {at} has no images{why}: {fix}, or remove the folder.")


def _check_alike(at: Path, classes: Sequence[str], allowed: bool) -> list[str]:
    """Refuse classes whose names a person takes for one; a warning where that is not sure."""
    warnings = []
    for group in groups(classes, loose_key):
        names = " and ".join(map(_quoted, group))
        keys = {name_key(c) for c in group}
        # Letters are classes of their own in sets of handwriting: A and a.
        letters = all(len(plain(c)) == 1 for c in group) and len(set(map(plain, group))) > 1
        if len(keys) < len(group) and not letters and not allowed:
            raise ValueError(
                f"{at} has the class folders {names}, whose names look the same: move their images"
                f" into one folder, or rename one; if all are classes, set {FIELD}."
            )
        warnings.append(
            f"{at} has the class folders {names}: they are read as {len(group)} classes. If they"
            " are one, move their images into one folder."
        )
    return warnings


def _match(
    at: Path,
    split: str,
    found: Mapping[str, list[str]],
    classes: Sequence[str],
    notes: list[str],
) -> dict[str, list[str]]:
    """The image paths of a split by the classes' own names."""
    twice = {c for group in groups(classes, name_key) for c in group}
    by_key = {name_key(c): c for c in classes if c not in twice}
    own: dict[str, list[str]] = {}
    for folder, paths in found.items():
        c = folder if folder in classes else by_key.get(name_key(folder))
        if c is None:
            if not paths:
                continue
            near = next((k for k in classes if loose_key(k) == loose_key(folder)), "")
            fix = f"rename it to {near}" if near else "add training images of it"
            raise ValueError(
                f"the {split} split of {at.parent} has class {folder}, which train lacks: {fix} or"
                f" remove {at / folder}."
            )
        if c != folder:
            notes.append(f"{_quoted(folder)} in {at} is read as the class {_quoted(c)} of train.")
        own.setdefault(c, []).extend(paths)
    return own


def _quoted(name: str) -> str:
    """The name so that its spelling can be seen: accents apart from letters, spaces at the ends."""
    return repr(name) if name.isascii() else ascii(name)


def _list(names: Sequence[str]) -> str:
    return ", ".join(map(shown, names))


def _class_of(folders: Iterable[str]) -> Callable[[str], str]:
    """The class folder of a path, with the split's; "" for a path in none."""
    prefixes = [f"{folder}/" if folder else "" for folder in folders]

    def class_of(path: str) -> str:
        for prefix in prefixes:
            inner = path.removeprefix(prefix)
            if path.startswith(prefix) and "/" in inner:
                return prefix + inner.split("/")[0]
        return ""

    return class_of


def _sorted_classes(names: Iterable[str]) -> tuple[str, ...]:
    """By number if all are numbers, so that folder 10 follows folder 9; else by name."""
    names = list(names)
    numbers = all(name.isdecimal() for name in names)
    return tuple(sorted(names, key=lambda name: (int(name) if numbers else 0, name)))
