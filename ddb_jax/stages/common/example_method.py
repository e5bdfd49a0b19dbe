"""A method as it would be made for a run, from a training set of two images."""

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ddb_jax.debias.contract import TrainingSet
from ddb_jax.debias.method_config import method_settings
from ddb_jax.debias.table import method_entry
from ddb_jax.stages.common.networks import KINDS


def classifiers_in_step(config: ConfigDict, name: str) -> int:
    """Number of classifier passes per image in a training step of the method."""
    return passes_of(example_method(config, name))


def passes_of(method: Any) -> int:
    """The same for a method that was already built."""
    kinds = [spec.kind for spec in method.networks.values()]
    return method.views * sum(len(KINDS[kind].classifiers) for kind in kinds)


def example_method(config: ConfigDict, name: str) -> Any:
    """The method for a dummy training set of two images with everything it may need."""
    entry, numbers = method_entry(name), np.arange(2)
    training_set = TrainingSet(
        labels=numbers,
        num_classes=2,
        group_sizes=np.ones(2, np.int64),
        amplifier_loss=numbers.astype(np.float32),
        bias=numbers,
        flagged=numbers > 0,
        bias_features=numbers[:, None].astype(np.float32),
    )
    return entry.make(method_settings(config, entry), training_set)
