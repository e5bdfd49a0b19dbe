"""Which devices compute in bfloat16."""

import re
from collections.abc import Iterable
from typing import Any

# The first NVIDIA GPUs with bfloat16 arithmetic are Ampere's.
LEAST_CAPABILITY = 8.0


def bfloat16_problem(fields: Iterable[str], device: Any) -> str:
    """An error message if the device has no bfloat16 arithmetic; "" otherwise.

    A CPU without it emulates it: see `bfloat16_warning`.

    Args:
        fields: Config fields that ask for bfloat16; without any there is no problem.
        device: JAX device.
    """
    names = _fields(fields)
    capability = str(getattr(device, "compute_capability", ""))
    # AMD's are names such as gfx90a; all AMD GPUs that JAX supports have bfloat16.
    is_number = re.fullmatch(r"\d+(\.\d+)?", capability)
    if not names or device.platform == "cpu" or not is_number:
        return ""
    if float(capability) >= LEAST_CAPABILITY:
        return ""
    return (
        f"{names} 'bfloat16', and {device.device_kind} has no bfloat16 arithmetic (its compute"
        f" capability is {capability}, and {LEAST_CAPABILITY} is the first with it): take 'float32'"
    )


def bfloat16_warning(fields: Iterable[str], device: Any) -> str:
    """A warning if bfloat16 is correct but slow; "" otherwise."""
    names = _fields(fields)
    if not names or device.platform != "cpu":
        return ""
    return (
        f"{names} 'bfloat16', which is emulated on a CPU: it takes less memory, and more time than"
        " 'float32'"
    )


def _fields(names: Iterable[str]) -> str:
    names = [f"config.{name}" for name in names]
    return f"{' and '.join(names)} {'are' if len(names) > 1 else 'is'}" if names else ""
