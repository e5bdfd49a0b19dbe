"""The benchmark's figures as a table for people."""

import statistics
from collections.abc import Iterable, Mapping, Sequence

from ddb_jax.benchmark import machine
from ddb_jax.benchmark.bench import BenchmarkRow

WIDTH = 58


def heading() -> str:
    """The columns' names."""
    return f"\n{'':{WIDTH}}{'median':>10}{'quartiles':>20}"


def lines(rows: Iterable[BenchmarkRow]) -> list[str]:
    """One line a row, below the name of what the rows are of."""
    found, of = [], ""
    for row in rows:
        if row.of != of:
            of = row.of
            found.append(f"  {of}")
        found.append(line(row))
    return found


def line(row: BenchmarkRow) -> str:
    """Median and quartiles; a figure of one value has no quartiles."""
    indent = "    " if row.of else "  "
    low, middle, high = quartiles(row.values)
    figures = f"{figure(middle):>10}"
    figures += f"{figure(low):>10}{figure(high):>10}" if len(row.values) > 1 else " " * 20
    return f"{indent + row.case:{WIDTH}}{figures}  {row.unit}{' *' if row.busy else ''}"


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile, between values where they fall between."""
    if len(values) == 1:
        return (values[0],) * 3
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def figure(x: float) -> str:
    """Three digits, or all before the point."""
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"


def footnotes(tables: Mapping[str, Sequence[BenchmarkRow]], others: float | None) -> str:
    """What other processes did meanwhile."""
    found = []
    if any(row.busy for rows in tables.values() for row in rows):
        found.append(
            f"* others used more than {machine.BUSY:.0%} of the cores in the median round:"
            " measure again when the machine is quiet."
        )
    if others is not None:
        found.append(f"meanwhile other processes used {others} of {len(machine.cores())} cores.")
    return "\n" + "\n".join(found)
