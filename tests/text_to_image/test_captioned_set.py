"""Captioned images of a run: the digits set aside, or those of a CSV file."""

import numpy as np
import pytest
from PIL import Image

from ddb_jax.configs import digits
from ddb_jax.runtime.errors import UserError
from ddb_jax.text_to_image.captioned_set import load_captioned


@pytest.fixture
def config():
    c = digits.get_config("smoke")
    c.data.reference_share = 0.1
    return c


def save(path, colour, size=(4, 4)):
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def write_table(config, folder, text):
    path = folder / "table.csv"
    path.write_text(text)
    config.captioned.csv = str(path)


def test_the_digits_set_aside(config):
    captioned = load_captioned(config, 8)
    # 10% of 1,797 digits, rounded up as scikit-learn does, in ten colours.
    assert captioned.images.shape == (1800, 8, 8, 3) and captioned.images.dtype == np.uint8
    assert len(captioned.captions) == len(captioned.paths) == 1800
    named = {"green": (1, 0, 2), "red": (0, 1, 2), "blue": (2, 0, 1)}
    for colour, (bright, *dark) in named.items():
        rows = [i for i, text in enumerate(captioned.captions) if f" {colour}" in text]
        assert len(rows) == 180
        mean = captioned.images[rows].mean((0, 1, 2))
        assert mean[bright] > 30 and max(mean[dark]) < 10


def test_vague_captions_are_asked_for(config):
    config.captioned.vague_share = 0.5
    colours = ("red", "orange", "yellow", "green", "cyan", "azure", "blue", "violet", "magenta")
    captions = load_captioned(config, 8).captions
    plain = [text for text in captions if {*colours, "white"} & {*text.split()}]
    assert len(plain) == 900


def test_a_table_names_images_relative_to_itself(config, tmp_path):
    save(tmp_path / "a" / "red.png", (255, 0, 0))
    save(tmp_path / "blue.png", (0, 0, 255), size=(6, 12))
    text = "path,caption_1,caption_2\nblue.png,sea,\na/red.png,fire,a rose\nblue.png,the sky,\n"
    write_table(config, tmp_path, text)
    config.data.resize = "none"  # sizes differ, and are made one all the same
    captioned = load_captioned(config, 5)
    # An image is there for each of its captions; rows of one image are put together.
    assert captioned.captions == ("sea", "the sky", "fire", "a rose")
    assert captioned.paths == ("blue.png", "blue.png", "a/red.png", "a/red.png")
    expected = np.zeros((4, 5, 5, 3), np.uint8)
    expected[:2, ..., 2] = expected[2:, ..., 0] = 255
    np.testing.assert_array_equal(captioned.images, expected)


def test_the_resize_rule_is_that_of_the_data(config, tmp_path):
    stripes = np.zeros((4, 12, 3), np.uint8)
    stripes[:, 4:8] = 255
    Image.fromarray(stripes).save(tmp_path / "wide.png")
    write_table(config, tmp_path, "path,caption\nwide.png,a stripe\n")
    config.data.resize = "center_crop"
    assert load_captioned(config, 4).images.min() == 255
    config.data.resize = "squash"
    assert load_captioned(config, 4).images.min() == 0


def test_files_that_cannot_be_used_are_named(config, tmp_path):
    save(tmp_path / "good.png", (255, 0, 0))
    (tmp_path / "bad.png").write_text("no picture")
    write_table(config, tmp_path, "path,caption\ngood.png,a\nbad.png,b\ngone.png,c\n")
    with pytest.raises(UserError) as error:
        load_captioned(config, 4)
    message = str(error.value)
    assert message.startswith("2 of the 3 images of ") and "good.png" not in message
    assert "bad.png is not an image that can be read" in message
    assert "gone.png cannot be read (No such file or directory)" in message
    assert "\n" not in message


def test_a_table_that_is_wrong(config, tmp_path):
    write_table(config, tmp_path, "path,text\na.png,b\n")
    with pytest.raises(UserError, match=r"config\.captioned\.csv: .* has no column caption"):
        load_captioned(config, 4)
    config.captioned.csv = str(tmp_path / "gone.csv")
    with pytest.raises(UserError, match=r"there is no file .*gone\.csv"):
        load_captioned(config, 4)


def test_no_captioned_images(config):
    config.data.reference_share = 0.0
    with pytest.raises(
        UserError, match=r"config\.captioned\.csv.*or config\.data\.reference_share"
    ):
        load_captioned(config, 8)
    config.data.name = "folder"
    with pytest.raises(UserError, match=r"give config\.captioned\.csv, .*path,caption\.$"):
        load_captioned(config, 8)
    config.data.name, config.data.reference_share = "digits", 0.9999
    with pytest.raises(UserError, match=r"digits cannot be made: a share of 0\.9999"):
        load_captioned(config, 8)
