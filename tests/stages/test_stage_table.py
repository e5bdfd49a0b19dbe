"""The table of stages, and the config that a stage is shown."""

import pytest
from ml_collections import ConfigDict
from runs import make_tiny_config, run

from ddb_jax.configs import digits_diffubias
from ddb_jax.run import pipeline
from ddb_jax.stages.context import declared_config
from ddb_jax.stages.table import EVERYTHING, STAGES


@pytest.fixture
def config():
    return ConfigDict({"a": {"x": 1, "y": {"z": 2}}, "b": {"x": 3}, "c": 4, "d": {"x": 5, "y": 6}})


def test_a_stage_is_shown_what_it_declares_and_nothing_else(config):
    shown = declared_config(config, ("c", "d.y", "a"))
    assert shown.to_dict() == {"a": {"x": 1, "y": {"z": 2}}, "c": 4, "d": {"y": 6}}
    for read in (
        lambda: shown.b,
        lambda: shown["b"],
        lambda: shown.get("b"),
        lambda: shown.d.x,
        lambda: shown.copy_and_resolve_references().d.x,
    ):
        with pytest.raises((AttributeError, KeyError), match=r"'[bx]' is not declared in the sta"):
            read()


def test_a_section_holds_its_fields_however_they_are_named(config):
    assert declared_config(config, ("a.x", "a")).to_dict() == {"a": config.a.to_dict()}


def test_what_a_stage_changes_in_its_config_stays_with_it(config):
    shown = declared_config(config, ("a",))
    shown.a.y.z = 7
    assert config.a.y.z == 2


@pytest.mark.parametrize("name", STAGES)
def test_rows_name_sections_that_there_are(name):
    row, config = STAGES[name], digits_diffubias.get_config()
    for field in (*row.reads, *row.shows):
        part = config
        for word in () if field == EVERYTHING else field.split("."):
            part = part[word]
    assert row.data in ("generator", "classifier")
    assert row.trains in ("", "diffusion", "amplifier", "classifier")


def test_an_undeclared_read_stops_the_run(tmp_path, monkeypatch):
    """So that a result is never used again after a change of what it depends on."""
    row = STAGES["train_amplifier"]
    careless = row._replace(run=lambda context: {"steps": context.config.classifier.num_steps})
    monkeypatch.setitem(pipeline.STAGES, "train_amplifier", careless)
    config = make_tiny_config()
    config.amplifier.train_on = "real"
    with pytest.raises(AttributeError, match="'classifier' is not declared"):
        run(config, tmp_path, only="train_amplifier")
