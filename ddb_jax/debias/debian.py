"""DebiAN (Li et al., ECCV 2022): a discoverer splits each class where the classifier is unfair.

A second network, the discoverer, softly assigns the examples of every class to the two groups that
the classifier treats most differently. The classifier gives the larger weight to the group that it
serves worse. Neither bias labels nor a biased network are needed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from ddb_jax.debias.contract import Batch, JointMethod, NetworkSpec, State, TrainingSet
from ddb_jax.debias.losses import accuracy, cross_entropy

EPSILON = 1e-6
FAR_BELOW = -1e9  # below every log-membership, and finite: a class may have no example


class DebiANSettings(Protocol):
    """Settings of DebiAN; the values named are its paper's.

    Attributes:
        lambda_balance: Weight of the term that keeps a class from falling into one group, 1.
        discoverer_lr_scale: The discoverer's share of the learning rate, 1.
    """

    lambda_balance: float
    discoverer_lr_scale: float


class Split(NamedTuple):
    """The two soft groups of every class in a batch.

    Attributes:
        member: s, float32 [B], the membership of each example in the first group of its class.
        first: P+, float32 [K], the first group's mean probability of the true class.
        second: P-, float32 [K], the second group's.
        balance: 1 - |mean of s - mean of 1 - s|, float32 [K], 1 for groups of one size.
        count: float32 [K], the class's examples in the batch; for a class without any the other
            fields are finite but meaningless.
    """

    member: jax.Array
    first: jax.Array
    second: jax.Array
    balance: jax.Array
    count: jax.Array


def make(settings: DebiANSettings, training_set: TrainingSet) -> JointMethod:
    """Loss = mean of weight * CE of the classifier + the discoverer's loss.

    With s the sigmoid of the discoverer's logit of the example's own class, p the classifier's
    probability of that class, P+ = sum(s p) / sum(s) and P- = sum((1 - s) p) / sum(1 - s) over the
    class's examples in the batch, the weight is 1 + s, or 2 - s where P+ > P-: 1 plus the
    membership in the group of the lower mean probability. The discoverer's loss is the sum over the
    classes of
        -log(eps + |P+ - P-|) - lambda_balance log(eps + 1 - |mean of s - mean of 1 - s|).
    Each network takes the other as fixed. A class with fewer than two examples in the batch is not
    in the sum: both its means are that example's p, whatever s is.

    Both networks take a step on the same batch, with one pass of each. The published training
    alternates between the two networks, on two streams of batches.

    The method_state keeps the last membership of every training example in the group of the lower
    mean probability, 0.5 until it comes in a batch with another one of its class.

    Raises:
        ValueError: lambda_balance is negative, or discoverer_lr_scale not above 0.
    """
    if not settings.lambda_balance >= 0:
        raise ValueError(
            f"lambda_balance of DebiAN is {settings.lambda_balance}; it must not be negative."
        )
    if not settings.discoverer_lr_scale > 0:
        raise ValueError(
            f"discoverer_lr_scale of DebiAN is {settings.discoverer_lr_scale}; it must be above 0."
        )
    num_examples, num_classes = len(training_set.labels), training_set.num_classes

    def loss(
        network: Callable[..., Any], method_state: State, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, State, dict[str, jax.Array]]:
        del key
        label, index = batch["label"], batch["index"]
        logits, _ = network("main", batch["x"])
        group_logits, _ = network("discoverer", batch["x"])
        own = cross_entropy(logits, label)
        probability = jax.lax.stop_gradient(jnp.exp(-own))
        split = split_classes(group_logits, label, probability, num_classes)

        of_discoverer = discoverer_loss(split, settings.lambda_balance)
        suspicion = jax.lax.stop_gradient(worse_group(split, label))
        new = jnp.where(split.count[label] > 1, suspicion, method_state["suspicion"][index])
        state = {"suspicion": method_state["suspicion"].at[index].set(new)}
        gap = jnp.where(split.count > 1, jnp.abs(split.first - split.second), 0.0)
        metrics = {
            "train_accuracy": accuracy(logits, label),
            "mean_weight": 1.0 + jnp.mean(suspicion),
            "discoverer_loss": of_discoverer,
            "largest_gap": jax.lax.stop_gradient(jnp.max(gap)),
        }
        return jnp.mean((1.0 + suspicion) * own) + of_discoverer, state, metrics

    return JointMethod(
        columns=(),
        sampling="uniform",
        init_state=lambda: {"suspicion": jnp.full((num_examples,), 0.5, jnp.float32)},
        loss=loss,
        networks={
            "main": NetworkSpec(),
            "discoverer": NetworkSpec(lr_scale=settings.discoverer_lr_scale),
        },
        suspicion=lambda method_state: method_state["suspicion"],
    )


def split_classes(
    group_logits: jax.Array, labels: jax.Array, probability: jax.Array, num_classes: int
) -> Split:
    """The discoverer's groups of a batch, and how the classifier treats them.

    Args:
        group_logits: [B, K], any float dtype; computed in float32.
        labels: int32 [B] in 0..K-1.
        probability: float32 [B], the classifier's probability of the label.
        num_classes: K.
    """
    logit = jnp.take_along_axis(group_logits.astype(jnp.float32), labels[:, None], axis=1)[:, 0]
    in_class = labels[:, None] == jnp.arange(num_classes)
    count = jnp.sum(in_class, axis=0).astype(jnp.float32)

    def mean_probability(sign: float) -> jax.Array:
        # s / sum(s) as the softmax of log s: where every s underflows the ratio is 0 / 0.
        log_member = jax.nn.log_sigmoid(sign * logit)
        share = jax.nn.softmax(jnp.where(in_class, log_member[:, None], FAR_BELOW), axis=0)
        return jnp.sum(share * probability[:, None], axis=0)

    def mean_member(sign: float) -> jax.Array:
        member = jnp.where(in_class, jax.nn.sigmoid(sign * logit)[:, None], 0.0)
        return jnp.sum(member, axis=0) / jnp.maximum(count, 1.0)

    return Split(
        member=jax.nn.sigmoid(logit),
        first=mean_probability(1.0),
        second=mean_probability(-1.0),
        # 1 - |m - (1 - m)| = 2 min(m, 1 - m), and without cancellation.
        balance=2.0 * jnp.minimum(mean_member(1.0), mean_member(-1.0)),
        count=count,
    )


def discoverer_loss(split: Split, lambda_balance: float) -> jax.Array:
    """The sum in `make` over the classes with at least two examples in the batch, a scalar."""
    unfairness = -jnp.log(EPSILON + jnp.abs(split.first - split.second))
    balance = -jnp.log(EPSILON + split.balance)
    return jnp.sum(jnp.where(split.count > 1, unfairness + lambda_balance * balance, 0.0))


def worse_group(split: Split, labels: jax.Array) -> jax.Array:
    """Membership of each example in its class's group of the lower mean probability, float32 [B].

    Args:
        split: Groups of the batch.
        labels: int32 [B].
    """
    first_is_better = (split.first > split.second)[labels]
    return jnp.where(first_is_better, 1.0 - split.member, split.member)
