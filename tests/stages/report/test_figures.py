"""Figures of many runs stay legible: warnings, such as of a layout that fails, are errors here."""

import io

import numpy as np
from PIL import Image

from ddb_jax.stages.report import figures

STEPS = [10, 20, 30]


def size(png):
    return Image.open(io.BytesIO(png)).size


def test_many_runs_are_shared_out_among_panels():
    lines = {f"method_{i}": (STEPS, [0.1 * i, 0.5, 0.4]) for i in range(31)}
    parts = figures._shared_out(lines)
    assert [len(part) for _, part in parts] == [8, 8, 8, 7]  # of at most eight colours
    assert [name for _, part in parts for name in part] == list(lines)
    assert parts[1][0] == ", 2 of 4" and figures._shared_out({"erm": lines["method_0"]})[0][0] == ""
    one = size(figures.curves({"loss": {"erm": (STEPS, [3.0, 2.0, 1.0])}, "accuracy": lines}))
    few = size(figures.curves({"loss": {"erm": (STEPS, [3.0, 2.0, 1.0])}}))
    # Five panels in rows of two are three rows, and one panel is one.
    assert 2.7 < one[1] / few[1] < 3.3


def test_losses_below_zero_do_not_stop_a_logarithmic_panel():
    lines = {"rebias": (STEPS, [1.0, 0.0, -1.0]), "erm": (STEPS, [2.0, 1.0, 0.5])}
    picture = np.asarray(Image.open(io.BytesIO(figures.curves({"loss": lines}, ("loss",)))))
    assert len(np.unique(picture.reshape(-1, picture.shape[-1]), axis=0)) > 10
