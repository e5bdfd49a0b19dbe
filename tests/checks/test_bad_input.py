"""What a user can give that is wrong: one line on stderr that names it and the mend, status 1."""

import dataclasses
import errno
import io
import json
import re
import struct
import zipfile
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from image_tree import make_tree, refuse_folder
from PIL import Image

from ddb_jax.configs import digits
from ddb_jax.data.counts import describe
from ddb_jax.data.datasets import load_dataset
from ddb_jax.data.download.__main__ import main as download
from ddb_jax.data.listing import Files, Listing, complete_splits
from ddb_jax.data.source import ArraySource, Dataset, stratified_split
from ddb_jax.evaluation.bias_detection import detection_metrics
from ddb_jax.main import main
from ddb_jax.run import pipeline
from ddb_jax.runtime.errors import UserError
from ddb_jax.stages.common.scores_table import COLUMNS, write_scores
from ddb_jax.stages.report import report
from ddb_jax.stages.report.findings import findings

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
RESNET18 = ["--config.classifier.network=resnet18", "--config.classifier.width=64"]


def pictures(folder, count):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.fromarray(PIXELS).save(folder / f"{i}.png")


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


@pytest.fixture
def refused(tmp_path, monkeypatch, capfd):
    """Runs main, which must end in one line on stderr and nothing of a traceback; returns it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def call(root, *more, config="folder"):
        fields = [f"--config.data.root={root}"] if root else []
        arguments = [f"--config=configs/{config}.py:smoke", f"--workdir={tmp_path / 'run'}"]
        assert main([*arguments, *fields, *more]) == 1
        error = capfd.readouterr().err
        assert error.startswith("error: ") and error.endswith(".\n") and error.count("\n") == 1
        assert not (tmp_path / "run").exists()
        return error

    return call


@pytest.fixture
def pets(tmp_path):
    for name in ("cat", "dog"):
        pictures(tmp_path / "pets" / name, 8)
    return tmp_path / "pets"


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([], "no train/ or class folder in .*: put one folder of images per class"),
        (["cat/0.png", "dog/"], "class folder .*dog has no images: add some, or remove"),
        (["cat/0.png", "dog/a.txt"], "class folder .*dog has no images"),
        (["cat/0.png"], "one class folder only, cat: give the folder that holds two"),
        (["0.png", "1.png"], "put one folder of images per class there"),
        (["test/a/0.png", "test/b/0.png"], "test/ but no train/: put the training images into"),
        (
            ["train/a/0.png", "train/b/0.png", "test/c/0.png"],
            "test split .* has class c, which train lacks: add training images of it or remove",
        ),
    ],
)
def test_a_folder_that_is_no_image_set(paths, message, tmp_path, refused):
    root = make_tree(tmp_path / "pets", paths)
    root.mkdir(exist_ok=True)
    assert re.search(message, refused(root))


def test_a_root_of_the_wrong_kind(pets, tmp_path, refused):
    (pets / "pets.csv").write_text("path,label\ncat/0.png,cat\n")
    assert "there is no folder" in refused(tmp_path / "nothing")
    assert "is a file: give the folder" in refused(pets / "pets.csv")
    assert "is a folder: give the CSV file" in refused(pets, config="csv")
    assert "holds one folder of images per class" in refused("")
    assert "config.data.root=FILE.csv" in refused("", config="csv")
    assert "there is no train/" in refused(pets, config="bar")
    assert "ddb_jax.data.download mnist` gets it" in refused(pets, config="cmnist")


def test_a_folder_that_may_not_be_read(pets, refused, monkeypatch):
    refuse_folder(monkeypatch, pets / "dog")
    assert "dog cannot be read, permission is denied: give" in refused(pets)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,class\ncat/0.png,cat\n", "no column path or label, its first line is 'file,class'"),
        ("path;label\ncat/0.png;cat\n", "separated by commas"),
        ("path,label\ncat/0.png,cat\ndog/99.png,dog\n", "line 3 of .* names dog/99.png"),
        ("path,label\ncat/0.png,cat\n", "one class only, cat"),
        ("path,label\ncat/0.png,1\ndog/0.png,2\n", "number the classes 0 to 1, or give"),
        (
            "path,label,split\ncat/0.png,cat,train\ndog/0.png,dog,train\ndog/1.png,fox,test\n",
            "the test split of .* has class fox, which train lacks",
        ),
    ],
)
def test_a_csv_file_that_does_not_fit(text, message, pets, refused):
    (pets / "pets.csv").write_text(text)
    assert re.search(message, refused(pets / "pets.csv", config="csv"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (huge_png(), "is 50,000 x 50,000 pixels, more than the 100,000,000 that are decoded"),
        (cut_jpeg(), "is not an image that can be read"),
        (b"hello", "is not an image that can be read"),
        (b"", "the file is empty"),
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
    error = refused(pets, off, "--config.diffusion.image_size=64")
    assert "16 of 16 images" in error and "all images must be 64 x 64" in error
    assert "set config.data.resize" in error


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("data.validation_share=0", "validation_share is 0.0, it must be greater than 0 and less"),
        ("data.test_share=1", "test_share is 1.0, it must be greater than 0 and less"),
        ("data.test_share=0.01", "takes 1 and leaves 15, .* 2 classes: add images, bring a test"),
        ("data.test_share=0.99", "takes 16 and leaves 0, .* change config.data.test_share"),
        ("data.seed=-1", "data.seed is -1, it must be at least 0"),
        ("seeds=-1", r"seeds is \(-1,\), they must be at least 0"),
        ("seeds=", r"config.seeds is \(\)"),
        ("methods=", "config.methods is empty"),
        ("methods=erm,group_dro", r"group_dro needs the true .* leave it out of config.methods"),
        ("methods=group_dro,resampling", r"resampling need the true .* leave them out of"),
        ("unet.num_heads=0", "num_heads is 0, it must be greater than 0"),
        ("diffusion.image_size=0", "image_size must be above 0"),
        ("diffusion.image_size=30", "take a multiple of 4"),
        ("classifier.trainable=heads", "'heads', the nearest of .* is 'head'"),
        ("data.conflicting_share=2", "no field config.data.conflicting_share"),
        ("amplifier.weights=nothing.pth", "take one of these, or .*config.amplifier.weights="),
    ],
)
def test_a_field_out_of_its_range(argument, message, pets, refused):
    assert re.search(message, refused(pets, f"--config.{argument}"))


def test_shares_of_conflicting_images_lie_in_range(pets, refused):
    error = refused(pets, "--config.data.conflicting_share=2", config="cmnist")
    assert "conflicting_share is 2.0, it must be between 0 and 1" in error


def test_images_too_small_for_the_network(refused):
    # 8 pixels: 4 after the first convolution, 2 after the pool, 1 after the first halving.
    small = ["--config.amplifier.network=densenet121", "--config.diffusion.image_size=8"]
    assert "config.amplifier.network densenet121 at 8 pixels" in refused("anywhere", *small)


def test_weights_are_read_before_anything_is_trained(tmp_path, refused):
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as archive:
        archive.writestr("hello.txt", "hello")
    np.savez(tmp_path / "odd.npz", a=np.zeros(3))
    (tmp_path / "net.bin").write_bytes(b"")
    for name, message in (
        ("other.pth", "a zip archive without a data.pkl"),
        ("odd.npz", "are not those of this resnet18"),
        ("net.bin", "weights are read from .pth"),
        ("nothing.pth", "there is no such file"),
    ):
        error = refused("", *RESNET18, f"--config.classifier.weights={tmp_path / name}")
        assert message in error and "from scratch with --config.classifier.weights=" in error
        assert "config.data.root is empty" in error, "all that is wrong is said at once"


def test_tfds_without_a_name(tmp_path, refused):
    error = refused("", config="tfds")
    assert "config.data.root is empty" in error and "config.data.tfds_name is empty" in error


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
    assert capfd.readouterr().err == "error: /disk/file: No space left on device.\n"
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
        amplifier=SimpleNamespace(train_on="synthetic"),
        given_scores=SimpleNamespace(csv=""),
        seeds=(0,),
    )
    context = SimpleNamespace(config=config, dataset=dataset, inputs={})

    found = "".join(findings(context, folder, []))
    assert "3 of them are held to conflict" in found and "That is more than half" in found
    assert ("No image has a bias label" in found) == (bias < 0)
    assert ("Against the true bias labels: AUROC 0.8750" in found) == (bias == 0)
    histograms = "".join(report._histograms(folder, None))
    assert ("finds the conflicting ones" in histograms) == (bias == 0)

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
        pipeline._refuse_markers(config, marked)
    pipeline._refuse_markers(config, dataclasses.replace(marked, bias_is_marker=False))


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


def test_an_amplifier_that_would_see_parts_of_the_images(capsys, tmp_path):
    arguments = ["--config=configs/digits.py:smoke", "--config.amplifier.image_size=8"]
    assert main([*arguments, f"--workdir={tmp_path}"]) == 1
    assert "config.amplifier.image_size is 8, less than" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("search.seed=-1",), "config.search.seed is -1, it must be at least 0"),
        (
            ("search.tries=2", "classifier.oracle_selection=last"),
            "config.classifier.oracle_selection 'last' looks at nothing",
        ),
        (("rebias.biased_lr_scale=0.0",), "biased_lr_scale is 0.0, it must be greater than 0"),
        (("dfr.c_grid=0.0,1",), "c_grid is (0.0, 1), it must hold numbers greater than 0"),
        (("dfr.c_grid=some",), "it must be a list of numbers"),
        (("methods=rebias", "classifier.batch_size=2"), "rebias needs batches of at least 4"),
        (
            ("methods=erm,disent", "disent.gce_q=0.0", "disent.gce_scaled=True"),
            "config.disent: gce_q of DisEnt is 0.0",
        ),
        (
            ("amplifier.gce_q=0.0", "amplifier.gce_scaled=True", "lff.gce_q=2.0"),
            "config.amplifier: gce_q of the amplifier section is 0.0, with gce_scaled a loss of 0",
        ),
        (("biased.gce_q=0.0", "biased.gce_scaled=True"), "config.biased: gce_q of the biased"),
        (("committee.gce_q=0.0", "committee.gce_scaled=True"), "config.committee: gce_q of the"),
        (("committee.agreement=6",), "agreement is 6, more than its 5 members"),
        (("methods=erm,ddb_3",), "config.methods: 'ddb_3' is no method, the nearest of erm, "),
    ],
)
def test_settings_that_a_method_or_the_search_refuses(arguments, message, refused):
    fields = [f"--config.{argument}" for argument in (*arguments, "num_devices=1")]
    assert message in refused("", *fields, config="digits")


def test_given_scores_that_do_not_fit_are_refused_before_anything_runs(tmp_path, refused):
    mine = tmp_path / "mine.csv"
    settings = ["--config.num_devices=1", f"--config.given_scores.csv={mine}"]
    mine.write_text("path,loss\nelsewhere/1,0.5\n")
    error = refused("", *settings, config="digits")
    assert "has 1 of 1 rows that are of no image (line 2: elsewhere/1)" in error
    splits = digits_splits()
    rows = [f"{split},{i},0" for split, source in splits.items() for i in range(len(source))]
    mine.write_text("\n".join(["split,index,pseudo_conflicting", *rows]) + "\n")
    # Also where an earlier run with other methods has read the file.
    error = refused("", *settings, "--config.methods=ddb_i,ddb_ii,jtt+ddb", config="digits")
    assert "no column loss, which ddb_ii needs, and no column predicted, which jtt+ddb" in error


def digits_splits():
    c = digits.get_config("smoke")
    splits = load_dataset(c.data, 8, None).splits
    return {name: splits[name] for name in ("train", "validation")}
