"""The energy meter with and without codecarbon, of which the test writes a stand-in."""

import importlib
import sys
from types import SimpleNamespace

import pytest

from ddb_jax.runtime.energy import EnergyMeter, co2_grams

CPU = SimpleNamespace(platform="cpu", local_hardware_id=0)
GPU = SimpleNamespace(platform="gpu", local_hardware_id=1)
TPU = SimpleNamespace(platform="tpu", local_hardware_id=0)

CODECARBON = """
from types import SimpleNamespace

__version__ = "1.2.3"
calls = []


class OfflineEmissionsTracker:
    def __init__(self, **options):
        calls.append(options)

    def start(self):
        calls.append("start")

    def stop(self):
        calls.append("stop")
        self.final_emissions_data = SimpleNamespace(energy_consumed={kwh}, gpu_energy={gpu})
"""
TRACKER = """
class BaseEmissionsTracker:
    def __init__(self, country_iso_code=None, {silent}=None):
        pass
"""


@pytest.fixture
def codecarbon(tmp_path, monkeypatch):
    """Install a stand-in for the package, which gives these figures."""

    def install(kwh, gpu=0.0, silent="output_methods"):
        folder = tmp_path / "packages" / "codecarbon"
        folder.mkdir(parents=True)
        text = CODECARBON.replace("{kwh}", str(kwh)).replace("{gpu}", str(gpu))
        (folder / "__init__.py").write_text(text)
        (folder / "emissions_tracker.py").write_text(TRACKER.replace("{silent}", silent))
        monkeypatch.syspath_prepend(folder.parent)
        del sys.modules["codecarbon"]
        return importlib.import_module("codecarbon").calls

    yield install
    for name in ("codecarbon", "codecarbon.emissions_tracker"):
        sys.modules.pop(name, None)


@pytest.fixture(autouse=True)
def no_codecarbon(monkeypatch):
    """The package is not installed, whether it is or not."""
    monkeypatch.setitem(sys.modules, "codecarbon", None)


def test_without_codecarbon_nothing_is_measured():
    for device in (CPU, GPU, TPU):
        with EnergyMeter([device]) as meter:
            pass
        assert meter.energy == (None, None)


@pytest.mark.parametrize(("silent", "value"), [("output_methods", []), ("save_to_file", False)])
def test_codecarbon_is_taken_where_it_is_installed(silent, value, codecarbon):
    calls = codecarbon(0.12345678, silent=silent)
    with EnergyMeter([CPU] * 8) as meter:
        assert calls[1:] == ["start"]
    assert meter.energy == (123.4568, "codecarbon 1.2.3, which estimates what no counter tells")
    options, *rest = calls
    assert rest == ["start", "stop"]
    assert options[silent] == value  # no file
    assert options["allow_multiple_runs"] is True  # or it would replace the handlers of signals
    assert "gpu_ids" not in options


@pytest.mark.parametrize("kwh", ["0.0", "float('nan')", "1 / 0"])
def test_no_figure_of_codecarbon_is_none_here(kwh, codecarbon):
    calls = codecarbon(kwh)
    with EnergyMeter([CPU]) as meter:
        pass
    assert "stop" in calls
    assert meter.energy == (None, None)


def test_codecarbon_must_count_the_devices(codecarbon, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    calls = codecarbon(0.5, gpu=0.0)
    with EnergyMeter([GPU]) as meter:
        pass
    assert meter.energy == (None, None)
    assert calls[0]["gpu_ids"] == ["GPU-b"]
    calls.clear()
    with EnergyMeter([TPU]) as meter:
        pass
    assert calls == [] and meter.energy == (None, None)


def test_what_codecarbon_counts_of_the_devices_is_taken(codecarbon, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    calls = codecarbon(0.5, gpu=0.4)
    with EnergyMeter([GPU]) as meter:
        pass
    assert meter.energy.watt_hours == 500.0
    assert calls[0]["gpu_ids"] == ["1"]


def test_nothing_is_raised_but_what_the_stage_raises(codecarbon):
    codecarbon(0.5)
    with EnergyMeter([SimpleNamespace(platform="gpu")]) as meter:  # lacks its number
        pass
    assert meter.energy == (None, None)
    with pytest.raises(KeyError), EnergyMeter([CPU]) as meter:
        raise KeyError("the stage's own")
    assert meter.energy.watt_hours == 500.0


def test_co2():
    assert co2_grams(2000.0) == pytest.approx(950.0)
    assert co2_grams(500.0, grams_per_kwh=20.0) == pytest.approx(10.0)
