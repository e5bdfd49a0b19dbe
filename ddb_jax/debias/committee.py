"""The committee of biased networks of BiasEnsemble (Lee et al., AAAI 2023).

Its members learn with the generalised cross-entropy from different first weights; an image on which
too few of them are sure of the label is flagged as bias-conflicting, and the biased network of
Learning from Failure or DisEnt then learns only from the others.
"""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from ddb_jax.debias.contract import Batch, JointMethod, NetworkSpec, State, no_state
from ddb_jax.debias.losses import accuracy, check_gce, generalized_cross_entropy


class CommitteeSettings(Protocol):
    """Settings of the committee; the values named are the released code's.

    Attributes:
        members: Networks, 5.
        gce_q: q of their loss, 0.7.
        gce_scaled: The released code's form of that loss, with q times the gradient.
        confidence: A member agrees with a label that it gives a probability above this, 0.99.
        agreement: Number of members that must agree for an image to count as aligned, 3.
    """

    members: int
    gce_q: float
    gce_scaled: bool
    confidence: float
    agreement: int


def member_names(settings: CommitteeSettings) -> tuple[str, ...]:
    """Names of the networks; the first is "main"."""
    return ("main", *(f"member_{i}" for i in range(1, settings.members)))


def make(settings: CommitteeSettings) -> JointMethod:
    """All members in one step, on the same batches; loss = sum of their mean GCE.

    The released code trains them one after the other, on separate batches.

    Raises:
        ValueError: More members have to agree than there are, or there is none, or gce_q lies
            outside [0, 1] or is 0 with gce_scaled.
    """
    if not 1 <= settings.agreement <= settings.members:
        raise ValueError(
            f"agreement of the committee is {settings.agreement}; it must lie between 1 and its"
            f" number of members, {settings.members}."
        )
    check_gce(settings.gce_q, settings.gce_scaled, owner="the committee")
    names = member_names(settings)

    def loss(
        network: Callable[..., Any], method_state: State, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, State, dict[str, jax.Array]]:
        del key
        logits = {name: network(name, batch["x"])[0] for name in names}
        losses = [
            jnp.mean(
                generalized_cross_entropy(
                    logits[name], batch["label"], settings.gce_q, scaled=settings.gce_scaled
                )
            )
            for name in names
        ]
        metrics = {"train_accuracy": accuracy(logits["main"], batch["label"])}
        return sum(losses), method_state, metrics

    return JointMethod(
        columns=(),
        sampling="uniform",
        init_state=no_state,
        loss=loss,
        networks={name: NetworkSpec() for name in names},
    )


def flag_conflicting(
    label_probabilities: np.ndarray, settings: CommitteeSettings
) -> tuple[np.ndarray, np.ndarray]:
    """The committee's vote.

    Args:
        label_probabilities: [M, N], what every member gives every image's own label.
        settings: confidence and agreement.

    Returns:
        bool [N], True where fewer than `agreement` members are surer than `confidence`; and the
        share of members that are not, float [N], by which images are ranked.
    """
    doubts = ~(np.asarray(label_probabilities) > settings.confidence)
    return np.sum(~doubts, axis=0) < settings.agreement, doubts.mean(axis=0)
