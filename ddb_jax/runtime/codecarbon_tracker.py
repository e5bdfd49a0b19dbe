"""The package codecarbon (https://codecarbon.io) as a meter of energy, where it is installed.

It counts processors, memory and GPUs of the whole machine, by counters where it can read them and
by models of their power elsewhere. Nothing here raises, writes a file or needs a network.
"""

import importlib.util
import inspect
import logging
import math
from collections.abc import Sequence
from typing import Any

log = logging.getLogger("ddb_jax")


def start(gpu_ids: Sequence[str], interval: float) -> Any:
    """A tracker that counts from now on; None without the package, or where it fails.

    Args:
        gpu_ids: Indices or UUIDs of the GPUs to count; none leaves it to codecarbon.
        interval: Seconds between two samples.
    """
    try:
        if importlib.util.find_spec("codecarbon") is None:
            return None
        import codecarbon
        from codecarbon.emissions_tracker import BaseEmissionsTracker

        logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
        # Releases before 3.3 do not know output_methods, which has replaced save_to_file.
        options = inspect.signature(BaseEmissionsTracker.__init__).parameters
        silent = {"output_methods": []} if "output_methods" in options else {"save_to_file": False}
        tracker = codecarbon.OfflineEmissionsTracker(
            country_iso_code="USA",  # it must be told one; the grams it makes of it are not read
            measure_power_secs=interval,
            log_level="critical",
            allow_multiple_runs=True,  # else it takes SIGINT and SIGTERM for itself
            **silent,
            **({"gpu_ids": list(gpu_ids)} if gpu_ids else {}),
        )
        tracker.start()
        return tracker
    except Exception as error:  # a figure of the report is no reason to end a run
        log.debug("codecarbon: %s", error)
        return None


def stop(tracker: Any, gpus: bool) -> float | None:
    """Kilowatt-hours since `start`; None where it has none, or none of the GPUs that there are."""
    try:
        tracker.stop()
        data = tracker.final_emissions_data
        energy = float(data.energy_consumed)
        counted = not gpus or data.gpu_energy > 0
        return energy if counted and math.isfinite(energy) and energy > 0 else None
    except Exception as error:
        log.debug("codecarbon: %s", error)
        return None


def source() -> str:
    """What to call it in a report."""
    import codecarbon

    return f"codecarbon {codecarbon.__version__}, which estimates what no counter tells"
