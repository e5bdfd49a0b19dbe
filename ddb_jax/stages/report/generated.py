"""The report's section on images generated against the bias: drawn, dropped, kept."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ddb_jax.data.images.records import open_records
from ddb_jax.debias.generated_images import GENERATED
from ddb_jax.debias.table import method_title
from ddb_jax.runtime.files import read_json, read_rows
from ddb_jax.stages.common.picture_names import legend
from ddb_jax.stages.common.sampled_set import MANIFEST
from ddb_jax.stages.common.scores_table import rank_in_class
from ddb_jax.stages.context import Context
from ddb_jax.stages.report import page
from ddb_jax.stages.report.findings import folders_of

ROWS = 8  # of the sheet of source, captions and images
IMAGES_PER_ROW = 6
DROPPED_CAPTIONS = 20
SIDE = 64  # pixels at which an image of that sheet is shown
FRAME = (204, 51, 68)  # of an image that was dropped

COUNTS = {
    "drawn": "drawn",
    "not_finite": "not finite",
    "copies": "copies",
    "expected": "as expected",
    "denied": "denied",
    "kept": "kept",
}

# By what retrieval says which images are near.
_FEATURES = {"pixels": "their pixels", "pretrained": "the features of a pretrained network"}


class Source(NamedTuple):
    """A training image, or a caption without one, and what was drawn from it.

    Attributes:
        label: The class.
        index: Position in the training split, -1 without an image.
        numbers: Numbers of the first few images drawn from it.
        captions: Caption of each of these.
    """

    label: int
    index: int
    numbers: list[int]
    captions: list[str]


def generated_section(context: Context) -> list[str]:
    """Counts of all seeds, pictures of the first; nothing where no image was generated."""
    checked = folders_of(context, "check_generated")
    if not checked:
        return []
    first = f"seed_{context.config.seeds[0]}/check_generated/"
    parts = [*_stand_in(context), *_counts(context, checked)]
    filters = folders_of(context, "filter_captions")
    for folder in list(filters.values())[:1]:
        parts += _text_filter(context, folder)
    for name, folder in checked.items():
        if not name.startswith(first):
            continue
        source = name.removeprefix(first)
        title = GENERATED[source].title
        if GENERATED[source].captions:
            drawn = context.inputs[f"seed_{context.config.seeds[0]}/draw/{source}"]
            parts += _captioned(context, title, drawn, folder)
        parts.append(page.side_by_side(_sheets(title, folder, context.dataset.class_names)))
    return parts


def _stand_in(context: Context) -> list[str]:
    """Where captions and the text-to-image model come from."""
    config = context.config
    if not folders_of(context, "draw"):
        return []
    text = ""
    trained = not config.text_to_image.folder and not config.train_text_to_image.start_from
    if trained and not config.captioned.csv:
        text = (
            "A small model, trained on captioned coloured digits that are in no split, stands in"
            " for the large pretrained text-to-image model of the paper (arXiv 2411.16079). It is"
            " a stand-in, and says nothing about photographs. "
        )
    text += {
        "retrieval": "An image's captions are those of the nearest images of the captioned"
        f" reference set, by {_FEATURES[config.captions.features]}.",
        "csv": f"The captions were read from {config.captions.csv}.",
        "hugging_face": f"The captions were written by {config.captions.model}.",
    }[config.captions.source]
    return [page.paragraph(text)]


def _counts(context: Context, checked: dict[str, Path]) -> list[str]:
    rows, classes = [], ""
    for name, folder in checked.items():
        seed, _, source = name.split("/")
        counts, title = read_json(folder / "gate.json"), GENERATED[source].title
        rows.append([title, seed.removeprefix("seed_"), *_cells(counts["all"])])
        if seed == f"seed_{context.config.seeds[0]}":
            of_class = [[label, *_cells(found)] for label, found in counts["classes"].items()]
            table = page.table(["class", *COUNTS.values()], of_class)
            classes += page.paragraph(f"{title}, seed {context.config.seeds[0]}:") + table
    gate = context.config.gate
    note = "Images that a classifier is trained on are those kept. The others were dropped, for the"
    note += " first reason that holds: not finite, where the generator overflowed;"
    if gate.copies:
        note += (
            f" copies, nearer to a training image than {gate.copy_ratio:g} times the mean distance"
            f" to the {gate.copy_neighbours} nearest (arXiv 2301.13188);"
        )
    if any(GENERATED[name.split("/")[-1]].steered_by for name in checked):
        note += " as expected, where the bias amplifier takes a steered image for its class;"
    if gate.labels:
        note += (
            " denied, where the biased classifier and that of"
            f" {method_title(gate.debiased_method)} both give another class than the image was"
            " drawn for;"
        )
    return [
        page.table(["generated by", "seed", *COUNTS.values()], rows),
        page.paragraph(f"{note[:-1]}."),
        page.details("Class by class", classes),
    ]


def _cells(counts: dict[str, int]) -> list[str]:
    return [f"{counts[key]:,}" for key in COUNTS]


def _text_filter(context: Context, folder: Path) -> list[str]:
    """What DiffuBias' text filter kept and dropped."""
    rows, words = read_rows(folder / "filter.csv"), read_rows(folder / "words.csv")
    names = context.dataset.class_names
    kept = np.array([row["kept"] == "1" for row in rows])
    labels = np.array([int(row["label"]) for row in rows])
    of_class = [
        [name, str(np.sum(kept & (labels == i))), str(np.sum(~kept & (labels == i)))]
        for i, name in enumerate(names)
    ]
    dropped = [row for row in rows if row["kept"] != "1"]
    examples = [
        [names[int(row["label"])], row["caption"], row["why"]] for row in dropped[:DROPPED_CAPTIONS]
    ]
    content = page.table(["frequent word", "times"], [[w["word"], w["count"]] for w in words])
    content += page.table(["class", "captions kept", "dropped"], of_class)
    if examples:
        shown = f"Dropped captions, {len(examples)} of {len(dropped):,}:"
        content += page.paragraph(shown) + page.table(["class", "caption", "why"], examples)
    text = (
        f"The text filter kept {int(kept.sum()):,} of {len(rows):,} captions, those with one of the"
        f" {len(words)} most frequent words."
    )
    return [page.paragraph(text), page.details("What the text filter did", content)]


def _captioned(context: Context, title: str, drawn: Path, checked: Path) -> list[str]:
    """The sheet of training images, their captions and what was drawn from these."""
    manifest = read_json(drawn / MANIFEST)
    paths = [drawn / name for name in manifest["shards"]]
    images = open_records(paths, tuple(manifest["image_shape"]))
    kept = {int(row["drawn"]) for row in read_rows(checked / "kept.csv")}
    dataset = context.dataset
    rows = []
    for source in _sources(read_rows(drawn / "prompts.csv")):
        found = images.gather(np.array(source.numbers))["image"]
        rows.append(
            [
                html.escape(dataset.class_names[source.label]),
                _strip(dataset.train.gather(np.array([source.index]))["image"], [True])
                if source.index >= 0
                else "",
                "<br>".join(map(html.escape, dict.fromkeys(source.captions))),
                _strip(found, [number in kept for number in source.numbers]),
            ]
        )
    note = (
        f"{title}: training images flagged as bias-conflicting, their captions, and"
        " images drawn from these. A red frame marks what was dropped."
    )
    header = ["class", "training image", "captions", "drawn from them"]
    return [page.paragraph(note), _html_table(header, rows)]


def _sources(prompts: Sequence[dict[str, str]]) -> list[Source]:
    """A few sources of images, the first of the classes in turn, by class."""
    sources: dict[tuple[str, str, str], Source] = {}
    for row in prompts:
        # Without an image every caption is a separate source.
        key = (row["label"], row["index"], row["caption"] if int(row["index"]) < 0 else "")
        new = Source(int(row["label"]), int(row["index"]), [], [])
        source = sources.setdefault(key, new)
        if len(source.numbers) < IMAGES_PER_ROW:
            source.numbers.append(int(row["number"]))
            source.captions.append(row["caption"])
    found = list(sources.values())
    labels = np.array([source.label for source in found])
    chosen = np.lexsort((labels, rank_in_class(labels)))[:ROWS]
    return [found[i] for i in sorted(chosen, key=lambda i: (labels[i], i))]


def _sheets(title: str, folder: Path, names: Sequence[str]) -> list[str]:
    captions = {
        "kept.png": "images that a classifier is trained on, by class.",
        "dropped.png": "images that were dropped, by class and reason.",
    }
    return [
        page.picture((folder / name).read_bytes(), f"{title}: {caption}{legend(names)}")
        for name, caption in captions.items()
        if (folder / name).is_file()
    ]


def _strip(images: np.ndarray, kept: Sequence[bool]) -> str:
    """Images side by side, uint8 [N, H, W, 3], as HTML; those not kept in a frame."""
    frame, gap = 3, 4
    strip = Image.new("RGB", (len(images) * (SIDE + gap) - gap, SIDE), "white")
    for i, (image, is_kept) in enumerate(zip(images, kept, strict=True)):
        small = max(image.shape) < SIDE
        how = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
        tile = Image.fromarray(image).resize((SIDE, SIDE), how)
        if not is_kept:
            inner = tile.crop((frame, frame, SIDE - frame, SIDE - frame))
            tile = Image.new("RGB", (SIDE, SIDE), FRAME)
            tile.paste(inner, (frame, frame))
        strip.paste(tile, (i * (SIDE + gap), 0))
    buffer = io.BytesIO()
    strip.save(buffer, format="png")
    data = base64.b64encode(buffer.getvalue()).decode()
    # In a table, a picture that may shrink does.
    return f'<img alt="" style="max-width: none" src="data:image/png;base64,{data}">'


def _html_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells are HTML."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
