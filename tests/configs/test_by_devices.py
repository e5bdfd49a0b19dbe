"""Sizes that a config chooses by the devices."""

import jax
import pytest

from ddb_jax.configs import csv, folder, tfds


@pytest.mark.parametrize("module", [folder, csv, tfds])
def test_the_devices_choose_and_the_log_can_say_so(module, monkeypatch):
    chosen, cpu = module.get_config(), module.get_config("cpu")
    assert chosen.chosen.startswith("sizes of the preset cpu, for ")
    assert ":ddb_cpu" in chosen.chosen and cpu.chosen == ""
    chosen.chosen = ""
    assert chosen.to_dict() == cpu.to_dict() and chosen.name.endswith("_fast")

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    chosen, gpu = module.get_config(), module.get_config("gpu")
    assert chosen.chosen.startswith(f"sizes of the preset gpu, for {jax.device_count()} x ")
    chosen.chosen = ""
    assert chosen.to_dict() == gpu.to_dict() and gpu.amplifier.kind == "network"


def test_what_was_made_with_the_older_presets_keeps_its_place():
    assert folder.get_config("gpu").name == "folder"
    config = folder.get_config("ddb_cpu")  # once called cpu
    assert (config.name, config.diffusion.num_steps) == ("folder_cpu", 5_000)
