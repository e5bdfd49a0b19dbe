"""Folders of images at random, as people lay them out, and what must be counted in each."""

import os
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import strategies as st
from random_images import BAD_NAMES, good_pictures, numbered, odd_pictures

PLAIN_CLASSES = (
    "cat",
    "dog",
    "fox",
    "polar bear",
    "caf\u00e9",
    "7",
    "10",
    "\u732b",
    "\U0001f431 x",
)
ODD_CLASSES = (
    "Cat", "cat ", "cafe\u0301", "polar_bear", "07", "a", "A", "nan", "-1", "none", '"q"', "it's",
    "a,b;c", "<b>x</b>", "=1+1", "train", "Test", "valid", "images", "data", "align", "tr", "te",
    "test_tube", "bullet_train", "1pct", "x" * 200, "#recycle bin", "\u202eabc", "c.png", "%s {0}",
)  # fmt: skip
SPLITS = {
    "train": ("train", "Train", "TRAINING", "train_set", "Training Set", "train2017", "img_train"),
    "validation": ("val", "Valid", "VALIDATION", "dev", "val_set"),
    "test": ("test", "Testing", "TEST", "test_images", "eval"),
}
COVERS = ("", "", "", "images", "data", "Dataset")
ODDITIES = (
    "picture", "another picture", "system", "loose", "nested", "level above", "class name",
    "bad name", "bad class", "dead link", "pipe", "bytes", "link", "empty class", "test spelling",
    "extra test",
)  # fmt: skip


@dataclass
class Case:
    """What was written.

    Attributes:
        config: "folder" or "csv".
        root: For `config.data.root`.
        counts: Split -> Counter of (class, "aligned", "conflicting" or "unknown"); the split "all"
            where splits are drawn.
        clean: Nothing is odd: it must be read.
        refused: Why it must be refused; empty where it need not be.
        max_broken: For `config.data.max_broken`.
    """

    config: str
    root: Path
    counts: dict[str, Counter]
    clean: bool = True
    refused: list[str] = field(default_factory=list)
    max_broken: int = 0


@st.composite
def folders(draw: st.DrawFn, root: Path) -> Case:
    """A folder of images with up to three oddities, written to `root`."""
    case = Case("folder", root, {})
    oddities = draw(st.lists(st.sampled_from(ODDITIES), max_size=3, unique=True))
    case.clean = not oddities
    case.max_broken = draw(st.sampled_from((0, 0, 3)))
    names = st.sampled_from(PLAIN_CLASSES)
    if "class name" in oddities:
        names |= st.sampled_from(ODD_CLASSES)
    classes = draw(st.lists(names, min_size=2, max_size=4, unique=True))
    layout = draw(st.sampled_from(("classes", "splits", "align/conflict")))
    cover = draw(st.sampled_from(COVERS))
    top = root / cover
    top.mkdir(parents=True, exist_ok=True)
    writer = _Writer(draw, case, classes)
    if "level above" in oddities:
        parts = draw(st.sampled_from((("site A", "site B"), ("2019", "2020"), ("left", "right"))))
        for part in parts:
            writer.classes(top / part, "all", 3, "unknown")
        case.refused.append("a level above the classes")
    elif layout == "classes":
        writer.classes(top, "all", 6, "unknown")
    else:
        used = {split: draw(st.sampled_from(words)) for split, words in SPLITS.items()}
        for split in draw(
            st.sampled_from(((), ("test",), ("validation",), ("validation", "test")))
        ):
            writer.classes(top / used[split], split, 3, "unknown", oddities)
        train = "train" if {"validation", "test"} <= case.counts.keys() else "all"
        if layout == "splits":
            writer.classes(top / used["train"], train, 8, "unknown")
        else:
            writer.classes(top / used["train"] / draw(st.sampled_from(("align", "Aligned"))),
                           train, 7, "aligned")  # fmt: skip
            writer.classes(top / used["train"] / draw(st.sampled_from(("conflict", "conflicting"))),
                           train, 2, "conflicting")  # fmt: skip
        if train == "all":  # the splits that are there are counted with those that are drawn
            case.counts = {"all": sum(case.counts.values(), Counter())}
    for oddity in oddities:
        writer.add(oddity, top)
    if writer.broken > case.max_broken:
        case.refused.append(f"{writer.broken} broken images")
    return case


class _Writer:
    """Writes pictures and counts them."""

    def __init__(self, draw: st.DrawFn, case: Case, classes: list[str]) -> None:
        self._draw, self._case, self._classes = draw, case, classes
        self._number = self.broken = 0
        self._places: list[tuple[Path, str, str, str]] = []  # class folders, and what goes there

    def classes(self, at: Path, split: str, most: int, bias: str, oddities: list[str] = ()) -> None:
        """A folder of every class, each with 1 + most/2 to most good pictures."""
        for name in self._classes:
            spelled = name
            if "test spelling" in oddities:
                spelled = self._draw(st.sampled_from(
                    (name, unicodedata.normalize("NFD", name), name.upper(), f"{name} ")
                ))  # fmt: skip
            (at / spelled).mkdir(parents=True, exist_ok=True)
            self._places.append((at / spelled, split, name, bias))
            for _ in range(self._draw(st.integers(1 + most // 2, most))):
                self.picture(self._draw(good_pictures()), *self._places[-1])

    def picture(self, picture, at: Path, split: str, name: str, bias: str) -> None:
        picture = numbered(picture, self._number)
        picture.write(at, self._number)
        self._number += 1
        counted = self._case.counts.setdefault(
            "all" if "all" in self._case.counts else split, Counter()
        )
        counted[name, bias] += picture.worth == "counts"
        self.broken += picture.worth == "broken"

    def add(self, oddity: str, top: Path) -> None:
        """One more thing that is not as it should be."""
        draw, case = self._draw, self._case
        place = draw(st.sampled_from(self._places))
        at = place[0]
        picture = draw(good_pictures())
        if "picture" in oddity:
            self.picture(draw(odd_pictures()), *place)
        elif oddity == "nested":
            self.picture(picture, at / "sub", *place[1:])
        elif oddity == "system":
            name = draw(st.sampled_from(("@eaDir", ".ipynb_checkpoints", "__MACOSX", "#recycle")))
            picture.write(at / name, 900)
            picture.write(top / name, 901)
            (at / "Thumbs.db").write_bytes(b"\xd0\xcf")
            (at / "._000.png").write_bytes(b"\0\5\x16\7")
        elif oddity == "loose":
            numbered(picture, 902).write(top, 902)
        elif oddity in ("bad name", "bad class"):
            name = draw(st.sampled_from(BAD_NAMES))
            if oddity == "bad class":
                numbered(picture, 903).write(at.parent / name, 903)
            else:
                numbered(picture, 903).write(at, 903)
                name = f"{name}{os.path.splitext(picture.name)[1]}"
                os.replace(at / numbered(picture, 903).name, at / name)
            case.refused.append("a name with a control character")
        elif oddity == "dead link":
            suffix = draw(st.sampled_from((".png", "", ".md")))
            (at / f"dead{suffix}").symlink_to(at / "nothing")
            case.refused += ["a dead link"] if suffix == ".png" else []
        elif oddity == "pipe":
            suffix = draw(st.sampled_from((".png", "")))
            os.mkfifo(at / f"pipe{suffix}")
            case.refused += ["a pipe"] if suffix else []
        elif oddity == "bytes":
            (Path(os.fsdecode(os.fsencode(at) + b"/caf\xe9.png"))).write_bytes(b"")
            case.refused.append("a name that is not UTF-8")
        elif oddity == "link":
            (at / "loop").symlink_to(at)
            case.refused.append("a link to its parent")
        elif oddity == "empty class":
            (top / "nothing").mkdir(exist_ok=True)
        elif oddity == "extra test":
            self.picture(picture, at.parent / "new class", place[1], "new class", place[3])
