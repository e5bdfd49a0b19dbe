"""The report on the images themselves: what the files are, and what is suspicious about them."""

import io
from collections.abc import Sequence

import numpy as np

from ddb_jax.data.counts import counts_table
from ddb_jax.data.image_check import sizes_sentence
from ddb_jax.data.images.facts import Finding, Image, number_of
from ddb_jax.stages.common.contact_sheet import grid_image
from ddb_jax.stages.context import Context
from ddb_jax.stages.report import page

EXAMPLES = 10  # images of a finding that are shown


def images_section(context: Context) -> list[str]:
    """Counts, sizes, and every finding with examples; nothing where the images are not files."""
    dataset = context.dataset
    if not dataset.images:
        return []
    parts = [page.paragraph(sizes_sentence(dataset)), page.code(counts_table(dataset))]
    if dataset.broken:
        rows = [[path, reason] for path, reason in list(dataset.broken.items())[:EXAMPLES]]
        parts.append(page.paragraph(f"{number_of(dataset.broken)} cannot be used and left out:"))
        parts.append(page.table(["file", "reason"], rows))
    for finding in dataset.findings:
        parts += _finding(context, finding)
    if not dataset.findings:
        parts.append(page.paragraph("Nothing about the files is suspicious."))
    parts.append(page.paragraph("data_check.csv, beside this page, has a line for every image."))
    return parts


def _finding(context: Context, finding: Finding) -> list[str]:
    text = f"{finding.kind[0].upper()}{finding.kind[1:]}. {finding.sentence}"
    parts = [page.paragraph(text)]
    if finding.images:
        shown = finding.images[:EXAMPLES]
        sheet = grid_image([_pixels(context, shown)], [""])
        buffer = io.BytesIO()
        sheet.save(buffer, format="png")
        names = [context.dataset.class_names[image.label] for image in shown]
        rows = [
            [str(i), image.path, image.split, name]
            for i, (image, name) in enumerate(zip(shown, names, strict=True), 1)
        ]
        few = len(shown) < len(finding.images)
        caption = f"{len(shown)} of {number_of(finding.images)}." if few else ""
        parts.append(page.picture(buffer.getvalue(), caption))
        files = page.table(["", "file", "split", "class"], rows)
        parts.append(page.details("The files", files))
    return parts


def _pixels(context: Context, images: Sequence[Image]) -> np.ndarray:
    splits = context.dataset.splits
    return np.stack([splits[image.split][image.index]["image"] for image in images])
