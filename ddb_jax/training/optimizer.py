"""Optimisers and learning-rate schedules from a config section."""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import optax


class OptimizerSettings(Protocol):
    """Fields an optimiser is made from; see configs/base.py for their meaning."""

    optimizer: str
    learning_rate: float
    lr_schedule: str
    warmup_steps: int
    weight_decay: float
    momentum: float
    grad_clip: float
    num_steps: int


OPTIMIZERS = ("adamw", "sgd")
LR_SCHEDULES = ("constant", "cosine")


def make_schedule(settings: OptimizerSettings) -> optax.Schedule:
    """Linear warm-up from 0 to `learning_rate`, then constant or cosine to 0 at `num_steps`."""
    after = max(settings.num_steps - settings.warmup_steps, 1)
    main = {
        "constant": optax.constant_schedule(settings.learning_rate),
        "cosine": optax.cosine_decay_schedule(settings.learning_rate, after),
    }[settings.lr_schedule]
    warmup = optax.linear_schedule(0.0, settings.learning_rate, max(settings.warmup_steps, 1))
    return optax.join_schedules([warmup, main], [settings.warmup_steps])


def scale_learning_rates(scale: Callable[[tuple[str, ...]], float]) -> optax.GradientTransformation:
    """Multiply the finished update of every parameter; the last step of the optimiser.

    AdamW and SGD apply the learning rate last, to the weight decay too. The factor is therefore a
    separate learning rate for each parameter; 0 freezes it.

    Args:
        scale: From a parameter's names, from the top of the tree down, to the factor.
    """

    def update(updates: Any, params: Any = None) -> Any:
        return jax.tree.map_with_path(lambda path, u: scale(names(path)) * u, updates)

    return optax.stateless(update)


def names(path: Any) -> tuple[str, ...]:
    """The keys of a path in a tree of dictionaries."""
    return tuple(key.key for key in path)


def make_optimizer(settings: OptimizerSettings) -> optax.GradientTransformation:
    """Global-norm clipping (off when `grad_clip` is 0), then AdamW or SGD with momentum.

    SGD's weight decay is added to the gradient, as PyTorch's is; AdamW's is decoupled.
    """
    schedule = make_schedule(settings)
    clip = optax.clip_by_global_norm(settings.grad_clip) if settings.grad_clip else optax.identity()
    if settings.optimizer == "adamw":
        return optax.chain(clip, optax.adamw(schedule, weight_decay=settings.weight_decay))
    return optax.chain(
        clip,
        optax.add_decayed_weights(settings.weight_decay),
        optax.sgd(schedule, momentum=settings.momentum or None),
    )
