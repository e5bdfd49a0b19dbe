"""Every field of the shipped configs has its row, and no row is of a field that is nowhere."""

import importlib
from pathlib import Path

import pytest

from ddb_jax.checks.config import check_config
from ddb_jax.checks.field_values import FIELDS, Field
from ddb_jax.configs import base, cmnist
from ddb_jax.configs import presets as shared_presets
from ddb_jax.run.records import flatten
from ddb_jax.runtime.errors import UserError

FOLDER = Path(base.__file__).parent


@pytest.fixture(scope="module")
def shipped():
    """The fields of every config and preset of configs/, by "file:preset"."""
    found = {}
    presets = {""}
    with pytest.MonkeyPatch.context() as patch:
        apply_preset = shared_presets.apply_preset

        def spy(config, preset, known):
            presets.update(known)
            return apply_preset(config, preset, known)

        patch.setattr(shared_presets, "apply_preset", spy)
        for path in sorted(FOLDER.glob("*.py")):
            module = importlib.import_module(f"ddb_jax.configs.{path.stem}")
            if not hasattr(module, "get_config"):
                continue
            presets.clear()
            module.get_config()
            for preset in ("", *sorted(presets)):
                config = module.get_config(preset)
                found[f"{path.stem}:{preset}"] = flatten(config.to_dict())
    return found


def test_the_presets_are_found(shipped):
    assert {"digits:", "digits:smoke", "cmnist:published", "tfds:cpu", "bar:smoke"} <= set(shipped)


def test_every_number_has_a_range_and_every_list_a_type(shipped):
    for config, fields in shipped.items():
        for name, value in fields.items():
            field = FIELDS.get(name, Field())
            if isinstance(value, int | float) and not isinstance(value, bool):
                assert field.range, f"{name} of {config}"
                assert not field.choices and not field.entries, name
                assert field.range.holds(value), f"{name} of {config} is {value}"
            else:
                assert field.range is None, f"{name} of {config} holds no number"
            assert bool(field.entries) == isinstance(value, list), f"{name} of {config}"


def test_shipped_choices_are_choices(shipped):
    for config, fields in shipped.items():
        for name, value in fields.items():
            field = FIELDS.get(name, Field())
            if field.choices and name != "data.name":  # which base.py leaves empty
                assert value in field.choices, f"{name} of {config}"


def test_every_row_names_a_field_of_some_config(shipped):
    assert set(FIELDS) <= {name for fields in shipped.values() for name in fields}


def test_exceptions_of_the_fingerprint_are_fields_of_a_section():
    """A new field that is called `cache`, in any other section, counts by its value."""
    exceptions = {name for name, field in FIELDS.items() if field.counts != "value"}
    assert all("." in name for name in exceptions - {"chosen"})  # it names no section's field
    assert {"data.root", "classifier.weights", "text_to_image.folder"} <= exceptions
    assert {field.counts for field in FIELDS.values()} == {"value", "nothing", "content", "listing"}


@pytest.mark.parametrize(
    ("name", "held", "refused", "words"),
    [
        ("learning_rate", (1e-9,), (0.0, -1.0), "greater than 0"),
        ("grad_clip", (0.0, 3.0), (-1e-9,), "at least 0"),
        ("momentum", (0.0, 0.999), (-0.1, 1.0), "at least 0 and less than 1"),
    ],
)
def test_sections_of_one_kind_share_their_ranges(name, held, refused, words):
    sections = (
        "diffusion",
        "amplifier",
        "classifier",
        "train_text_to_image.autoencoder",
        "train_text_to_image.diffusion",
    )
    for section in sections:
        found = FIELDS[f"{section}.{name}"].range
        assert found.words == words
        assert all(map(found.holds, held)) and not any(map(found.holds, refused))


@pytest.mark.parametrize(
    ("name", "held", "refused"),
    [
        ("data.severity", (1, 5), (0, 6)),
        ("data.seed", (0, 2**32 - 1), (-1, 2**32)),
        ("pseudo_groups.gamma", (-2.0, 0.0, 3.0), ()),
        ("pseudo_groups.top_share", (0.01, 0.99), (0.0, 1.0)),
        ("unet.dropout", (0.0, 0.9), (-0.1, 1.0)),
        ("diffusion.beta_start", (0.001,), (0.0, 1.0)),
        # A learning rate of 0 freezes a backbone; a second network that never learns is no use.
        ("classifier.backbone_lr_scale", (0.0, 1.0), (-0.1,)),
        ("selecmix.auxiliary_lr_scale", (0.1,), (0.0, -0.1)),
        ("rebias.biased_lr_scale", (0.1,), (0.0, -0.1)),
        ("debian.discoverer_lr_scale", (0.1,), (0.0, -0.1)),
        # 0 is classifier.num_steps.
        ("biased.num_steps", (0, 10), (-1,)),
        ("reference.num_steps", (1,), (0, -1)),
    ],
)
def test_single_ranges(name, held, refused):
    found = FIELDS[name].range
    assert all(map(found.holds, held)) and not any(map(found.holds, refused))


def test_what_is_wrong_is_said_by_its_dotted_name():
    config = cmnist.get_config("smoke")
    config.data.severity = 6
    config.classifier.optimizer = "adamv"
    config.train_text_to_image.diffusion.num_steps = 0
    with pytest.raises(UserError) as error:
        check_config(config)
    for sentence in (
        "config.data.severity is 6, it must be between 1 and 5",
        "config.classifier.optimizer is 'adamv', the nearest of adamw, sgd is 'adamw'",
        "config.train_text_to_image.diffusion.num_steps is 0, it must be greater than 0",
    ):
        assert sentence in str(error.value)


def test_lists_are_checked_by_their_entries():
    config = cmnist.get_config("smoke")
    config.dfr.c_grid = (1, 0.5)
    config.train_text_to_image.unet_channels = (8, 8.5)
    with pytest.raises(UserError) as error:
        check_config(config)
    assert str(error.value) == (
        "config.train_text_to_image.unet_channels is (8, 8.5), it must be a list of whole numbers."
    )
