"""The results: tidy rows for `results.csv`, and the table that people read."""

import csv
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

RESULT_COLUMNS = (
    "dataset", "method", "seed", "selection", "metric", "value", "low", "high", "tries",
)  # fmt: skip
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

# Of small groups: the table prints the interval of a single seed.
INTERVALS = ("worst_group_accuracy", "conflicting_accuracy")

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
    "bias_auroc": "How well a loss, weight or vote ranks truly conflicting training images above"
    " aligned ones: the chance that a random pair is in the right order.",
    "bias_average_precision": "Average precision of the same ranking; a random one reaches the"
    " prevalence.",
    "bias_prevalence": "Share of the training images that truly conflict.",
    "bias_precision": "Share of the images flagged as conflicting that truly are.",
    "bias_recall": "Share of the truly conflicting images that are flagged.",
    "aligned_share": "Share of the synthetic images that show their class's bias attribute, read"
    " by a probe that was trained with bias labels for this measurement alone.",
}


class ResultRow(NamedTuple):
    """One figure of one run, in the order of RESULT_COLUMNS.

    low and high are the ends of its 95% bootstrap interval, None where there is none; tries is how
    many settings of the method were tried.
    """

    dataset: str
    method: str
    seed: int
    selection: str
    metric: str
    value: float
    low: float | None = None
    high: float | None = None
    tries: int = 1


class AggregatedMetric(NamedTuple):
    """A metric of a method: mean, deviation (n - 1) over seeds, interval of a single one."""

    mean: float
    deviation: float | None = None
    interval: tuple[float, float] | None = None


def results_csv(rows: Sequence[ResultRow]) -> str:
    """The text of `results.csv`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(RESULT_COLUMNS)
    for row in rows:
        figures = (row.value, row.low, row.high)
        cells = ("" if figure is None else f"{figure:.6g}" for figure in figures)
        writer.writerow([*row[:5], *cells, row.tries])
    return text.getvalue()


def glossary(rows: Sequence[ResultRow]) -> list[tuple[str, str]]:
    """Name and meaning of every metric that occurs in the rows, in the order of GLOSSARY.

    An entry that begins with "_" describes every metric with that ending that has no own entry.
    """
    found = dict.fromkeys(row.metric for row in rows)
    return [
        (metric, meaning)
        for name, meaning in GLOSSARY.items()
        for metric in found
        if metric == name or (name[0] == "_" and metric.endswith(name) and metric not in GLOSSARY)
    ]


def table_metrics(rows: Sequence[ResultRow]) -> tuple[str, ...]:
    """The metrics of the table, in its order: TABLE_METRICS that occur in the rows, then gaps."""
    found = dict.fromkeys(row.metric for row in rows)
    gaps = (metric for metric in found if metric.endswith("_gap"))
    return (*(metric for metric in TABLE_METRICS if metric in found), *gaps)


def summary(rows: Sequence[ResultRow], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Mean and standard deviation (n - 1) over the seeds, one entry a method, in order of rows.

    Returns:
        [{"method", "selection", "seeds": count, "tries", metric: AggregatedMetric}]; a metric that
        no seed has is left out.
    """
    entries = []
    for method in dict.fromkeys(row.method for row in rows if row.metric in metrics):
        own = [row for row in rows if row.method == method]
        entry = {
            "method": method,
            "selection": own[0].selection,
            "seeds": len({row.seed for row in own}),
            "tries": own[0].tries,
        }
        for metric in metrics:
            rows_of = [row for row in own if row.metric == metric]
            if rows_of:
                values = [row.value for row in rows_of]
                deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
                interval = rows_of[0][6:8] if len(values) == 1 and metric in INTERVALS else None
                if interval == (None, None):
                    interval = None
                entry[metric] = AggregatedMetric(float(np.mean(values)), deviation, interval)
        entries.append(entry)
    return entries


def percent(figure: AggregatedMetric | None) -> str:
    """A share in percent: "61.2 +- 1.3" over seeds, "61.2 [58.0, 64.1]" of one with an interval."""
    if figure is None:
        return "-"
    text = f"{100 * figure.mean:.1f}"
    if figure.deviation is not None:
        return f"{text} +- {100 * figure.deviation:.1f}"
    if figure.interval is not None:
        return f"{text} [{100 * figure.interval[0]:.1f}, {100 * figure.interval[1]:.1f}]"
    return text


def text_table(entries: Sequence[dict[str, Any]], metrics: Sequence[str]) -> str:
    """The summary as aligned plain text, in percent."""
    header = [
        "method",
        *(m.removesuffix("_accuracy") for m in metrics),
        "selection",
        "tries",
        "seeds",
    ]
    lines = [header] + [
        [
            entry["method"],
            *(percent(entry.get(metric)) for metric in metrics),
            entry["selection"],
            str(entry["tries"]),
            str(entry["seeds"]),
        ]
        for entry in entries
    ]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
