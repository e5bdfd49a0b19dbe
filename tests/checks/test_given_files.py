"""Tables, captions and captioners are looked at before anything runs."""

import re

import pytest
from PIL import Image

from ddb_jax.checks.generated_images import unusable_generated
from ddb_jax.checks.given_files import TABLES, stand_ins
from ddb_jax.configs import csv
from ddb_jax.text_to_image.captioners import folder_fault

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 3438167540\n"


@pytest.fixture
def config():
    c = csv.get_config()
    c.methods = ("diffubias",)
    c.captions.source = "csv"
    return c


@pytest.mark.parametrize("field", TABLES)
def test_tables_that_are_none(config, field, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(POINTER)
    section, name = field.split(".")
    config[section][name] = str(path)
    words = f"is a git-lfs pointer, not the content: run `git lfs pull` in {tmp_path}"
    assert stand_ins(config) == [f"config.{field}: {path} {words}"]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("label,generated_text\ncat,a cat\n", "no column path: it must have path,caption"),
        ("file,caption\na.png,x\n", "has no column path, its first line is 'file,caption'"),
        ("path,caption\nb.png,x\n", "b.png cannot be read (No such file or directory)"),
        ("path,caption\npage.png,x\n", "page.png is a web page, not the content"),
        ("path,caption\na.png,\n", "has no caption, all are empty"),
    ],
)
def test_captioned_images(config, table, words, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "page.png").write_text("<html>")
    path = tmp_path / "captioned.csv"
    path.write_text(table)
    config.captioned.csv = str(path)
    said = [line for line in unusable_generated(config) if "config.captioned.csv: " in line]
    assert len(said) == 1
    assert words in said[0]


def test_captioned_images_that_are_there(config, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    config.captioned.csv = str(tmp_path / "captioned.csv")
    (tmp_path / "captioned.csv").write_text("path,caption\na.png,x\n")
    assert not any("captioned.csv" in line for line in unusable_generated(config))


def test_captions_without_their_columns(config, tmp_path):
    path = tmp_path / "captions.csv"
    path.write_text("label,text\ncat,a cat\n")
    config.captions.csv = str(path)
    said = [line for line in unusable_generated(config) if "config.captions.csv: " in line]
    assert len(said) == 1
    assert "has no column generated_text, its first line is 'label,text'" in said[0]


def write(name, content):
    def damage(folder):
        (folder / name).write_bytes(content)

    return damage


CAPTIONERS = {
    "whole": (lambda folder: None, ""),
    "no_config": (lambda folder: (folder / "config.json").unlink(), "FOLDER lacks config.json, it"),
    "no_weights": (
        lambda folder: (folder / "model.safetensors").unlink(),
        "FOLDER lacks weights (.safetensors or .bin), it",
    ),
    "pointer": (
        write("model.safetensors", POINTER.encode()),
        "FOLDER/model.safetensors is a git-lfs pointer",
    ),
    "page": (write("config.json", b"<html>"), "FOLDER/config.json is a web page"),
    "cut": (
        write("model.safetensors", (99).to_bytes(8, "little") + b'{"a":'),
        "FOLDER/model.safetensors is cut short at 13 bytes, inside its header: get it again",
    ),
}


@pytest.mark.parametrize("case", CAPTIONERS)
def test_a_captioner(case, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    damage, words = CAPTIONERS[case]
    damage(tmp_path)
    fault = folder_fault(str(tmp_path))
    expected = words.replace("FOLDER", str(tmp_path))
    assert re.match(re.escape(expected), fault)
    assert bool(fault) == (case != "whole")


def test_a_captioner_that_is_no_folder():
    assert folder_fault("./nowhere") == "there is no folder nowhere of a captioner: check the path"
    assert folder_fault("Salesforce/blip-image-captioning-base") == ""
