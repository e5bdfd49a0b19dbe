"""What is in a data set, counted: for the log, the report, and against the published counts."""

from typing import Any

import numpy as np

from ddb_jax.data.image_check import sizes_sentence
from ddb_jax.data.source import Dataset


def counts(dataset: Dataset) -> dict[str, dict[str, Any]]:
    """Images of each split: `total`, `per_class` by name, `aligned`, `conflicting`, `unknown`."""
    table = {}
    for split, source in dataset.splits.items():
        known = source.bias >= 0
        aligned = int(np.sum(source.bias == source.labels))
        table[split] = {
            "total": len(source),
            "per_class": {
                name: int(np.sum(source.labels == i)) for i, name in enumerate(dataset.class_names)
            },
            "aligned": aligned,
            "conflicting": int(np.sum(known)) - aligned,
            "unknown": int(np.sum(~known)),
        }
    return table


def overview(dataset: Dataset) -> tuple[list[str], list[str]]:
    """What a set is, before anything is trained: warnings, and then facts, one to a line."""
    warnings = [*dataset.warnings, *count_mismatches(dataset)]
    sizes = sizes_sentence(dataset)
    facts = [*dataset.notes, *describe(dataset), *([sizes] if sizes else []), counts_table(dataset)]
    return warnings, facts


def describe(dataset: Dataset) -> tuple[str, ...]:
    """One sentence per split: how many images, how they divide over classes and bias."""
    sentences = []
    for split, count in counts(dataset).items():
        sizes = count["per_class"].values()
        smallest, largest = f"{min(sizes):,}", f"{max(sizes):,}"
        per_class = smallest if smallest == largest else f"{smallest} to {largest}"
        text = f"{dataset.name} {split}: {count['total']:,} images, {per_class} in a class"
        if count["unknown"] < count["total"]:
            text += f", {count['aligned']:,} bias-aligned, {count['conflicting']:,} conflicting"
        if count["unknown"]:
            number = "all" if count["unknown"] == count["total"] else f"{count['unknown']:,}"
            text += f", {number} without a bias label"
        sentences.append(text + ".")
    return tuple(sentences)


def counts_table(dataset: Dataset, max_rows: int = 24) -> str:
    """Images of every class, or of every group of class and bias, in each split, as plain text.

    Rows are class x bias where the bias is known and they are no more than `max_rows`; otherwise
    classes, whose counts read "aligned + conflicting" where the bias is known.
    """
    biases = dataset.bias_names if dataset.bias_known else ()
    if len(dataset.class_names) * len(biases) > max_rows:
        biases = ()
    rows = [["", *dataset.splits]]
    for label, class_name in enumerate(dataset.class_names):
        for value, bias_name in enumerate(biases):
            cells = [
                f"{np.sum((source.labels == label) & (source.bias == value)):,}"
                for source in dataset.splits.values()
            ]
            rows.append([f"{class_name} / {bias_name}", *cells])
        if not biases:
            cells = []
            for source in dataset.splits.values():
                own = source.bias[source.labels == label]
                aligned = int(np.sum(own == label))
                known = dataset.bias_known
                cells.append(f"{aligned:,} + {len(own) - aligned:,}" if known else f"{len(own):,}")
            rows.append([class_name, *cells])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  " + "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
        for row in rows
    )


def count_mismatches(dataset: Dataset) -> tuple[str, ...]:
    """One sentence for every count that differs from the published one; it shows both.

    A published count is of "total", "aligned", "conflicting" or of a class, by its name.
    """
    table = counts(dataset)
    sentences = []
    for splits, published in dataset.published_counts.items():
        for what, expected in published.items():
            found = sum(
                table[split]["per_class"].get(what, table[split].get(what, 0))
                for split in splits.split("+")
            )
            if found != expected:
                sentences.append(
                    f"{dataset.name} {splits}: {what} is {found:,}, the published set has"
                    f" {expected:,}."
                )
    return tuple(sentences)
