"""The benchmark command: what it prints and writes, and that it measures what it says."""

import contextlib
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest

from configs import digits
from ddb_jax.benchmark import training as training_program
from ddb_jax.benchmark.__main__ import PROGRAMS, choose_programs, main
from ddb_jax.benchmark.augmentation import augment_on_host
from ddb_jax.benchmark.bench import Bench, in_turns
from ddb_jax.benchmark.training import measure_training, waiting_share
from ddb_jax.data.datasets import load_dataset
from ddb_jax.training.mesh import make_mesh

BATCH_SIZE = 16
ARGUMENTS = [
    "--config=configs/digits.py:smoke",
    "--config.num_devices=1",
    "--config.classifier.image_size=8",
    "--config.classifier.network=mlp",
    f"--config.classifier.batch_size={BATCH_SIZE}",
    "--rounds=2",
    "--steps=2",
]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What was printed, the conditions and rows written, {program: {(case, unit): values}}."""
    path, printed = tmp_path_factory.mktemp("benchmark") / "b.json", io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main([*ARGUMENTS, f"--json={path}"]) == 0
    written = json.loads(path.read_text())
    rows = {
        name: {(row["case"], row["unit"]): row["values"] for row in table}
        for name, table in written["programs"].items()
    }
    return printed.getvalue(), written["conditions"], rows


def test_all_programs_are_printed_and_written(measured):
    printed, conditions, rows = measured
    lines = printed.splitlines()
    titles = [line for line in lines if line in PROGRAMS]
    assert titles == list(rows) == ["input_pipeline", "train_step", "training", "augmentation"]
    for table in rows.values():
        for (case, unit), values in table.items():
            assert len(values) == 2 and np.all(np.isfinite(values))
            assert any(line.strip().startswith(case) and line.endswith(unit) for line in lines)
            assert unit == "%" or min(values) > 0
    assert [case for case, _ in rows["input_pipeline"]] == [
        f"from {where}, {threads} threads"
        for where in ("memory", "records")
        for threads in (0, 1, 2, 4)
    ]
    assert conditions["images"] == "1,077 of digits, 8 px"
    assert conditions["arguments"][:-1] == ARGUMENTS


def test_the_figures_of_a_step_agree(measured):
    rows = measured[2]
    ready, rate = rows["train_step"].values()
    fed, blocked, percent = rows["training"].values()
    for i in range(2):
        assert ready[i] * rate[i] == pytest.approx(BATCH_SIZE)
        assert blocked[i] < fed[i]
        assert percent[i] == pytest.approx(100 * (fed[i] - ready[i]) / fed[i])


def test_waiting_share_by_hand():
    # A quarter of a second longer than a second; as long; half a second shorter.
    shares = waiting_share(ready=[1.0, 2.0, 3.0], fed=[1.25, 2.0, 2.5])
    assert shares == pytest.approx([0.2, 0.0, -0.2])


def test_waits_are_told_and_the_first_is_not_among_them(monkeypatch):
    config = digits.get_config("smoke")
    config.classifier.image_size = 8
    config.classifier.network = "mlp"
    now = 0.0

    def slow_batches(source, *, batch_size, **options):
        nonlocal now
        for seconds in (5.0, 0.25, 0.25, 1.0):
            now += seconds
            yield source.gather(np.arange(batch_size))

    # A clock that stands still but in the pipeline, so that the figures are exact.
    monkeypatch.setattr(training_program, "time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(training_program, "train_batches", slow_batches)
    source = load_dataset(config.data, 8).train
    bench = Bench(config.classifier, source, 10, make_mesh(1), rounds=2, steps=3)
    assert measure_training(bench) == ([0.0, 0.0], [0.5, 0.5], [0.5, 0.5])


def test_cases_take_turns():
    calls = []
    cases = {name: lambda name=name: calls.append(name) or len(calls) for name in "ab"}
    assert in_turns(cases, 3) == {"a": [1, 4, 5], "b": [2, 3, 6]}
    assert "".join(calls) == "abbaab"


def test_programs_are_chosen_by_name():
    assert choose_programs("training, input_pipeline") == ["input_pipeline", "training"]


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        (
            "--programs=training,trainstep",
            "error: --programs has 'trainstep', the nearest of input_pipeline, train_step,"
            " training, augmentation is 'train_step'.\n",
        ),
        ("--rounds=0", "error: --rounds=0 must be at least 1.\n"),
        ("--steps=-1", "error: --steps=-1 must be at least 1.\n"),
        ("--json=none/b.json", "error: --json=none/b.json: there is no folder none.\n"),
    ],
)
def test_bad_flags_are_refused(argument, sentence, capsys):
    assert main([*ARGUMENTS, argument]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err == sentence


def test_augment_on_host_normalizes():
    image = np.full((8, 8, 3), (255, 0, 51), np.uint8)
    x = augment_on_host(np.random.default_rng(0), image, 4, 0.1, "imagenet")
    assert x.shape == (4, 4, 3) and x.dtype == np.float32
    # torchvision's constants: (1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225
    np.testing.assert_allclose(x, np.broadcast_to((2.248908, -2.035714, -0.915556), x.shape), 1e-5)


def test_augment_on_host_crops_and_flips():
    ys, xs = np.mgrid[:64, :64].astype(np.uint8)
    ramps = np.stack([ys, xs, xs], -1)  # 1 a pixel
    flips, areas = [], []
    for seed in range(100):
        x = 255 * augment_on_host(np.random.default_rng(seed), ramps, 16, 0.25, "unit")
        # Between two inner pixels of the result lie sides / 16 of the image's.
        height, width = 16 * (x[12, 8, 0] - x[3, 8, 0]) / 9, 16 * (x[8, 12, 1] - x[8, 3, 1]) / 9
        assert height > 0
        flips.append(width < 0)
        areas.append(height * abs(width) / 64**2)
    assert 30 <= sum(flips) <= 70  # five deviations
    assert 0.2 < min(areas) < 0.35 and 0.9 < max(areas) < 1.05
    assert np.mean(areas) == pytest.approx(0.61, abs=0.08)  # of [0.25, 1], less what is cut off
