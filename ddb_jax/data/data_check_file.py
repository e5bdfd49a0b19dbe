"""`data_check.csv`: a line for every image of a set, with what is known and suspicious of it."""

import csv
import io

from ddb_jax.data.image_check import all_images
from ddb_jax.data.source import Dataset

COLUMNS = (
    "split", "index", "path", "class", "width", "height", "mode", "transparent", "low", "high",
    "deviation", "sha256", "findings",
)  # fmt: skip


def data_check_csv(dataset: Dataset) -> str:
    """The table as text; its columns are COLUMNS, those of `ImageFacts` among them.

    `findings` holds the kinds of all findings about the image, divided by "; ". It has no lines
    where the facts of the images are not known.
    """
    kinds: dict[tuple[str, int], list[str]] = {}
    for finding in dataset.findings:
        for image in finding.images:
            kinds.setdefault((image.split, image.index), []).append(finding.kind)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for image in all_images(dataset):
        facts = image.facts
        writer.writerow(
            [
                image.split,
                image.index,
                image.path,
                dataset.class_names[image.label],
                facts.width,
                facts.height,
                facts.mode,
                int(facts.transparent),
                facts.low,
                facts.high,
                facts.deviation,
                facts.sha256,
                "; ".join(kinds.get((image.split, image.index), ())),
            ]
        )
    return text.getvalue()
