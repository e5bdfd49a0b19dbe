"""The results table and its glossary on rows made by hand."""

import re

from ddb_jax.stages.report.results import (
    ResultRow,
    glossary,
    percent,
    results_csv,
    summary,
    table_metrics,
    text_table,
)


def row(method, seed, metric, value):
    return ResultRow("cars", method, seed, "last", metric, value)


ROWS = [
    row("erm", 0, "average_accuracy", 0.5),
    row("erm", 1, "average_accuracy", 0.7),
    row("erm", 0, "background_gap", 0.25),
    row("erm", 0, "background_conflicting_accuracy", 0.25),
    row("erm", 0, "cross_entropy", 1.5),
    row("ddb_i", 0, "average_accuracy", 0.8),
]


def test_only_metrics_that_occur_are_in_the_table():
    assert table_metrics(ROWS) == ("average_accuracy", "background_gap")
    entries = summary(ROWS, table_metrics(ROWS))
    # Mean of 0.5 and 0.7, and their deviation with n - 1: sqrt(2 * 0.1 ** 2) = 0.1414.
    assert percent(entries[0]["average_accuracy"]) == "60.0 +- 14.1"
    assert percent(entries[1].get("background_gap")) == "-"
    lines = [
        re.split(r"  +", line) for line in text_table(entries, table_metrics(ROWS)).splitlines()
    ]
    assert lines == [
        ["method", "average", "background_gap", "selection", "tries", "seeds"],
        ["erm", "60.0 +- 14.1", "25.0", "last", "1", "2"],
        ["ddb_i", "80.0", "-", "last", "1", "1"],
    ]


def test_glossary_knows_the_metrics_of_named_attributes():
    meanings = dict(glossary([*ROWS, row("erm", 0, "conflicting_accuracy", 0.1)]))
    assert list(meanings) == [
        "average_accuracy",
        "conflicting_accuracy",
        "background_conflicting_accuracy",
        "background_gap",
        "cross_entropy",
    ]
    assert meanings["conflicting_accuracy"] != meanings["background_conflicting_accuracy"]


def test_csv_is_tidy():
    assert results_csv(ROWS[:1]) == (
        "dataset,method,seed,selection,metric,value,low,high,tries\n"
        "cars,erm,0,last,average_accuracy,0.5,,,1\n"
    )
