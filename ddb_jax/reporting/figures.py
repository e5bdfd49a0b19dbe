"""Figures of the report, as PNG bytes; the project's one door to matplotlib."""

import io
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

matplotlib.use("Agg")

COLOURS = (
    "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#999999", "#000000",
)  # fmt: skip

# Of each run its steps and values.
Lines = Mapping[str, tuple[Sequence[float], Sequence[float]]]


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    return buffer.getvalue()


def loss_histograms(
    panels: Mapping[str, Mapping[str, np.ndarray]],
    thresholds: Mapping[str, float | None],
    xlabel: str,
) -> bytes:
    """One panel for each amplifier: histograms of its losses by kind of image.

    Args:
        panels: Title -> {kind of image: losses [N], not negative}.
        thresholds: Title -> loss at which the pseudo-group rule cuts, None for no line.
        xlabel: What the losses are.
    """
    figure = Figure(figsize=(5.0 * len(panels), 3.0), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharex=True)[0]
    losses = np.concatenate([values for panel in panels.values() for values in panel.values()])
    # Losses span decades, and an exact 0 must stand somewhere.
    floor = max(1e-6, float(np.min(losses)))
    bins = np.geomspace(floor, max(1.0, 1.01 * float(np.max(losses))), 40)
    for axis, (title, panel) in zip(axes, panels.items(), strict=True):
        for colour, (kind, values) in zip(COLOURS, panel.items(), strict=False):
            clipped = np.clip(values, floor, None)
            axis.hist(clipped, bins, alpha=0.6, color=colour, label=f"{kind} ({len(values)})")
        if thresholds.get(title):
            axis.axvline(thresholds[title], color="black", linestyle="--", label="threshold")
        axis.set(xscale="log", yscale="log", title=title, xlabel=xlabel, ylabel="images")
        axis.legend(fontsize=8)
    return _png(figure)


def curves(panels: Mapping[str, Lines], log_scale: Sequence[str] = ()) -> bytes:
    """Two panels a row, with one line for each run.

    Where there are more runs than colours, they are shared out among panels of one scale.

    Args:
        panels: Title -> {run: (steps, values)}, none empty.
        log_scale: Titles whose values are drawn on a logarithmic axis, if all are positive.
    """
    parts = [(title, *part) for title, lines in panels.items() for part in _shared_out(lines)]
    num_rows = -(-len(parts) // 2)
    figure = Figure(figsize=(10.8, 2.6 * num_rows), layout="constrained")
    axes = figure.subplots(num_rows, 2, squeeze=False).flat
    for axis, (title, number, lines) in zip(axes, parts, strict=False):
        for colour, (name, (steps, values)) in zip(COLOURS, lines.items(), strict=False):
            axis.plot(steps, values, label=name, color=colour, linewidth=1.2)
        values = np.concatenate([values for _, values in panels[title].values()])
        if title in log_scale and np.min(values) > 0:
            axis.set_yscale("log")
            _number_ticks(axis.yaxis, np.max(values) / np.min(values))
        axis.update_datalim([(steps[0], np.min(values)), (steps[0], np.max(values))])
        axis.autoscale_view()
        axis.set(title=title + number, xlabel="step")
        if len(lines) > 1:
            axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    for axis in axes[len(parts) :]:
        axis.set_axis_off()
    return _png(figure)


def _number_ticks(axis: Axis, ratio: float) -> None:
    """Plain numbers on a logarithmic axis that spans this ratio, a handful of them."""
    number = StrMethodFormatter("{x:g}")
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if ratio < 100 else (1.0,)))
    axis.set_major_formatter(number)
    axis.set_minor_formatter(number if ratio < 4 else NullFormatter())


def _shared_out(lines: Lines) -> list[tuple[str, Lines]]:
    """The lines in as few parts as the colours allow, each with its number for the title."""
    count = -(-len(lines) // len(COLOURS))
    names = np.array_split(list(lines), count)
    return [
        (f", {i} of {count}" if count > 1 else "", {name: lines[name] for name in part.tolist()})
        for i, part in enumerate(names, start=1)
    ]
