"""A small random search over the hyperparameters of a method, chosen by its selection rule."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ddb_jax.debias.table import method_entry
from ddb_jax.runtime.files import read_json
from ddb_jax.stages.context import Context

# Factor of the config's learning rate.
LEARNING_RATE = (0.1, 10.0, "log")


def sample_values(config: ConfigDict, method: str, number: int) -> dict[str, Any]:
    """Field values of one try: number 0 is the config as it is, the others are drawn.

    A draw depends only on `search.seed`, the method and the number, so a larger budget extends a
    smaller one.
    """
    if number == 0:
        return {}
    rng = np.random.default_rng([config.search.seed, *method.encode(), number])
    entry = method_entry(method)
    values: dict[str, Any] = {}
    if entry.stage == "train_classifier":
        values["classifier.learning_rate"] = config.classifier.learning_rate * _sample(
            rng, LEARNING_RATE
        )
    for field, source in entry.search:
        values[field] = _sample(rng, source)
    return values


def _sample(rng: np.random.Generator, source: tuple[float, float, str] | list[Any]) -> Any:
    if isinstance(source, list):
        return source[int(rng.integers(len(source)))]
    low, high, scale = source
    if scale == "log":
        return float(f"{math.exp(rng.uniform(math.log(low), math.log(high))):.3g}")
    return float(f"{rng.uniform(low, high):.3g}")


def with_values(config: ConfigDict, values: Mapping[str, Any]) -> ConfigDict:
    """A copy of the config with these fields changed."""
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(values)
    return config


def tuned(context: Context) -> tuple[Context, dict[str, Any]]:
    """The context with the settings of its own try, or of the best try among those it reads.

    Returns:
        The context, and a record: the settings, and the number of tries.
    """
    values, tries = context.options.get("values", {}), 1
    candidates = [read_json(f / "selection.json") for n, f in context.inputs.items() if "try" in n]
    if candidates:
        tries = len(candidates)
        best = max(candidates, key=lambda candidate: tuple(candidate["score"]))
        values = best["values"]
    if values:
        context = dataclasses.replace(context, config=with_values(context.config, values))
    return context, {"values": values, "tries": tries}
