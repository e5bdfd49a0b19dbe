"""How much electricity a stage took, where the package codecarbon is installed.

codecarbon (https://codecarbon.io) counts processors, memory and GPUs of the whole machine, by
counters where it can read them and by models of their power elsewhere. Without it nothing is
measured: a guess from nominal power would be a number that nobody can check.
"""

import importlib.util
import inspect
import logging
import math
import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

log = logging.getLogger("ddb_jax")

GPU_PLATFORMS = ("gpu", "cuda")
SAMPLED_EVERY = 5.0  # seconds


class Energy(NamedTuple):
    """What a stage took.

    Attributes:
        watt_hours: At least 0; None where it was not measured.
        source: What measured it; None where nothing did.
    """

    watt_hours: float | None = None
    source: str | None = None


def co2_grams(watt_hours: float, grams_per_kwh: float = 475.0) -> float:
    """Grams of CO2 of that much electricity.

    The default is the world's average of 2018 (IEA, Global Energy and CO2 Status Report 2019);
    single grids lie between about 20 and 800.
    """
    return watt_hours / 1000.0 * grams_per_kwh


class EnergyMeter:
    """Measures over a `with` block; never raises, writes no file and needs no network.

    Devices that codecarbon does not know, such as TPUs, are not measured.

    Args:
        devices: The devices of JAX that the stage runs on, of this process's machine.

    Attributes:
        energy: What was used, after the block.
    """

    def __init__(self, devices: Iterable[Any]) -> None:
        self.energy = Energy()
        self._devices = [device for device in devices if device.platform != "cpu"]
        self._tracker: Any = None

    def __enter__(self) -> "EnergyMeter":
        try:
            if importlib.util.find_spec("codecarbon") and all(
                device.platform in GPU_PLATFORMS for device in self._devices
            ):
                self._tracker = _start(_gpu_ids(self._devices))
        except Exception as error:  # a figure of the report is no reason to end a run
            log.debug("codecarbon: %s", error)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._tracker is None:
            return
        try:
            self.energy = _stop(self._tracker, bool(self._devices))
        except Exception as error:
            log.debug("codecarbon: %s", error)


def _start(gpu_ids: Sequence[str]) -> Any:
    """A tracker that counts from now on; without GPUs the choice of them is codecarbon's."""
    import codecarbon
    from codecarbon.emissions_tracker import BaseEmissionsTracker

    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
    # Releases before 3.3 do not know output_methods, which has replaced save_to_file.
    options = inspect.signature(BaseEmissionsTracker.__init__).parameters
    silent = {"output_methods": []} if "output_methods" in options else {"save_to_file": False}
    tracker = codecarbon.OfflineEmissionsTracker(
        country_iso_code="USA",  # it must be told one; the grams it makes of it are not read
        measure_power_secs=SAMPLED_EVERY,
        log_level="critical",
        allow_multiple_runs=True,  # else it takes SIGINT and SIGTERM for itself
        **silent,
        **({"gpu_ids": list(gpu_ids)} if gpu_ids else {}),
    )
    tracker.start()
    return tracker


def _stop(tracker: Any, gpus: bool) -> Energy:
    """What was used since `_start`; nothing where the GPUs that there are were not counted."""
    import codecarbon

    tracker.stop()
    data = tracker.final_emissions_data
    watt_hours = 1000.0 * float(data.energy_consumed)
    if (gpus and not data.gpu_energy > 0) or not math.isfinite(watt_hours) or watt_hours <= 0:
        return Energy()
    source = f"codecarbon {codecarbon.__version__}, which estimates what no counter tells"
    return Energy(round(watt_hours, 4), source)


def _gpu_ids(devices: list[Any]) -> list[str]:
    """Index or UUID of each device among all of the machine; JAX numbers the visible ones."""
    names = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    visible = [name for name in names if name]
    chosen = [device.local_hardware_id for device in devices]
    return [visible[i] if visible else str(i) for i in chosen]
