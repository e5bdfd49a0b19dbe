"""Stage: DiffuBias' text filter, which drops captions without any of the most frequent words.

Writes `captions.csv` with those that are kept, `filter.csv` with what became of each and why, and
`words.csv` with the words and how often each occurs.
"""

import logging
from typing import Any

import numpy as np

from ddb_jax.stages.context import Context
from ddb_jax.stages.generated.captions_table import (
    CaptionTable,
    check_classes,
    read_caption_table,
    write_captions,
    write_rows,
)
from ddb_jax.text_to_image.text_filter import TABLE_COLUMNS, filter_captions

log = logging.getLogger("ddb_jax")


def run(context: Context) -> dict[str, Any]:
    """Filter by the `text_filter` section."""
    settings, table = context.config.text_filter, read_caption_table(context.inputs["caption"])
    found = filter_captions(
        table.captions,
        table.labels,
        context.num_classes,
        words_per_class=settings.words_per_class,
        whole_words=settings.whole_words,
    )
    write_rows(context.folder / "filter.csv", TABLE_COLUMNS, found.table)
    write_rows(context.folder / "words.csv", ("word", "count"), found.words)
    rows = np.flatnonzero(found.kept)
    kept = CaptionTable(
        table.labels[rows], table.indices[rows], tuple(table.captions[row] for row in rows)
    )
    words = ", ".join(word for word, _ in found.words)
    log.info(
        "%s: %s of %s captions have one of the words %s",
        context.name, f"{len(rows):,}", f"{len(table.captions):,}", words or "(there is none)",
    )  # fmt: skip
    check_classes(
        context,
        kept.labels,
        f"has one of the {len(found.words)} most frequent words ({words})",
        "raise config.text_filter.words_per_class",
    )
    write_captions(context.folder, kept)
    return {
        "captions": len(table.captions),
        "kept": len(rows),
        "words": [word for word, _ in found.words],
    }
