"""The energy meter on counters and an nvidia-smi that are written by the test."""

import importlib
import os
import sys
import time
from types import SimpleNamespace

import pytest

from ddb_jax.runtime import energy
from ddb_jax.runtime.energy import EnergyMeter, co2_grams, mean_watts, rapl_zones

CPU = SimpleNamespace(platform="cpu", device_kind="cpu", local_hardware_id=0)
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def device(platform, kind, number=0):
    return SimpleNamespace(platform=platform, device_kind=kind, local_hardware_id=number)


@pytest.fixture(autouse=True)
def no_codecarbon(monkeypatch):
    """The package is not installed, whether it is or not."""
    monkeypatch.setitem(sys.modules, "codecarbon", None)


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(energy.time, "monotonic", lambda: now.seconds)
    return now


@pytest.fixture
def powercap(tmp_path):
    """A folder like the kernel's, with two packages, a memory, a core and a whole system."""

    def write(folder, name, microjoules, largest=1_000_000_000):
        path = tmp_path / "powercap" / folder
        path.mkdir(parents=True, exist_ok=True)
        (path / "name").write_text(f"{name}\n")
        (path / "energy_uj").write_text(f"{microjoules}\n")
        (path / "max_energy_range_uj").write_text(f"{largest}\n")

    write("intel-rapl:0", "package-0", 900_000_000)
    write("intel-rapl:0:0", "core", 5)
    write("intel-rapl:0:1", "dram", 100_000_000)
    write("intel-rapl:1", "package-1", 0)
    write("intel-rapl:2", "psys", 7)
    write("intel-rapl-mmio:0", "package-0", 900_000_000)
    (tmp_path / "powercap/intel-rapl").mkdir()
    return SimpleNamespace(path=tmp_path / "powercap", write=write)


def nvidia_smi(folder, monkeypatch, body):
    """Put a program of that name first on PATH, written in Python."""
    script = folder / "nvidia-smi"
    script.write_text(f"#!{sys.executable}\nimport sys\n{body}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_counters_are_summed_and_begin_anew(powercap):
    with EnergyMeter([CPU], powercap=powercap.path, interval=60.0) as meter:
        powercap.write("intel-rapl:0", "package-0", 200_000_000)  # 100 J to the range, 200 J after
        powercap.write("intel-rapl:0:0", "core", 900_000_000)
        powercap.write("intel-rapl:0:1", "dram", 112_000_000)
        powercap.write("intel-rapl:1", "package-1", 48_000_000)
        powercap.write("intel-rapl:2", "psys", 900_000_000)
    assert meter.energy.source == "RAPL counters"
    assert meter.energy.watt_hours == pytest.approx((300 + 12 + 48) / 3600, rel=1e-12)


def test_a_counter_may_begin_anew_often(powercap):
    zone = rapl_zones(powercap.path)[0]
    for microjoules in (400_000_000, 900_000_000) * 2:  # each 500 J on, over the range or not
        powercap.write("intel-rapl:0", "package-0", microjoules)
        zone.read()
    (powercap.path / "intel-rapl:0/energy_uj").write_text("")
    zone.read()
    assert zone.microjoules == 2_000_000_000


def test_unreadable_counters_give_an_estimate(powercap, clock):
    for path in powercap.path.glob("*/energy_uj"):
        path.unlink()
    meter = EnergyMeter([CPU] * 8, powercap=powercap.path).start()
    clock.seconds += 1800
    # The cores count, not the devices that are emulated on them.
    assert meter.stop() == (
        pytest.approx(10 * CORES / 2),
        f"estimate: 10 W for each of the {CORES} cores",
    )
    clock.seconds += 1800
    assert meter.stop() == meter.energy and meter.energy.watt_hours == pytest.approx(5 * CORES)


def test_a_sampled_power_is_integrated(tmp_path, monkeypatch):
    # The two devices are the third and the first of the machine's; the power is theirs by name.
    body = "assert '--id=GPU-c,GPU-a' in sys.argv\nprint('300.50\\n 99.50')"
    nvidia_smi(tmp_path, monkeypatch, body)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b,GPU-c")
    gpus = [device("gpu", "NVIDIA H100 80GB HBM3", i) for i in (2, 0)]
    begin = time.monotonic()
    meter = EnergyMeter(gpus, powercap=tmp_path, interval=0.05).start()
    time.sleep(0.3)
    watt_hours, source = meter.stop()
    elapsed = time.monotonic() - begin
    assert source == "nvidia-smi, the host not counted"
    assert 400 * 0.3 / 3600 <= watt_hours <= 400 * elapsed / 3600


def test_gpus_and_counters_add_up(tmp_path, monkeypatch, powercap):
    nvidia_smi(tmp_path, monkeypatch, "print('0.001')")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    meter = EnergyMeter([device("gpu", "x")], powercap=powercap.path, interval=60.0).start()
    powercap.write("intel-rapl:1", "package-1", 36_000_000)
    watt_hours, source = meter.stop()
    assert source == "nvidia-smi, RAPL counters"
    assert watt_hours == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("body", ["print('[N/A]')", "sys.exit(9)"])
def test_a_gpu_that_does_not_tell_is_estimated(tmp_path, monkeypatch, body):
    nvidia_smi(tmp_path, monkeypatch, body)
    meter = EnergyMeter([device("gpu", "NVIDIA A100-SXM4-40GB")], powercap=tmp_path).start()
    source = meter.stop().source
    assert source == (
        "estimate: 400 W for each of the 1 devices (NVIDIA A100-SXM4-40GB), the host not counted"
    )


@pytest.mark.parametrize(
    ("kind", "watts"),
    [("TPU v4", 170), ("TPU v3", 110), ("TPU v5 lite", 170), ("a new thing", 300)],
)
def test_nominal_watts(kind, watts, tmp_path, clock):
    meter = EnergyMeter([device("tpu", kind, i) for i in range(4)], powercap=tmp_path).start()
    clock.seconds += 3600
    assert meter.stop() == (
        pytest.approx(4 * watts),
        f"estimate: {watts} W for each of the 4 devices ({kind}), the host not counted",
    )


def test_the_mean_weighs_samples_by_their_time():
    # 100 W at 0 s, 200 W at 1 s, 100 W at 4 s: areas 150 and 450 over 4 s.
    assert mean_watts([(0.0, 100.0), (1.0, 200.0), (4.0, 100.0)]) == pytest.approx(150.0)
    assert mean_watts([(3.0, 70.0)]) == 70.0


def test_nothing_is_raised(tmp_path):
    strange = [SimpleNamespace(platform="gpu")]  # lacks its kind and number
    with EnergyMeter(strange, powercap=tmp_path) as meter:
        pass
    assert meter.energy == (0.0, "not measured")
    assert EnergyMeter([CPU]).stop() == (0.0, "not measured")
    with pytest.raises(KeyError), EnergyMeter([CPU], powercap=tmp_path) as meter:
        raise KeyError("the stage's own")
    assert meter.energy.source.startswith("estimate")


def test_co2():
    assert co2_grams(2000.0) == pytest.approx(950.0)
    assert co2_grams(500.0, grams_per_kwh=20.0) == pytest.approx(10.0)


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


@pytest.mark.parametrize(("silent", "value"), [("output_methods", []), ("save_to_file", False)])
def test_codecarbon_is_taken_where_it_is_installed(silent, value, codecarbon, powercap, clock):
    calls = codecarbon(0.5, silent=silent)
    meter = EnergyMeter([CPU], powercap=powercap.path, interval=60.0).start()
    clock.seconds += 1800
    assert meter.stop() == (500.0, "codecarbon 1.2.3, which estimates what no counter tells")
    options, *rest = calls
    assert rest == ["start", "stop"]
    assert options[silent] == value  # no file
    assert options["allow_multiple_runs"] is True  # or it would replace the handlers of signals
    assert "gpu_ids" not in options


@pytest.mark.parametrize("kwh", ["0.0", "float('nan')", "1 / 0"])
def test_without_a_figure_of_codecarbon_the_own_one_stands(kwh, codecarbon, tmp_path, clock):
    calls = codecarbon(kwh)
    meter = EnergyMeter([CPU], powercap=tmp_path / "none").start()
    clock.seconds += 3600
    watt_hours, source = meter.stop()
    assert "stop" in calls
    assert watt_hours == pytest.approx(10 * CORES) and source.startswith("estimate: 10 W")


def test_codecarbon_must_count_the_devices(codecarbon, tmp_path, monkeypatch, clock):
    monkeypatch.setenv("PATH", str(tmp_path))  # without an nvidia-smi
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    calls = codecarbon(0.5, gpu=0.0)
    meter = EnergyMeter([device("gpu", "NVIDIA A100", 1)], powercap=tmp_path).start()
    clock.seconds += 3600
    assert meter.stop().watt_hours == pytest.approx(400)
    assert calls[0]["gpu_ids"] == ["GPU-b"]
    calls.clear()
    EnergyMeter([device("tpu", "TPU v4")], powercap=tmp_path).start().stop()
    assert calls == []
