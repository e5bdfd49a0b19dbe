"""Plain training with the generalised cross-entropy of Zhang and Sabuncu, NeurIPS 2018.

It favours easy examples, and so the bias. As a baseline it shows how biased the biased models of
other methods are.
"""

import functools
from typing import Protocol

from ddb_jax.debias.contract import Method, TrainingSet, plain
from ddb_jax.debias.losses import check_gce, generalized_cross_entropy


class GCESettings(Protocol):
    """Settings of the loss.

    Attributes:
        q: In [0, 1]: 0 is cross-entropy, 1 is 1 - p. LfF's biased network takes 0.7.
        scaled: The form of LfF's released code, stop_gradient(q p^q) times cross-entropy.
    """

    q: float
    scaled: bool


def make(settings: GCESettings, training_set: TrainingSet) -> Method:
    """Plain training with this loss instead of cross-entropy.

    Raises:
        ValueError: q lies outside [0, 1], or is 0 with `scaled`.
    """
    check_gce(settings.q, settings.scaled, owner="GCE", prefix="")
    loss = functools.partial(generalized_cross_entropy, q=settings.q, scaled=settings.scaled)
    return plain(per_example_loss=loss)
