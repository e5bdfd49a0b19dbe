"""Where the splits of a Hugging Face set are, told by the names of its files and folders."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from ddb_jax.data.names import plain
from ddb_jax.runtime.errors import first_few

ROLES = ("train", "validation", "test")
USUAL = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
WORDS = frozenset(word for words in USUAL.values() for word in words)
# A name that the library gives to the files of a split: train-00000-of-00002.parquet.
SHARD = re.compile(r"(.+?)-\d+-of-\d+(-[0-9a-f]+)?")


def is_huggingface(root: Path) -> bool:
    """Whether a folder holds what the library datasets writes or reads by its own names."""
    names = ("dataset_dict.json", "state.json", "metadata.csv", "*/metadata.csv", "**/*.parquet")
    return any(next(root.glob(name), None) for name in names)


def saved_files(root: Path) -> dict[str, list[Path]]:
    """Files of every split that `save_to_disk` wrote; empty if it did not.

    Raises:
        ValueError: One of its JSON files is damaged or missing.
    """
    try:
        if (root / "dataset_dict.json").is_file():
            names = json.loads((root / "dataset_dict.json").read_text())["splits"]
            folders = {name: root / name for name in names}
        elif (root / "state.json").is_file():
            name = json.loads((root / "state.json").read_text()).get("_split")
            folders = {name or "train": root}
        else:
            return {}
        found = {}
        for name, folder in folders.items():
            state = json.loads((folder / "state.json").read_text())
            found[name] = [folder / entry["filename"] for entry in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{root} is not a whole set of datasets' save_to_disk ({error}): save it again."
        ) from None
    return found


def parquet_files(root: Path) -> dict[str, list[Path]]:
    """Parquet files of every split, in order.

    Raises:
        ValueError: There are none, or those of several sets.
    """
    found: dict[str, list[Path]] = {}
    bases = set()
    for path in sorted(root.rglob("*.parquet")):
        shard = SHARD.fullmatch(path.stem)
        words = [word for word in re.split(r"[^a-z]+", path.stem.lower()) if word in WORDS]
        base = path.parent
        if shard:
            split = shard[1]
        elif words:
            split = words[0]
        elif base != root and (path.stem.isdecimal() or base.name.lower() in WORDS):
            split, base = base.name, base.parent
        else:
            split = "train"
        found.setdefault(split, []).append(path)
        bases.add(base.relative_to(root).as_posix())
    if not found:
        hint = ""
        if any(root.glob("**/metadata.jsonl")):
            hint = " (metadata.jsonl is not read: write it as metadata.csv)"
        elif any(root.rglob("*.arrow")):
            hint = " (its arrow files are not of save_to_disk: save the set with it)"
        raise ValueError(
            f"{root} holds no set: it must be a folder of datasets' save_to_disk, of parquet files,"
            f" or of images with metadata.csv{hint}."
        )
    if len(bases) > 1:
        raise ValueError(
            f"{root} holds parquet files of several sets, in {first_few(sorted(bases))}: give one"
            " of these folders as config.data.root."
        )
    return found


def split_roles(root: Path, found: Iterable[str], asked: tuple[str, str, str]) -> dict[str, str]:
    """Role (train, validation, test) -> split that has it; the last two may be absent.

    Args:
        root: Folder of the set, for messages.
        found: Names of the splits that are there.
        asked: The split of every role; "" is the one of a usual name.

    Raises:
        ValueError: A split that is asked for is not there, or it is not clear which is train.
    """
    found = list(found)
    roles: dict[str, str] = {}
    for role, name in zip(ROLES, asked, strict=True):
        usual = [split for split in found if plain(split).lower() in USUAL[role]]
        if name and name not in found:
            raise ValueError(
                f"{root} has no split {name!r}, there is {first_few(found)}: change"
                f" config.data.{role}_split."
            )
        if not name and len(usual) > 1:
            raise ValueError(
                f"{root} has several splits that look like {role}: {first_few(usual)}; name one"
                f" with config.data.{role}_split."
            )
        if name or usual:
            roles[role] = name or usual[0]
    if "train" not in roles:
        raise ValueError(
            f"{root} has no training split, there is {first_few(found)}: name it with"
            " config.data.train_split."
        )
    if len(set(roles.values())) < len(roles):
        raise ValueError(
            f"{root}: one split cannot be two of train, validation and test: change"
            " config.data.train_split, validation_split or test_split."
        )
    return roles
