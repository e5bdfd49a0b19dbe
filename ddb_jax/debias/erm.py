"""Empirical risk minimisation: the mean loss, over uniform or group-balanced batches."""

from typing import Any

from ddb_jax.debias.method import Method, TrainingSet, plain


def make(settings: Any, training_set: TrainingSet) -> Method:
    """Plain training; it has no settings."""
    del settings, training_set
    return plain()


def make_resampling(settings: Any, training_set: TrainingSet) -> Method:
    """Plain loss on batches that hold every group equally often; it has no settings.

    Called RWG in Idrissi et al., "Simple data balancing achieves competitive worst-group-accuracy"
    (CLeaR 2022).
    """
    del settings, training_set
    return plain(sampling="group_balanced")
