"""Lines of progress, with a clock that the test turns."""

import pytest

from ddb_jax.runtime import progress


@pytest.fixture
def clock(monkeypatch):
    """Seconds; the lines read them."""
    seconds = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: seconds[0])
    return seconds


def test_a_line_says_so_before_a_rate_is_known(clock, capsys):
    shown = progress.Progress("train", 100)
    clock[0] += 31
    shown.update(0)
    clock[0] += 31
    shown.update(1, {"loss": 0.5})
    assert capsys.readouterr().out.splitlines() == [
        "train  0/100  rate not known yet",
        "train  1/100  rate not known yet  loss 0.5",
    ]


def test_the_rate_leaves_out_the_first_step_and_what_an_earlier_run_did(clock, capsys):
    shown = progress.Progress("train", 1000, start=500, unit="images")
    clock[0] += 20
    shown.update(510)  # compilation; too early for a line
    clock[0] += 40
    shown.update(590, {"loss": 0.25})
    # 80 images in 40 seconds; 410 are left.
    assert capsys.readouterr().out == "train  590/1000  2.0 images/s  3m25s left  loss 0.25\n"


def test_a_slow_rate_is_never_shown_as_nothing(clock, capsys):
    shown = progress.Progress("train", 12)
    shown.update(1)
    clock[0] += 40
    shown.update(2)
    assert capsys.readouterr().out == "train  2/12  0.025 steps/s  6m40s left\n"
