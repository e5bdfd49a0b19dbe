"""Figures of the report, as PNG bytes; the project's one door to matplotlib's plots.

Names are to be drawable, see `picture_names`.
"""

import io
import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
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
    # Losses span decades, and an exact 0 needs a place, too.
    floor = max(1e-6, float(np.min(losses)))
    bins = np.geomspace(floor, max(1.0, 1.01 * float(np.max(losses))), 40)
    for axis, (title, panel) in zip(axes, panels.items(), strict=True):
        for colour, (kind, values) in zip(COLOURS, panel.items(), strict=False):
            clipped = np.clip(values, floor, None)
            axis.hist(clipped, bins, alpha=0.6, color=colour, label=f"{kind} ({len(values)})")
        if thresholds.get(title):
            axis.axvline(thresholds[title], color="black", linestyle="--", label="threshold")
        axis.set(xscale="log", yscale="log", title=title, xlabel=xlabel, ylabel="images")
        _number_ticks(axis.xaxis, bins[-1] / bins[0])
        _number_ticks(axis.yaxis, max(axis.get_ylim()) / min(axis.get_ylim()))
        axis.legend(fontsize=8)
    return _png(figure)


def curves(panels: Mapping[str, Lines], log_scale: Sequence[str] = ()) -> bytes:
    """Two panels a row, with one line for each run.

    If there are more runs than colours, they are spread over several panels of one scale.

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


def saliency_maps(
    images: np.ndarray,
    titles: Sequence[str],
    rows: Mapping[str, tuple[np.ndarray, Sequence[str]]],
) -> bytes:
    """Images side by side, and below each what several models look at, bright on the grey image.

    Args:
        images: float [B, H, W, 3] in 0..1.
        titles: Above each image.
        rows: Title -> (maps [B, h, w] in 0..1, words above each).
    """
    count, num_rows = len(images), 1 + len(rows)
    figure = Figure(figsize=(0.6 + 1.3 * count, 1.55 * num_rows), layout="constrained")
    axes = figure.subplots(num_rows, count, squeeze=False)
    height, width = images.shape[1:3]
    whole = (-0.5, width - 0.5, height - 0.5, -0.5)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    for axis, image, title in zip(axes[0], images, titles, strict=True):
        axis.imshow(image)
        _plain_title(axis, title)
    grey = images.mean(-1)
    for line, (maps, words) in zip(axes[1:], rows.values(), strict=True):
        for axis, image, heat, word in zip(line, grey, maps, words, strict=True):
            axis.imshow(image, cmap="gray", vmin=0.0, vmax=1.0)
            axis.imshow(
                heat, cmap="inferno", vmin=0.0, vmax=1.0, alpha=0.6, extent=whole,
                interpolation="bilinear",
            )  # fmt: skip
            _plain_title(axis, word)
    for line, name in zip(axes, ("test image", *rows), strict=True):
        line[0].set_ylabel(textwrap.fill(name, 18), fontsize=9, parse_math=False)
    return _png(figure)


def scatter_grid(
    columns: Mapping[str, np.ndarray],
    rows: Mapping[str, tuple[np.ndarray, Sequence[str]]],
) -> bytes:
    """Points of several models side by side, each row coloured by another attribute.

    Args:
        columns: Title -> points [N, 2].
        rows: What the colours are -> (value int [N], -1 for one that is not known and not drawn;
            names of the values).
    """
    figure = Figure(figsize=(4.6 * len(columns) + 1.6, 3.9 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for line, (attribute, (values, names)) in zip(axes, rows.items(), strict=True):
        many = len(names) > 20
        colours = matplotlib.colormaps[
            "turbo" if many else "tab10" if len(names) <= 10 else "tab20"
        ]
        for axis, (title, points) in zip(line, columns.items(), strict=True):
            for value, name in enumerate(names):
                colour = colours(value / (len(names) - 1)) if many else colours(value)
                own = points[values == value]
                axis.scatter(*own.T, s=9, color=colour, linewidths=0, alpha=0.8, label=name)
            axis.set(xticks=[], yticks=[])
            _plain_title(axis, f"{title}: {attribute}")
        if not many:
            legend = line[-1].legend(
                fontsize=8,
                loc="upper left",
                bbox_to_anchor=(1.0, 1.0),
                frameon=False,
                markerscale=2,
            )
            for text in legend.get_texts():
                text.set_parse_math(False)
    return _png(figure)


def _plain_title(axis: Axes, text: str) -> None:
    """A small title in which "$" is printed as it is."""
    axis.set_title(text, fontsize=9, parse_math=False)
