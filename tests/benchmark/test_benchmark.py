"""The benchmark command: what it prints and writes, and that it measures what it says."""

import contextlib
import io
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddb_jax.benchmark import compiled, machine, measure, table
from ddb_jax.benchmark import training as training_program
from ddb_jax.benchmark.__main__ import PROGRAMS, choose, main
from ddb_jax.benchmark.augmentation import augment_on_host
from ddb_jax.benchmark.bench import Bench, Row, Turns, in_turns
from ddb_jax.benchmark.training import measure_training, waiting_share
from ddb_jax.benchmark.training_run import shares
from ddb_jax.configs import digits
from ddb_jax.data.datasets import load_dataset
from ddb_jax.training.mesh import make_mesh

BATCH_SIZE = 16
TINY = [
    "--config.num_devices=1",
    "--config.classifier.image_size=8",
    "--config.classifier.network=mlp",
    f"--config.classifier.batch_size={BATCH_SIZE}",
    "--config.amplifier.network=mlp",
    "--config.diffusion.image_size=8",
    "--config.diffusion.batch_size=4",
    "--config.unet.channel_mults=(1,)",
    "--config.synthesis.batch_size=4",
    "--config.text_to_image.num_steps=2",
    "--config.text_to_image.batch_size=2",
    "--config.text_to_image.dtype=float32",
    "--config.train_text_to_image.unet_channels=(8,)",
    "--config.train_text_to_image.autoencoder_channels=(8,8)",
    "--config.train_text_to_image.text_width=8",
    "--config.train_text_to_image.text_layers=1",
]
ARGUMENTS = ["--config=configs/digits.py:smoke", *TINY, "--rounds=2", "--steps=2"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What was printed, the conditions and the rows written, {program: [row, ...]}."""
    path, printed = tmp_path_factory.mktemp("benchmark") / "b.json", io.StringIO()

    def compile_once(function, arguments):
        """`compile_twice`, which is tested below, at half its time."""
        program = function.lower(*arguments).compile()
        return compiled.Compiled(
            program, 2.0, 1.0, *compiled.count(program), compiled.memory(program)
        )

    with contextlib.redirect_stdout(printed), pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "compile_twice", compile_once)
        assert main([*ARGUMENTS, f"--json={path}"]) == 0
    written = json.loads(path.read_text())
    return printed.getvalue(), written["conditions"], written["programs"]


def test_all_programs_are_printed_and_written(measured):
    printed, conditions, programs = measured
    lines = printed.splitlines()
    titles = [line for line in lines if line in PROGRAMS]
    assert titles == list(programs) == list(PROGRAMS)
    for rows in programs.values():
        for row in rows:
            assert len(row["values"]) in (1, 2) and np.all(np.isfinite(row["values"]))
            assert len(row["foreign"]) in (0, 2)
            wanted = (row["case"], row["unit"])
            assert any(x.strip().startswith(wanted[0]) and wanted[1] in x for x in lines)
            assert row["unit"] in ("%", "s") or min(row["values"]) > 0
    assert [row["case"] for row in programs["input_pipeline"]] == [
        f"from {where}, {threads} threads"
        for where in ("memory", "records")
        for threads in (0, 1, 2, 4)
    ]
    assert conditions["images"] == "1,077 of digits, 8 px"
    assert conditions["arguments"][:-1] == ARGUMENTS


def values_of(rows, case):
    (found,) = [row["values"] for row in rows if row["case"] == case]
    return found


def test_the_figures_of_a_step_agree(measured):
    rows = measured[2]["classifier_train"]
    seconds, rate, percent, product, speed, (operations,) = (
        values_of(rows, case)
        for case in (
            "step", "rate", "share of the matrix product's", "of a matrix product",
            "operations a second", "operations of a step, by the compiler",
        )
    )  # fmt: skip
    # Three passes over three hidden layers of 8 and a head, but for the images' gradient; then some
    # dozens of operations of AdamW on every parameter.
    weights = 3 * 64 * 8 + 8 * 8 + 8 * 8 + 8 * 10
    products = 2 * BATCH_SIZE * (3 * weights - 3 * 64 * 8)
    assert products <= 1e9 * operations <= products + 60 * weights
    for i in range(2):
        assert seconds[i] * rate[i] == pytest.approx(BATCH_SIZE)
        assert speed[i] * seconds[i] == pytest.approx(operations)
        assert percent[i] == pytest.approx(100 * speed[i] / product[i])
    ready, fed, blocked, waiting = (
        values_of(measured[2]["training"], case)
        for case in (
            "ready batch", "fed by the pipeline", "of it, host in next()",
            "share of time waiting for data",
        )
    )  # fmt: skip
    for i in range(2):
        assert blocked[i] < fed[i]
        assert waiting[i] == pytest.approx(100 * (fed[i] - ready[i]) / fed[i])


def test_every_sampler_is_timed_and_says_what_on(measured):
    titles = list(dict.fromkeys(row["of"] for row in measured[2]["sampling"]))
    starts = [title.split(":")[0] for title in titles]
    assert starts == [
        "one step of ddpm",
        "ddpm, 1,000 evaluations, timed on 2",
        "ddim, 4 evaluations, timed on 2",
        "dpmpp_2m, 4 evaluations, timed on 2",
    ]
    rows = [row for row in measured[2]["sampling"] if row["of"] == titles[1]]
    per_image, rate = values_of(rows, "image"), values_of(rows, "rate")
    assert [a * b for a, b in zip(per_image, rate, strict=True)] == pytest.approx([1, 1])


def test_time_of_a_part_is_scaled_to_the_whole():
    program = SimpleNamespace(
        images=4, evaluations=(2, 1000), loops=True, trains=False, title="t", dtype="float32"
    )
    found = compiled.Compiled(None, 3.0, 1.0, 7.0, 5.0, 2_000_000)
    turns = Turns({"ours": [0.5, 1.0]}, {"ours": [1.0, 2.0]}, [0.0, 0.1])
    rows = {row.case: row.values for row in measure.rows(program, found, turns, make_mesh(1))}
    # Half a second for two of 1,000 evaluations of four images: 250 s for four images.
    assert rows["image"] == [62.5, 125.0] and rows["rate"] == [0.016, 0.008]
    assert rows["memory of the program"] == [2.0]
    assert not any(case.startswith("operations") for case in rows)  # counted once for a loop


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
    hits = []
    jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
    compiled.compile_twice(jax.jit(lambda a: a * 3 + 1), (jnp.ones(3),))
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
    quiet = Row("step", "s", [1.0, 2.0, 4.0], "net", [0.01, 0.3, 0.02])
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


def test_programs_are_chosen_by_name():
    assert choose("--x", "b, a", ("a", "b", "c")) == ["b", "a"]


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        (
            "--programs=training,classifiertrain",
            "error: --programs has 'classifiertrain', the nearest of diffusion_train, sampling,"
            " classifier_train, lff_train, scoring, text_to_image, input_pipeline, training,"
            " augmentation is 'classifier_train'.\n",
        ),
        ("--rounds=0", "error: --rounds=0 must be at least 1.\n"),
        ("--steps=-1", "error: --steps=-1 must be at least 1.\n"),
        ("--json=none/b.json", "error: --json=none/b.json: there is no folder none.\n"),
        (
            "--preset=gpus",
            "error: --preset has 'gpus', the nearest of cpu, paper, gpu is 'gpu'.\n",
        ),
        (
            "--peer=eger",
            "error: --peer has 'eger', the nearest of eager, channels_last, compile, bf16 is"
            " 'eager'.\n",
        ),
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
