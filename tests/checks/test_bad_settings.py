"""Settings that are wrong or do not go together: one line on stderr that names them."""

import re
import zipfile

import numpy as np
import pytest

from ddb_jax.configs import digits
from ddb_jax.data.datasets import load_dataset

RESNET18 = ["--config.classifier.network=resnet18", "--config.classifier.width=64"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("data.test_share=0.01", "takes 1 and leaves 15, .* 2 classes: add images or a test"),
        ("data.test_share=0.99", "takes 16 and leaves 0, .* change config.data.test_share"),
        ("methods=erm,group_dro", r"group_dro needs the true .* leave it out of config.methods"),
        ("methods=group_dro,resampling", r"resampling need the true .* leave them out of"),
        ("data.conflicting_share=2", "no field config.data.conflicting_share"),
        ("amplifier.weights=nothing.pth", "take one of these, or .*config.amplifier.weights="),
    ],
)
def test_a_field_out_of_its_range(argument, message, pets, refused):
    assert re.search(message, refused(pets, f"--config.{argument}"))


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rebias.biased_lr_scale=0.0",), "biased_lr_scale is 0.0, it must be greater than 0"),
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
