"""How much electricity a stage took: measured where the machine tells, estimated elsewhere."""

import itertools
import logging
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ddb_jax.runtime import codecarbon_tracker

log = logging.getLogger("ddb_jax")

POWERCAP = Path("/sys/class/powercap")
JOULES_PER_WATT_HOUR = 3600.0
GPU_PLATFORMS = ("gpu", "cuda")

# Watts of one device of JAX, by the beginning of its kind; the first that fits holds.
NOMINAL_WATTS = {
    # Mean of Google's production applications, "TPU v4" and "TPU v3" in Google Cloud's
    # documentation; a TPU v2 or v3 chip is two devices.
    "TPU v4": 170.0,
    "TPU v3": 110.0,
    # 280 W a chip: Jouppi et al., "A domain-specific supercomputer for training deep neural
    # networks" (CACM 2020).
    "TPU v2": 140.0,
    # No figure is published of later ones; that of TPU v4 is taken.
    "TPU": 170.0,
    # Greatest board power in NVIDIA's data sheets (SXM where there are several).
    "NVIDIA H100": 700.0,
    "NVIDIA H200": 700.0,
    "NVIDIA A100": 400.0,
    "Tesla V100": 300.0,
    "Tesla T4": 70.0,
}
OTHER_WATTS = 300.0  # of a device that is not in the table: a common board power, no more
# A round figure between the 3.5 W of a server's core (AMD EPYC 7742: 225 W, 64 cores) and the
# 15.6 W of a desktop's (Intel Core i7-10700K: 125 W, 8 cores), by their makers' data sheets.
CPU_CORE_WATTS = 10.0


class Energy(NamedTuple):
    """What a stage took.

    Attributes:
        watt_hours: At least 0.
        source: "codecarbon" with its version, "RAPL counters", "nvidia-smi" or "estimate: N W for
            each of the M ...", and what else was counted or was not.
    """

    watt_hours: float
    source: str


def co2_grams(watt_hours: float, grams_per_kwh: float = 475.0) -> float:
    """Grams of CO2 of that much electricity.

    The default is the world's average of 2018 (IEA, Global Energy and CO2 Status Report 2019);
    single grids lie between about 20 and 800.
    """
    return watt_hours / 1000.0 * grams_per_kwh


class EnergyMeter:
    """Measures from `start` to `stop`, or over a `with` block; neither ever raises.

    On a CPU it reads the processors' RAPL counters, which are those of the whole machine, other
    programs' work included. On NVIDIA GPUs it samples the power that nvidia-smi shows of the
    devices, and adds the RAPL counters where they can be read. Elsewhere nominal watts times
    seconds stand in. Fans, disks, network and the losses of power supplies are not counted.

    Where the package codecarbon is installed, its figure is taken instead, but not on devices that
    it does not know, such as TPUs.

    Args:
        devices: The devices of JAX that the stage runs on, of this process's machine.
        powercap: Folder of the kernel's power counters.
        interval: Seconds between two samples. A counter of RAPL begins anew after its range, in
            minutes on a large machine, and once at most between two samples.

    Attributes:
        energy: What was used, after `stop`.
    """

    def __init__(
        self, devices: Iterable[Any] = (), *, powercap: Path = POWERCAP, interval: float = 5.0
    ) -> None:
        self.energy = Energy(0.0, "not measured")
        self._devices = [device for device in devices if device.platform != "cpu"]
        self._powercap = powercap
        self._interval = interval
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._zones: list[_Zone] = []
        self._gpu_command: list[str] = []
        self._gpu_watts: list[tuple[float, float]] = []
        self._begin: float | None = None
        self._tracker: Any = None

    def __enter__(self) -> "EnergyMeter":
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> "EnergyMeter":
        """Begin to measure."""
        try:
            self._begin = time.monotonic()
            if all(device.platform in GPU_PLATFORMS for device in self._devices):
                gpu_ids = _gpu_ids(self._devices)
                self._tracker = codecarbon_tracker.start(gpu_ids, self._interval)
            self._zones = rapl_zones(self._powercap)
            self._gpu_command = _nvidia_smi(self._devices)
            if self._zones or self._gpu_command:
                self._thread = threading.Thread(target=self._sample, daemon=True, name="energy")
                self._thread.start()
        except Exception as error:  # a figure of the report is no reason to end a run
            log.debug("energy: %s", error)
        return self

    def stop(self) -> Energy:
        """End it, and give what was used since `start`."""
        if self._begin is None or self._stopped.is_set():
            return self.energy
        try:
            seconds = time.monotonic() - self._begin
            self._stopped.set()
            if self._thread:
                self._thread.join(timeout=30.0)
            self.energy = self._total(seconds)
        except Exception as error:
            log.debug("energy: %s", error)
        return self.energy

    def _sample(self) -> None:
        last = False
        while True:
            for zone in self._zones:
                zone.read()
            if self._gpu_command:
                watts = _gpu_watts(self._gpu_command)
                if watts is not None:
                    self._gpu_watts.append((time.monotonic(), watts))
            if last:
                return
            last = self._stopped.wait(self._interval)  # one more sample at the very end

    def _total(self, seconds: float) -> Energy:
        if self._tracker:
            kilowatt_hours = codecarbon_tracker.stop(self._tracker, bool(self._devices))
            if kilowatt_hours:
                return Energy(1000.0 * kilowatt_hours, codecarbon_tracker.source())
        joules, sources = 0.0, []
        if self._gpu_watts:
            joules += mean_watts(self._gpu_watts) * seconds
            sources.append("nvidia-smi")
        elif self._devices:
            kind = self._devices[0].device_kind
            watts, count = nominal_watts(kind), len(self._devices)
            joules += watts * count * seconds
            sources.append(f"estimate: {watts:g} W for each of the {count} devices ({kind})")
        if self._zones:
            joules += sum(zone.microjoules for zone in self._zones) / 1e6
            sources.append("RAPL counters")
        elif not self._devices:
            cores = _num_cores()
            joules += CPU_CORE_WATTS * cores * seconds
            sources.append(f"estimate: {CPU_CORE_WATTS:g} W for each of the {cores} cores")
        else:
            sources.append("the host not counted")
        return Energy(joules / JOULES_PER_WATT_HOUR, ", ".join(sources))


class _Zone:
    """One counter of RAPL, summed up over its new beginnings."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "energy_uj"
        self._range = int((folder / "max_energy_range_uj").read_text())
        self._last = int(self._file.read_text())
        self.microjoules = 0

    def read(self) -> None:
        """Add what was used since the last reading; one that fails leaves it to the next."""
        try:
            now = int(self._file.read_text())
        except (OSError, ValueError):
            return
        passed = now - self._last
        self.microjoules += passed if passed >= 0 else passed + self._range
        self._last = now


def rapl_zones(powercap: Path) -> list[_Zone]:
    """The counters of all processor packages and of their memory; empty where none can be read.

    Those of parts of a package, "core" and "uncore", are in the package's already, and "psys" of a
    laptop has all others in it.
    """
    zones = []
    for folder in sorted(powercap.glob("intel-rapl:*")):
        try:
            if (folder / "name").read_text().strip().startswith(("package", "dram")):
                zones.append(_Zone(folder))
        except (OSError, ValueError):
            continue  # since 2020 the counters are readable by root alone, by default
    return zones


def nominal_watts(device_kind: str) -> float:
    """Watts of a device in NOMINAL_WATTS, or OTHER_WATTS."""
    for beginning, watts in NOMINAL_WATTS.items():
        if device_kind.startswith(beginning):
            return watts
    return OTHER_WATTS


def mean_watts(samples: list[tuple[float, float]]) -> float:
    """Mean over the time between the first and the last sample, by the trapezoidal rule.

    Args:
        samples: (seconds, watts), at least one, in order.
    """
    if samples[-1][0] <= samples[0][0]:
        return samples[-1][1]
    area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(samples))
    return area / (samples[-1][0] - samples[0][0])


def _nvidia_smi(devices: list[Any]) -> list[str]:
    """The command that prints the watts of these devices, one a line; empty where it cannot be."""
    binary = shutil.which("nvidia-smi")
    if not binary or not devices or any(d.platform not in GPU_PLATFORMS for d in devices):
        return []
    query = ["--query-gpu=power.draw", "--format=csv,noheader,nounits"]
    return [binary, *query, f"--id={','.join(_gpu_ids(devices))}"]


def _gpu_ids(devices: list[Any]) -> list[str]:
    """Index or UUID of each device among all of the machine; JAX numbers the visible ones."""
    names = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    visible = [name for name in names if name]
    chosen = [device.local_hardware_id for device in devices]
    return [visible[i] if visible else str(i) for i in chosen]


def _gpu_watts(command: list[str]) -> float | None:
    """Sum of the devices' watts; None where the command fails or a device does not tell."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        lines = result.stdout.split("\n")
        return sum(float(line) for line in lines if line.strip()) or None
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _num_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
