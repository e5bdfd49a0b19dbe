"""Tables of images at random, as programs and people write them, and what must be counted."""

import csv
import io
import unicodedata
from collections import Counter
from pathlib import Path

from hypothesis import strategies as st
from random_folders import Case
from random_images import good_pictures, numbered, odd_pictures

CLASSES = ("cat", "dog", "polar bear", "caf\u00e9", "\u732b", "it's", "a,b", 'say "x"', "yes", "no")
PLACES = ("sea", "land", "k\u00fcste", "sky, high")
SPLITS = {
    "train": ("train", "Train", " TRAIN "),
    "validation": ("val", "valid", "Validation"),
    "test": ("test", "TEST"),
}
MISSING = (
    "", " ", "nan", "NaN", "None", "NULL", "NA", "n/a", "#N/A", "<NA>", "unknown", "-", "?", ".",
    "\u00a0", "missing", "Unlabelled",
)  # fmt: skip
ODDITIES = (
    "picture", "missing label", "missing bias", "missing split", "no file", "repeated", "encoding",
    "separator", "open quote", "spelling", "decomposed", "dotted path", "equal columns",
    "short row", "no column", "case", "new class", "no rows", "backslash", "absolute",
)  # fmt: skip


@st.composite
def tables(draw: st.DrawFn, root: Path) -> Case:
    """A table with up to three oddities, in `root` beside its images."""
    case = Case("csv", root / "data.csv", {})
    oddities = set(draw(st.lists(st.sampled_from(ODDITIES), max_size=3)))
    case.clean = not oddities
    case.max_broken = draw(st.sampled_from((0, 0, 3)))
    numbers = draw(st.booleans())
    count = draw(st.integers(2, 4))
    names = [str(i) for i in range(count)]
    if not numbers:
        names = draw(st.lists(st.sampled_from(CLASSES), min_size=2, max_size=4, unique=True))
    biases = draw(st.sampled_from(("", "classes", "places")))
    with_split = draw(st.booleans())
    rows = _rows(draw, names, biases, with_split)
    extra = draw(st.sampled_from(((), ("note",), ("", "note"))))
    columns = ["path", "label", *(["split"] if with_split else []), *(["bias"] if biases else [])]
    columns = draw(st.permutations([*columns, *extra]))
    broken = _pictures(draw, case, root, rows, "picture" in oddities)
    truth = [dict(row) for row in rows]
    for oddity in sorted(oddities):
        _spoil(draw, case, rows, truth, oddity, root)
    _count(case, truth, names, biases, with_split)
    if broken > case.max_broken:
        case.refused.append(f"{broken} broken images")
    for row in rows:
        row |= {"note": draw(st.sampled_from(("", "x", "a, b", 'he said "no"'))), "": "0"}
        if with_split and row["split"] in SPLITS:
            row["split"] = draw(st.sampled_from(SPLITS[row["split"]]))
    _write(draw, case, columns, rows, oddities)
    return case


def _rows(draw, names, biases, with_split):
    """For each class and split some rows, most of them aligned."""
    rows = []
    for split in ("train", "validation", "test") if with_split else ("train",):
        for k, name in enumerate(names):
            most = 6 if split == "train" else 3
            for _ in range(draw(st.integers(1 + most // 2, most))):
                # An odd one has the bias of the next class, so that most go with their own.
                other = draw(st.integers(0, 4)) == 0
                b = (k + other) % len(names)
                bias = {"": "", "classes": names[b], "places": PLACES[b]}[biases]
                rows.append({"label": name, "split": split, "bias": bias})
    return rows


def _pictures(draw, case, root, rows, odd):
    """Writes the images; removes the rows' worth from the truth where they are broken."""
    broken = 0
    at = draw(st.integers(0, len(rows) - 1)) if odd else -1
    for i, row in enumerate(rows):
        picture = numbered(draw(odd_pictures() if i == at else good_pictures()), i)
        picture.write(root / "img", i)
        row["path"] = f"img/{picture.name}"
        # A table's suffixes are not looked at: all that it names must be readable.
        row["broken"] = bool(picture.damage)
        broken += row["broken"]
    return broken


def _spoil(draw, case, rows, truth, oddity, root):
    """One thing in the rows that is not as it should be, and what it means."""
    i = draw(st.integers(0, len(rows) - 1))
    row = rows[i]
    path = row["path"]
    if oddity == "missing label":
        row["label"] = draw(st.sampled_from(MISSING))
        case.refused.append("a label is missing")
    elif oddity == "missing bias":
        row["bias"] = draw(st.sampled_from(MISSING))
        truth[i]["bias"] = ""
    elif oddity == "no file":
        row["path"] = draw(st.sampled_from(("img/none.png", "", "img", "img/a\x00b.png")))
        case.refused.append("a file that is not there")
    elif oddity == "repeated":
        rows.append(dict(row) | {"path": draw(st.sampled_from((path, f"./{path}")))})
        truth.append(dict(truth[i]))
        case.refused.append("a file comes twice")
    elif oddity == "spelling":
        if truth[i]["label"].isdecimal():
            row["label"] = draw(st.sampled_from((f"{row['label']}.0", f"0{row['label']}")))
        else:
            row["label"] = f"\u00a0{row['label']}\u200b "
    elif oddity == "decomposed":
        for each in rows:
            each["path"] = unicodedata.normalize("NFD", each["path"])
        row["label"] = unicodedata.normalize("NFD", row["label"])
    elif oddity == "dotted path":
        row["path"] = draw(st.sampled_from((f"./{path}", f"img/../{path}", f"img//{path[4:]}")))
    elif oddity == "absolute":
        row["path"] = str(root / path)
    elif oddity == "backslash":
        row["path"] = path.replace("/", "\\")
        case.refused.append("a backslash is no separator")
    elif oddity == "case":
        row["label"] = row["label"].upper()
        if row["label"] != truth[i]["label"]:
            case.refused.append("names that differ in case")
    elif oddity == "missing split":
        row["split"] = ""
        if "split" in truth[i]:
            truth[i]["no split"] = "yes"
    elif oddity == "new class":
        row["label"] = truth[i]["label"] = "lynx"


def _count(case, truth, names, biases, with_split):
    trained = [row for row in truth if row["split"] == "train" or not with_split]
    if with_split and any(row.get("no split") for row in truth):
        case.refused.append("a split is missing")
    if {row["label"] for row in truth} - {row["label"] for row in trained}:
        case.refused.append("a class is not in train")
    if "lynx" in {row["label"] for row in truth}:
        names = [*names, "lynx"]
    pairs = dict(zip(names, names, strict=True))
    if biases == "places" or "lynx" in names:
        usual = {row["label"]: Counter() for row in trained}
        for row in trained:
            usual[row["label"]][row["bias"]] += row["bias"] != ""
        if biases and not all(row["bias"] in ("", *usual) for row in truth):
            two = {name: (*n.most_common(2), ("", 0), ("", 0)) for name, n in usual.items()}
            pairs |= {name: first[0] for name, (first, *_) in two.items()}
            unsure = any(first[1] == second[1] for first, second, *_ in two.values())
            if unsure or len({pairs[name] for name in two}) < len(two):
                case.refused.append("no bias goes with a class")
    for row in truth:
        if row["broken"]:
            continue
        kind = "unknown"
        if biases and row["bias"]:
            kind = "aligned" if row["bias"] == pairs[row["label"]] else "conflicting"
        split = row["split"] if with_split else "all"
        case.counts.setdefault(split, Counter())[row["label"], kind] += 1
    if with_split and len(case.counts) < 3:
        case.clean = False


def _write(draw, case, columns, rows, oddities):
    quoting = draw(st.sampled_from((csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC)))
    end = draw(st.sampled_from(("\n", "\r\n")))
    mark = ","
    if "separator" in oddities:
        mark = draw(st.sampled_from((";", "\t", "|")))
        case.refused.append("other separators than commas")
    header = [draw(st.sampled_from((c, c.upper(), f" {c}", c.title()))) for c in columns]
    if "no column" in oddities:
        header[columns.index("label")] = "class"
        case.refused.append("no column label")
    if "equal columns" in oddities:
        header.append("LABEL")
        case.refused.append("two columns label")
    if "no rows" in oddities:
        rows = []
        case.refused.append("no rows")
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=mark, quoting=quoting, lineterminator=end)
    writer.writerow(header)
    for i, row in enumerate(rows):
        fields = [row[column] for column in columns]
        if "equal columns" in oddities:
            fields.append("x")
        if "short row" in oddities and i == len(rows) // 2:
            fields.pop()
            case.refused.append("a row is too short")
        writer.writerow(fields)
        if i == 1:
            text.write(draw(st.sampled_from(("", end, "," * (len(fields) - 1) + end))))
    content = text.getvalue()
    if "open quote" in oddities and rows:
        lines = content.split(end)
        at = draw(st.integers(1, len(lines) - 2))
        before, after = lines[at].split(mark, 1) if mark in lines[at] else (lines[at], "")
        lines[at] = f'"{before.strip(chr(34))}{mark}{after}'
        content = end.join(lines)
        case.clean = False
    if draw(st.booleans()):
        content = content.removesuffix(end)
    encoding = draw(st.sampled_from(("utf-8", "utf-8-sig")))
    if "encoding" in oddities:
        encoding = draw(st.sampled_from(("utf-16", "utf-16-le", "latin-1", "cp1252", "utf-32")))
        if encoding.startswith("utf"):
            case.refused.append(encoding)
        elif not content.isascii():
            case.refused.append(encoding)
    case.root.write_bytes(content.encode(encoding, errors="replace"))
