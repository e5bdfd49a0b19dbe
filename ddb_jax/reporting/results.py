"""The results: tidy rows for `results.csv`, and the table that people read."""

import csv
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

RESULT_COLUMNS = ("dataset", "method", "seed", "selection", "metric", "value")
# What the table shows, of those that the data set has; and every gap.
TABLE_METRICS = (
    "average_accuracy",
    "train_weighted_accuracy",
    "unbiased_accuracy",
    "worst_class_accuracy",
    "worst_group_accuracy",
    "aligned_accuracy",
    "conflicting_accuracy",
)

GLOSSARY = {
    "average_accuracy": "Share of the test images that are classified correctly.",
    "unbiased_accuracy": "Mean of the accuracies of the test groups, each counting the same.",
    "worst_group_accuracy": "The lowest accuracy of any test group (not the smallest group's).",
    "worst_class_accuracy": "The lowest accuracy of any class.",
    "aligned_accuracy": "Accuracy on the test images whose bias attribute agrees with the class.",
    "conflicting_accuracy": "Accuracy on the test images whose bias attribute does not agree.",
    "train_weighted_accuracy": "Accuracy of the test groups of class and bias, weighted by their"
    " shares of the training images: the accuracy on a test set as biased as the training set.",
    "_conflicting_accuracy": "Of a named attribute: accuracy on the test images where it, and no"
    " other, does not agree with the class.",
    "_gap": "The train-weighted accuracy minus that: what is lost where the attribute conflicts.",
    "cross_entropy": "Mean cross-entropy on the test images, in nats.",
    "bias_auroc": "How well the amplifier's loss ranks truly conflicting training images above"
    " aligned ones: the chance that a random pair is in the right order.",
    "bias_average_precision": "Average precision of the same ranking; a random one reaches the"
    " prevalence.",
    "bias_prevalence": "Share of the training images that truly conflict.",
    "bias_precision": "Share of the images flagged as conflicting that truly are.",
    "bias_recall": "Share of the truly conflicting images that are flagged.",
    "aligned_share": "Share of the synthetic images that show their class's bias attribute, read"
    " by a probe that was trained with bias labels for this measurement alone.",
}


class Row(NamedTuple):
    """One figure of one run, in the order of RESULT_COLUMNS."""

    dataset: str
    method: str
    seed: int
    selection: str
    metric: str
    value: float


def results_csv(rows: Sequence[Row]) -> str:
    """The text of `results.csv`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(RESULT_COLUMNS)
    writer.writerows(row._replace(value=f"{row.value:.6g}") for row in rows)
    return text.getvalue()


def glossary(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Name and meaning of every metric that occurs in the rows, in the order of GLOSSARY.

    An entry that begins with "_" is of every metric that ends so and has no entry of its own.
    """
    found = dict.fromkeys(row.metric for row in rows)
    return [
        (metric, meaning)
        for name, meaning in GLOSSARY.items()
        for metric in found
        if metric == name or (name[0] == "_" and metric.endswith(name) and metric not in GLOSSARY)
    ]


def table_metrics(rows: Sequence[Row]) -> tuple[str, ...]:
    """The metrics of the table, in its order: TABLE_METRICS that occur in the rows, then gaps."""
    found = dict.fromkeys(row.metric for row in rows)
    gaps = (metric for metric in found if metric.endswith("_gap"))
    return (*(metric for metric in TABLE_METRICS if metric in found), *gaps)


def summary(rows: Sequence[Row], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Mean and standard deviation (n - 1) over the seeds, one entry a method, in order of rows.

    Returns:
        [{"method", "selection", "seeds": count, metric: (mean, std or None)}]; a metric that no
        seed has is left out.
    """
    entries = []
    for method in dict.fromkeys(row.method for row in rows if row.metric in metrics):
        own = [row for row in rows if row.method == method]
        entry = {
            "method": method,
            "selection": own[0].selection,
            "seeds": len({row.seed for row in own}),
        }
        for metric in metrics:
            values = [row.value for row in own if row.metric == metric]
            if values:
                deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
                entry[metric] = (float(np.mean(values)), deviation)
        entries.append(entry)
    return entries


def percent(value: tuple[float, float | None] | None) -> str:
    """A mean and deviation of shares as "61.2 +- 1.3" in percent."""
    if value is None:
        return "-"
    mean, deviation = value
    return f"{100 * mean:.1f}" + ("" if deviation is None else f" +- {100 * deviation:.1f}")


def text_table(entries: Sequence[dict[str, Any]], metrics: Sequence[str]) -> str:
    """The summary as aligned plain text, in percent."""
    header = ["method", *(m.removesuffix("_accuracy") for m in metrics), "selection", "seeds"]
    lines = [header] + [
        [
            entry["method"],
            *(percent(entry.get(metric)) for metric in metrics),
            entry["selection"],
            str(entry["seeds"]),
        ]
        for entry in entries
    ]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
