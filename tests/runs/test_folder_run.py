"""A user's own images through the whole pipeline: folders, a CSV file, ImageNet weights."""

import csv

import jax
import numpy as np
import pytest
from PIL import Image
from runs import weights

from ddb_jax.configs import folder
from ddb_jax.data.datasets import load_dataset
from ddb_jax.main import main
from ddb_jax.models.classifiers import make_classifier
from ddb_jax.models.pretrained import torchvision_name
from ddb_jax.stages.common.networks import init_variables

TINY = {
    "methods": "erm,ddb_ii",
    "num_devices": 1,
    "unet.channels": 8,
    "unet.channel_mults": "(1,)",
    "unet.attention_resolutions": "()",
    "diffusion.image_size": 8,
    "diffusion.num_steps": 2,
    "diffusion.batch_size": 4,
    "synthesis.images_per_class": 4,
    "synthesis.num_steps": 2,
    "amplifier.network": "mlp",
    "amplifier.width": 4,
    "amplifier.num_steps": 2,
    "amplifier.batch_size": 4,
    "classifier.network": "mlp",
    "classifier.width": 4,
    "classifier.image_size": 12,
    "classifier.source_size": 16,
    "classifier.num_steps": 2,
    "classifier.batch_size": 4,
    "classifier.selection": "average",
}


@pytest.fixture
def pictures(tmp_path):
    """Twelve cats, grey and wide, and twelve dogs, in colour and high; one text file."""
    rng = np.random.default_rng(0)
    for name, shape, mode in (("cat", (20, 30), "L"), ("big dog", (30, 20, 3), "RGB")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(0, 256, shape, dtype=np.uint8)
            Image.fromarray(pixels, mode).save(tmp_path / "pets" / name / f"{i}.png")
    (tmp_path / "pets" / "cat" / "notes.txt").write_text("not an image")
    return tmp_path / "pets"


def call(config, root, workdir, monkeypatch, *more, estimate=False, **changes):
    monkeypatch.setenv("XDG_CACHE_HOME", str(root.parent / "cache"))
    if not estimate:
        monkeypatch.setattr("ddb_jax.run.pipeline.estimate_costs", lambda *a: [])
    fields = {**TINY, **changes}
    return main(
        [
            f"--config=configs/{config}.py:smoke",
            f"--workdir={workdir}",
            f"--config.data.root={root}",
            *(f"--config.{name}={value}" for name, value in fields.items()),
            *more,
        ]
    )


def metrics(workdir):
    with (workdir / "results.csv").open(newline="") as file:
        return {(row["method"], row["metric"]) for row in csv.DictReader(file)}


@pytest.mark.filterwarnings("ignore:.*mode.*:DeprecationWarning")
def test_a_folder_with_unknown_bias_in_one_command(pictures, tmp_path, monkeypatch, capsys):
    workdir = tmp_path / "run"
    assert call("folder", pictures, workdir, monkeypatch, estimate=True) == 0
    said = capsys.readouterr().out
    assert "pets has no validation split" in said and "notes.txt" in said
    assert "estimated cost" in said and "about" in said
    found = metrics(workdir)
    assert {("erm", "average_accuracy"), ("ddb_ii", "worst_class_accuracy")} <= found
    assert not any(metric.startswith(("conflicting", "bias_auroc")) for _, metric in found)
    with (workdir / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["bias"] for row in rows} == {""}
    assert all((pictures / row["path"]).is_file() for row in rows)

    # A second start decodes nothing and finds all done, wherever the images were moved to.
    (tmp_path / "elsewhere").mkdir()
    moved = pictures.rename(tmp_path / "elsewhere/pets")
    assert call("folder", moved, workdir, monkeypatch) == 0
    assert "preparing" not in (again := capsys.readouterr().out) and "already done" in again
    # Another label makes another data set of it, and the work directory is kept.
    (moved / "cat/0.png").rename(moved / "big dog/cat.png")
    assert call("folder", moved, workdir, monkeypatch) == 1
    assert "was made with another config (data was" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.*mode.*:DeprecationWarning")
def test_a_csv_with_bias_labels(pictures, tmp_path, monkeypatch, capsys):
    lines = ["path,label,bias,split"]
    for i in range(12):
        split = "train" if i < 8 else "val" if i < 10 else "test"
        lines += [f"cat/{i}.png,cat,{'lawn' if i % 4 else 'sofa'},{split}"]
        lines += [f"big dog/{i}.png,dog,{'sofa' if i % 4 else 'lawn'},{split}"]
    (pictures / "pets.csv").write_text("\n".join(lines) + "\n")
    workdir = tmp_path / "run"
    changes = {"methods": "erm,group_dro", "classifier.selection": "average"}
    assert call("csv", pictures / "pets.csv", workdir, monkeypatch, **changes) == 0
    assert "16 images, 8 in a class, 12 bias-aligned, 4 conflicting" in capsys.readouterr().out
    assert ("group_dro", "train_weighted_accuracy") in metrics(workdir)


def imagenet_like(path):
    """A state dict of a random ResNet-18 with a thousand classes; returns its variables."""
    model, rng = make_classifier("resnet18", 1000), np.random.default_rng(7)
    shapes = jax.eval_shape(lambda: init_variables(model, jax.random.key(0), 32))
    variables = jax.tree.map(lambda p: rng.uniform(0.01, 0.02, p.shape).astype(p.dtype), shapes)
    state = {}
    for keys, value in jax.tree.leaves_with_path(variables):
        names = tuple(key.key for key in keys)
        order = (3, 2, 0, 1) if value.ndim == 4 else (1, 0) if value.ndim == 2 else (0,)
        state[torchvision_name("resnet18", names)] = value.transpose(order)
    np.savez(path, **state)
    return variables


@pytest.mark.filterwarnings("ignore:.*mode.*:DeprecationWarning")
@pytest.mark.parametrize("trainable", ["head", "head_batch_stats"])
def test_a_frozen_backbone_stays_what_the_file_holds(pictures, tmp_path, monkeypatch, trainable):
    given = imagenet_like(tmp_path / "net.npz")
    workdir = tmp_path / "run"
    changes = {
        "methods": "erm",
        "classifier.network": "resnet18",
        "classifier.width": 64,
        "classifier.stem": "imagenet",
        "classifier.image_size": 32,
        "classifier.source_size": 0,
        "classifier.normalization": "imagenet",
        "classifier.weights": tmp_path / "net.npz",
        "classifier.trainable": trainable,
        "classifier.selection": "last",
    }
    # One of the two runs to its end: the trained weights are read back, and reported on.
    stage = "" if trainable == "head" else "train_classifier"
    assert call("folder", pictures, workdir, monkeypatch, f"--stage={stage}", **changes) == 0
    trained = weights(workdir / "seed_0/train_classifier/erm")
    kernel = "['params']['stage_1_block_0']['conv_1']['kernel']"
    np.testing.assert_array_equal(
        trained[kernel], given["params"]["stage_1_block_0"]["conv_1"]["kernel"]
    )
    assert trained["['params']['head']['kernel']"].shape == (512, 2)
    mean = trained["['batch_stats']['stem_norm']['mean']"]
    kept = np.array_equal(mean, given["batch_stats"]["stem_norm"]["mean"])
    assert kept == (trainable == "head")


def test_missing_weights_and_root_are_said_at_once(tmp_path, capsys):
    arguments = ["--config=configs/bar.py", f"--workdir={tmp_path / 'run'}"]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert "data/weights/resnet18-f37072fd.pth" in error and "densenet121" in error
    assert "ddb_jax.data.download resnet18" in error and len(error.splitlines()) == 1
    assert main([*arguments, "--config.classifier.weights=", "--config.amplifier.weights="]) == 1
    assert "config.data.root is empty" in capsys.readouterr().err


def test_the_hash_of_a_data_set_follows_its_pixels(pictures, tmp_path):
    settings = folder.get_config().data
    settings.root, settings.cache = str(pictures), str(tmp_path / "cache")
    before = load_dataset(settings, 8).fingerprint
    assert load_dataset(settings, 8).fingerprint == before
    with Image.open(pictures / "cat/3.png") as image:
        image.transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(pictures / "cat/3.png")
    assert load_dataset(settings, 8).fingerprint != before
