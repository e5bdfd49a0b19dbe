"""The benchmark command: what it prints and writes, and that it measures what it says."""

import contextlib
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest

from ddb_jax.benchmark import compiled, measure
from ddb_jax.benchmark.__main__ import PROGRAMS, choose, main
from ddb_jax.benchmark.bench import Turns
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
    "--config.unet.attention_resolutions=()",
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
    with contextlib.redirect_stdout(printed):
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
    # Three passes over three hidden layers of 8 and a head, without the images' gradient; then some
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
