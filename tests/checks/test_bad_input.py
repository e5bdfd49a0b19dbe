"""What a user can give that is wrong: one line on stderr that names it and the fix, status 1."""

import dataclasses
import errno
import io
import json
import struct
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from image_tree import PIXELS, pictures, refuse_folder
from PIL import Image

from ddb_jax.configs import digits
from ddb_jax.data.counts import describe
from ddb_jax.data.download.__main__ import main as download
from ddb_jax.data.listing import Files, Listing, complete_splits
from ddb_jax.data.source import ArraySource, Dataset, stratified_split
from ddb_jax.evaluation.bias_detection import detection_metrics
from ddb_jax.main import escape_what_cannot_be_written, main
from ddb_jax.run import pipeline
from ddb_jax.run.refusals import refuse_markers
from ddb_jax.runtime.errors import UserError
from ddb_jax.stages.common.scores_table import COLUMNS, write_scores
from ddb_jax.stages.report import report
from ddb_jax.stages.report.findings import findings


def huge_png():
    """A header that announces 50,000 x 50,000 pixels, and no pixels."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def cut_jpeg():
    whole = io.BytesIO()
    Image.fromarray(PIXELS).save(whole, "jpeg")
    return whole.getvalue()[: len(whole.getvalue()) // 2]


def test_a_folder_that_may_not_be_read(pets, refused, monkeypatch):
    refuse_folder(monkeypatch, pets / "dog")
    assert "dog cannot be read, permission is denied: give" in refused(pets)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (huge_png(), "is 50,000 x 50,000 pixels, more than the 100,000,000 that are decoded"),
        (cut_jpeg(), "is not an image that can be read"),
        (b"hello", "is not an image that can be read"),
        (b"", "is an empty file, which is not read"),
    ],
)
def test_an_image_that_cannot_be_used(content, message, pets, refused):
    (pets / "cat" / "odd.jpg").write_bytes(content)
    error = refused(pets)
    assert "1 of 17 images" in error and "odd.jpg" in error and message in error
    assert "config.data.max_broken" in error and "config.data.resize" not in error
    # One is allowed, and a class without a single image comes next.
    pictures(pets / "fox", 1)
    assert "single image (fox)" in refused(pets, "--config.data.max_broken=1")


def test_an_image_of_one_pixel(pets, refused):
    Image.new("RGB", (1, 1)).save(pets / "cat" / "dot.png")
    assert "is 1 x 1 pixels, smaller than 4" in refused(pets)


def test_sizes_with_resizing_off(pets, refused):
    off = "--config.data.resize=none"
    error = refused(pets, off)
    assert "image_size 32" in error and "64" in error and "make them one" in error
    sides = ("--config.diffusion.image_size=64", "--config.unet.attention_resolutions=16")
    error = refused(pets, off, *sides)
    assert "16 of 16 images" in error and "all images must be 64 x 64" in error
    assert "set config.data.resize" in error


def test_the_work_directory_is_a_file(pets, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    arguments = ["--config=configs/folder.py:smoke", f"--config.data.root={pets}"]
    # The estimate of the cost is not what is looked at.
    monkeypatch.setattr("ddb_jax.run.pipeline.estimate_costs", lambda *a: [])
    assert main([*arguments, f"--workdir={pets / 'cat/0.png'}"]) == 1
    error = capfd.readouterr().err
    assert "0.png cannot be written to" in error and error.count("\n") == 1


def listing_of(*sizes):
    labels = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    names = tuple("abc"[: len(sizes)])
    files = Files(tuple(map(str, range(len(labels)))), labels, np.full(len(labels), -1, np.int32))
    return Listing("pets", None, {"train": files}, names)


def test_a_class_that_the_draw_leaves_out_is_noted():
    """A tenth of 100, 100 and 2: 21 images, of which the third class is owed 0.2."""
    made = complete_splits(listing_of(100, 100, 2), 0.1, 0.1, 0)
    missing = [split for split in ("test", "validation") if 2 not in made.splits[split].labels]
    assert missing, "the example must leave it out somewhere"
    for split in missing:
        assert any(f"drawn {split} split has no image of class c" in n for n in made.notes)


def test_labels_that_are_no_class_do_not_stop_the_draw():
    """They are refused afterwards, with their file's name."""
    labels = np.array([-1, -1, 0, 0, 5, 5], np.int32)
    rest, part = stratified_split(labels, 0.5, 0)
    assert sorted(labels[rest]) == sorted(labels[part]) == [-1, 0, 5]


def test_all_images_without_a_bias_label_are_said_so():
    image = np.zeros((2, 4, 4, 3), np.uint8)
    source = ArraySource(image, np.array([0, 1]), np.array([-1, -1]))
    dataset = Dataset("pets", source, source, source, ("a", "b"), ())
    assert describe(dataset)[0].endswith("1 in a class, all without a bias label.")


def test_a_failure_of_the_system_names_the_file(tmp_path, monkeypatch, capfd):
    def fail(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device", "/disk/file")

    monkeypatch.setattr("ddb_jax.run.pipeline.run", fail)
    assert main(["--config=configs/digits.py:smoke", f"--workdir={tmp_path}"]) == 1
    assert capfd.readouterr().err == (
        "error: /disk/file: No space left on device; if it was to be written, make room there and"
        " run again: what is done is kept.\n"
    )
    (tmp_path / "file").write_text("")
    assert download(["mnist", "--root", str(tmp_path / "file")]) == 1
    assert capfd.readouterr().err == f"error: {tmp_path}/file/mnist: Not a directory.\n"


@pytest.mark.parametrize("bias", [-1, 0])
def test_the_report_claims_nothing_about_a_bias_that_is_not_known(bias, tmp_path):
    """Four images, three of them flagged; with bias labels, the two of class 1 conflict."""
    labels, losses = np.array([0, 0, 1, 1]), np.array([0.1, 2.0, 2.0, 3.0], np.float32)
    source = ArraySource(np.zeros((4, 4, 4, 3), np.uint8), labels, np.full(4, bias))
    dataset = Dataset("pets", source, source, source, ("a", "b"), ("a", "b"))
    flagged = np.array([0, 1, 1, 1])
    conflicting = np.full(4, -1) if bias < 0 else labels
    columns = {name: np.zeros(4, int) for name in COLUMNS} | {
        "split": np.full(4, "train", object),
        "loss": losses,
        "pseudo_conflicting": flagged,
        "conflicting": conflicting,
    }
    folder = tmp_path / "score" / "synthetic"
    folder.mkdir(parents=True)
    write_scores(folder / "scores.csv", columns)
    truth = None if bias < 0 else conflicting.astype(bool)
    train = {
        "accuracy": 0.25,
        "group_sizes": {"a/aligned": 1, "a/conflicting": 1, "b/conflicting": 2},
        "dropped_groups": [],
        "rule": detection_metrics(losses, flagged.astype(bool), truth),
    }
    content = {"rule": "error_set", "threshold": None, "train": train}
    (folder / "detection.json").write_text(json.dumps(content))
    config = SimpleNamespace(
        amplifier=SimpleNamespace(kind="network", train_on="synthetic"),
        given_scores=SimpleNamespace(csv=""),
        seeds=(0,),
    )
    context = SimpleNamespace(config=config, dataset=dataset, inputs={})

    found = "".join(findings(context, folder, []))
    assert "3 of them are flagged as bias-conflicting. That is more than half" in found
    assert ("No image has a bias label" in found) == (bias < 0)
    assert ("Against the true bias labels: AUROC 0.8750" in found) == (bias == 0)
    histograms = "".join(report._histograms(folder, None))
    assert ("finds the conflicting images" in histograms) == (bias == 0)

    entry = {"method": "erm", "title": "ERM", "selection": "last", "seeds": 1, "tries": 1}
    assert "oracle" not in "".join(report._results(context, [entry], ()))
    oracle = {**entry, "method": "group_dro", "title": "GroupDRO"}
    assert "An oracle is told" in "".join(report._results(context, [entry, oracle], ()))


def test_a_marker_of_conflict_is_not_taken_for_the_bias_attribute():
    config = SimpleNamespace(
        methods=("erm", "bias_bal"), evaluation=SimpleNamespace(group_by="bias")
    )
    source = ArraySource(np.zeros((2, 4, 4, 3), np.uint8), np.array([0, 1]), np.array([1, 0]))
    marked = Dataset("bar", source, source, source, ("a", "b"), ("x", "y"), bias_is_marker=True)
    with pytest.raises(UserError, match=r"bias_bal.*group_by 'bias'.*only says which images"):
        refuse_markers(config, marked)
    refuse_markers(config, dataclasses.replace(marked, bias_is_marker=False))


def test_images_that_are_readable_at_one_size_only_are_noticed(monkeypatch):
    def load(settings, size, stop):
        paths = ("a", "b") if size == 8 else ("a", "c")
        labels = np.array([0, 1])
        source = ArraySource(np.zeros((2, size, size, 3), np.uint8), labels, labels, paths)
        return Dataset("pets", source, source, source, ("a", "b"))

    monkeypatch.setattr(pipeline, "load_dataset", load)
    config = digits.get_config()
    config.diffusion.image_size, config.classifier.image_size = 8, 16
    with pytest.raises(UserError, match="train images of digits are not the same at the two sizes"):
        pipeline._load_datasets(config, None)


def test_names_that_a_terminal_lacks_are_escaped():
    """As with PYTHONIOENCODING=ascii, or a service without a locale."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    escape_what_cannot_be_written(stream)
    stream.write("caf\u00e9 \U0001f431")
    stream.flush()
    assert stream.buffer.getvalue() == rb"caf\xe9 \U0001f431"
