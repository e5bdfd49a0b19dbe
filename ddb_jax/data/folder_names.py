"""What the names of folders and files mean: splits, and what systems make.

Names are compared as a person reads them (`names.name_key`), and where a split is meant without the
difference between spaces, "_", "-" and nothing.
"""

import re
from collections.abc import Iterable, Sequence

from ddb_jax.data.names import name_key

SPLIT_WORDS = {
    "train": ("train", "training", "trainval", "trainvalid", "learn", "learning", "trn"),
    "validation": ("val", "valid", "validation", "validate", "validating", "dev", "devel",
                   "development"),
    "test": ("test", "testing", "tst", "eval", "evaluation", "evaluate", "holdout", "heldout"),
}  # fmt: skip
# What goes with them: trainset, test_images, img_train, train_data.
FILLING = ("set", "sets", "split", "data", "dataset", "images", "image", "imgs", "img", "pictures",
           "photos", "samples", "files", "folder", "dir")  # fmt: skip
# Splits only where train's is there with another: tr is also Turkish, te Telugu.
SHORT = {"tr": "train", "va": "validation", "vl": "validation", "te": "test", "ts": "test"}

# Thumbnails, waste, copies and caches that file servers, systems and programs make.
SYSTEM_FOLDERS = frozenset(
    (
        "@eadir", "@tmp", "@recycle", "@recently-snapshot", "@sharebin", "@sharesnap", "@__thumb",
        "@snapshot", "@syno", "@synoeastream", "@synoresource", "#recycle", "#snapshot",
        "~snapshot", "$recycle.bin", "recycle.bin", "system volume information", "lost+found",
        "found.000", "__macosx", "__pycache__", "network trash folder", "temporary items",
        "thedrvolume", "thevolumesettingsfolder", "ipynb_checkpoints",
    )
)  # fmt: skip
SYSTEM_FILES = frozenset(
    ("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "picasa.ini", "icon\r")
)
SYSTEM_ENDINGS = (":zone.identifier", "@synoeastream", "@synoresource", ":encryptable")

ALIGNED = ("align", "aligned", "biasalign", "biasaligned")
CONFLICTING = ("conflict", "conflicting", "biasconflict", "biasconflicting")

_YEAR = re.compile(r"(19|20)\d\d$")
_PLAIN = {
    before + word + after: split
    for split, words in SPLIT_WORDS.items()
    for word in words
    for before in ("", *FILLING)
    for after in ("", *FILLING)
}


def joined(name: str) -> str:
    """The letters and digits of a name, in lower case."""
    return "".join(_tokens(name))


def is_system(name: str, *, folder: bool) -> bool:
    """Whether systems or programs make files or folders of this name; hidden ones count."""
    key = name.casefold()
    if folder:
        return key[0] == "." or key in SYSTEM_FOLDERS
    return key in SYSTEM_FILES or key.endswith(SYSTEM_ENDINGS)


def split_folders(folders: Sequence[str]) -> dict[str, list[str]]:
    """The folders that name each split; empty where none does.

    Known are the words of SPLIT_WORDS with FILLING before or after; those of SHORT; and words with
    more around them, as in seg_train and seg_test, where two folders have the same around them.

    Raises:
        ValueError: Folders name splits of several things, as cats_train, cats_test, dogs_train and
            dogs_test; the message goes after the folder's name.
    """
    plain = _grouped((_PLAIN.get(_YEAR.sub("", joined(folder))), folder) for folder in folders)
    short = _grouped((SHORT.get(joined(folder)), folder) for folder in folders)
    if "train" in short and len(short) > 1 and "train" not in plain:
        return short
    tests = plain.get("test", [])
    judged = [folder for folder in tests if "eval" in joined(folder)]
    if len(tests) == 2 and len(judged) == 1 and "validation" not in plain:
        # Beside a test folder, eval is what settings are chosen by.
        plain["validation"] = judged
        plain["test"] = [folder for folder in tests if folder not in judged]
    if plain:
        return {split: plain[split] for split in SPLIT_WORDS if split in plain}
    by_rest: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for folder in folders:
        for split, rest in _around(folder):
            by_rest.setdefault(rest, []).append((split, folder))
    groups = [_grouped(pairs) for pairs in by_rest.values()]
    groups = [group for group in groups if "train" in group and len(group) > 1]
    if len(groups) > 1:
        names = ", ".join(
            folder for group in groups for found in group.values() for folder in found
        )
        raise ValueError(
            f"has {names}, which look like the splits of several things: put their images into"
            " train/<class>/ and test/<class>/"
        )
    return groups[0] if groups else {}


def _around(folder: str) -> list[tuple[str, tuple[str, ...]]]:
    """The split that the first or last word names, with the other words."""
    words = [word for word in _tokens(folder) if word not in FILLING and not _YEAR.fullmatch(word)]
    ends = {0: words[1:], len(words) - 1: words[:-1]} if len(words) > 1 else {}
    found = ((_PLAIN.get(_YEAR.sub("", words[i])), tuple(rest)) for i, rest in ends.items())
    return [(split, rest) for split, rest in found if split]


def _tokens(name: str) -> list[str]:
    return re.findall(r"[^\W_]+", name_key(name))


def _grouped(pairs: Iterable[tuple[str | None, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for split, folder in pairs:
        if split:
            found.setdefault(split, []).append(folder)
    return {split: found[split] for split in SPLIT_WORDS if split in found}
