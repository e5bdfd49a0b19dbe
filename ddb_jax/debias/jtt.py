"""Just Train Twice (Liu et al., ICML 2021): what a first model misclassifies is repeated.

The first model is a briefly trained one (the method as published) or DDB's amplifier.
"""

from typing import Protocol

import numpy as np

from ddb_jax.debias.contract import Method, TrainingSet, plain


class JTTSettings(Protocol):
    """Settings of Just Train Twice.

    Attributes:
        upweight: lambda, how often an example of the error set occurs per epoch; the published
            grid is 20, 50, 100.
    """

    upweight: int


def make(settings: JTTSettings, training_set: TrainingSet) -> Method:
    """Plain training on a set that contains every flagged example `upweight` times.

    Examples are repeated as in the released code, not weighted: a weight would change the noise of
    the gradient.

    Raises:
        ValueError: There is no error set, or upweight is below 1.
    """
    if training_set.flagged is None:
        raise ValueError("JTT needs the examples that a first model misclassifies.")
    if settings.upweight < 1:
        raise ValueError(f"upweight of JTT is {settings.upweight}; it must be at least 1.")
    repeats = np.where(training_set.flagged, settings.upweight, 1).astype(np.int32)
    return plain(repeats=repeats)
