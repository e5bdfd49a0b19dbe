"""Figures of the report, as PNG bytes; the project's one door to matplotlib."""

import io
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

matplotlib.use("Agg")

COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")


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


def curves(
    panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]],
    log_scale: Sequence[str] = (),
) -> bytes:
    """One panel for each figure, one line for each run: title -> {run: (steps, values)}."""
    figure = Figure(figsize=(4.4 * len(panels), 2.8), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, lines) in zip(axes, panels.items(), strict=True):
        for i, (name, (steps, values)) in enumerate(lines.items()):
            axis.plot(steps, values, label=name, color=COLOURS[i % len(COLOURS)], linewidth=1.2)
        axis.set(title=title, xlabel="step")
        if title in log_scale:
            axis.set_yscale("log")
        if len(lines) > 1:
            axis.legend(fontsize=7)
    return _png(figure)
