"""python -m ddb_jax.data.check: what is printed, and when it exits with 1."""

import csv

import numpy as np
import pytest
from PIL import Image

from ddb_jax.data.check import main


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def noise(number, side=40):
    return Image.fromarray(
        np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)
    )


@pytest.fixture
def pets(tmp_path):
    """Twenty cats and twenty dogs."""
    for number in range(40):
        folder = tmp_path / "pets" / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        noise(number).save(folder / f"{number:02d}.png")
    return tmp_path / "pets"


def check(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_a_good_set_is_described(pets, tmp_path, capsys):
    (pets / "cat" / "notes.txt").write_text("of cats")
    table = tmp_path / "check.csv"
    status, out, err = check(capsys, pets, f"--csv={table}", "--validation_share=0.25")
    assert (status, err) == (0, "")
    for words in (
        "1 file that is not an image was left out, for example cat/notes.txt.",
        "pets train: 24 images, 12 in a class",
        "pets validation: 8 images, 4 in a class",
        "pets test: 8 images, 4 in a class",
        "pets files: all 40 x 40 pixels; 40 RGB.",
        "A run would take this set.",
    ):
        assert words in out, out
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert len(rows) == 40 and {row["findings"] for row in rows} == {""}


def test_a_leak_and_broken_files_are_all_named(pets, capsys):
    noise(0).save(pets / "cat" / "copy.png")
    for split, first in (("train", 0), ("test", 100)):
        for number in range(first, first + 30):
            folder = pets / split / ("cat", "dog")[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            noise(number).save(folder / f"{number}.png")
    noise(0).save(pets / "test" / "cat" / "leak.png")
    (pets / "train" / "dog" / "empty.png").write_bytes(b"")
    for name in ("cat", "dog"):
        for path in (pets / name).iterdir():
            path.unlink()
        (pets / name).rmdir()
    status, out, err = check(capsys, pets)
    assert status == 1
    assert err.count("\n") == 1 and err.startswith(
        "error: a run would refuse this set: 1 image cannot"
    )
    assert "dog/empty.png: is an empty file" in err
    assert "train/cat/0.png (train) = test/cat/leak.png (test)" in err
    assert "pets test: 31 images" in out
    status, out, err = check(capsys, pets, "--allow_leaks=True", "--max_broken=1")
    assert (status, err) == (0, "")
    warnings = [line for line in out.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 2 and out.startswith("warning: ")


def test_a_table(pets, tmp_path, capsys):
    lines = [f"{path.relative_to(tmp_path)},{path.parent.name}" for path in pets.rglob("*.png")]
    (tmp_path / "pets.csv").write_text("path,label\n" + "\n".join(lines) + "\n")
    status, out, _ = check(capsys, tmp_path / "pets.csv")
    assert status == 0 and "pets files: all 40 x 40 pixels; 40 RGB." in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{0}/nothing"], "nothing"),
        (["{0}/nothing.csv"], "nothing.csv"),
        (["{0}", "--validation_share=0.999"], "config.data.validation_share"),
        (["{0}", "--background=wite"], "'wite' is no colour"),
        (["{0}", "--resize=none"], "resizing is off"),
        (["{0}", "--set=bar"], "BAR"),
    ],
)
def test_what_cannot_be_read_gets_one_sentence(pets, arguments, says, capsys):
    status, _, err = check(capsys, *[argument.format(pets) for argument in arguments])
    assert status == 1 and err.startswith("error: ") and err.count("\n") == 1
    assert says in err and "Traceback" not in err


@pytest.mark.parametrize(
    "arguments",
    [[], ["{0}", "--resize=pad"], ["{0}", "--image_size=0"], ["{0}", "--difusion=3"],
     ["{0}", "--allow_leaks=perhaps"], ["{0}", "--set=mnist"]],
)  # fmt: skip
def test_wrong_arguments(pets, arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([argument.format(pets) for argument in arguments])
    assert stopped.value.code == 2
    assert "error: " in capsys.readouterr().err
