"""Settings that are wrong or do not go together: one line on stderr that names them."""

import re
import zipfile

import numpy as np
import pytest

from ddb_jax.configs import digits
from ddb_jax.data.datasets import load_dataset
from ddb_jax.main import main

RESNET18 = ["--config.classifier.network=resnet18", "--config.classifier.width=64"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("data.validation_share=0", "validation_share is 0.0, it must be greater than 0 and less"),
        ("data.test_share=1", "test_share is 1.0, it must be greater than 0 and less"),
        ("data.test_share=0.01", "takes 1 and leaves 15, .* 2 classes: add images or a test"),
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
