"""The figures of the benchmark, worked out by hand."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddb_jax.benchmark import compiled, machine, measure, table
from ddb_jax.benchmark import training as training_program
from ddb_jax.benchmark.augmentation import augment_on_host
from ddb_jax.benchmark.bench import Bench, BenchmarkRow, Turns, in_turns
from ddb_jax.benchmark.training import measure_training, waiting_share
from ddb_jax.benchmark.training_run import shares
from ddb_jax.configs import digits
from ddb_jax.data.datasets import load_dataset
from ddb_jax.training.mesh import make_mesh


def test_compiler_counts_operations_and_memory_as_by_hand():
    a, b = jnp.ones((64, 32)), jnp.ones((32, 16))
    before = jax.config.jax_compilation_cache_dir
    product = compiled.compile_twice(jax.jit(lambda a, b: a @ b), (a, b))
    assert jax.config.jax_compilation_cache_dir == before
    assert product.flops == 2 * 64 * 32 * 16
    assert product.memory >= 4 * (64 * 32 + 32 * 16 + 64 * 16)
    assert product.cold > 0 and product.cached > 0
    np.testing.assert_array_equal(product.call(a, b), 32)

    x, kernel = jnp.ones((2, 8, 8, 5)), jnp.ones((3, 3, 5, 7))

    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    found = jax.jit(convolve).lower(x, kernel).compile()
    assert compiled.count(found)[0] == 2 * (2 * 6 * 6 * 7) * (3 * 3 * 5)
    donated = jax.jit(lambda a: a + 1, donate_argnums=0).lower(jnp.ones(1024)).compile()
    assert compiled.memory(donated) == 4 * 1024


def test_what_is_compiled_lies_in_the_cache_for_the_second_time():
    hits, argument = [], jnp.ones(3)
    jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
    compiled.compile_twice(jax.jit(lambda a: a * 3 + 1), (argument,))
    assert hits.count("/jax/compilation_cache/cache_hits") == 1
    assert hits.count("/jax/compilation_cache/cache_misses") == 1


def test_ratios_are_of_each_round():
    turns = Turns(
        {"ours": [1.0, 3.0], "eager": [2.0, 2.0]},
        {"ours": [4.0, 6.0], "eager": [4.0, 4.0]},
        [0.0, 0.2],
    )
    step, by_clock, by_processor = measure.comparison("net", "eager", turns)
    assert step.values == [2.0, 2.0]
    assert by_clock.values == [0.5, 1.5] and by_clock.unit == "ratio"
    assert by_processor.values == [1.0, 1.5]
    assert by_clock.of == "net" and by_clock.busy  # a tenth in the median round


def test_quartiles_and_marks_by_hand():
    assert table.quartiles([5.0, 1.0, 4.0, 2.0, 3.0]) == (2.0, 3.0, 4.0)
    assert table.quartiles([1.0, 2.0]) == (1.25, 1.5, 1.75)
    quiet = BenchmarkRow("step", "s", [1.0, 2.0, 4.0], "net", [0.01, 0.3, 0.02])
    busy = quiet._replace(foreign=[0.06, 0.3, 0.02])
    head, first, second = table.lines([quiet, busy])
    assert head == "  net"
    assert first.split() == ["step", "2", "1.5", "3", "s"]
    assert second.split() == ["step", "2", "1.5", "3", "s", "*"]
    assert "more than 5%" in table.footnotes({"p": [busy]}, None)
    assert table.footnotes({"p": [quiet]}, None).strip() == ""


def test_share_of_other_processes_by_hand(monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: [0, 1])
    before = machine.Reading(wall=10.0, own=1.0, everyone=100.0)
    # Ten seconds of two cores: 15 were used, 5 of them by this process.
    after = machine.Reading(wall=20.0, own=6.0, everyone=115.0)
    assert machine.foreign_share(before, after) == 0.5
    assert machine.foreign_share(before, after._replace(everyone=None)) is None
    assert machine.foreign_share(before, after._replace(everyone=104.0)) == 0.0


def test_a_runs_time_is_divided_by_hand():
    # Steps of 2 s, batches of 0.1 s; logging after every second step takes 1 s, saving after the
    # fourth 3 s, and the last one until it is written 5 s.
    clock, now = SimpleNamespace(asked=[], taking=[], taken=[]), 0.0
    for step in range(6):
        clock.asked.append(now)
        now += {2: 1.0, 4: 3.0}.get(step, 0.0)
        clock.taking.append(now)
        now += 0.1
        clock.taken.append(now)
        now += 100.0 if step == 0 else 2.0  # it is compiled
    clock.asked.append(now)
    rows = {row.case: row.values[0] for row in shares(clock, now + 5, 2, 4, 10, 50)}
    whole = 2.0 + 0.1 + 1.0 / 10 + 5.0 / 50
    assert rows["a whole run: batch to the device, and step"] == pytest.approx(2.0)
    assert rows["of one log line"] == pytest.approx(1.0)
    assert rows["share of waiting for data"] == pytest.approx(100 * 0.1 / whole)
    assert rows["share of logging"] == pytest.approx(100 * 0.1 / whole)
    assert rows["share of saving checkpoints"] == pytest.approx(100 * 0.1 / whole)
    assert rows["share of all that is not the step"] == pytest.approx(100 * 0.3 / whole)


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
    bench = Bench(config, source, 10, make_mesh(1), rounds=2, steps=3)
    assert measure_training(bench)[0] == ([0.0, 0.0], [0.5, 0.5], [0.5, 0.5])


def test_cases_take_turns():
    calls = []
    cases = {name: lambda name=name: calls.append(name) or len(calls) for name in "ab"}
    turns = in_turns(cases, 3)
    assert turns.values == {"a": [1, 4, 5], "b": [2, 3, 6]}
    assert [len(values) for values in turns.cpu.values()] == [3, 3]
    assert "".join(calls) == "abbaab"


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
