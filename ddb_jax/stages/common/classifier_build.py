"""What a classifier's training is made of: its networks, optimiser, first state and step.

The training, the estimate of its memory and the benchmark all take it from here.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax
from ml_collections import ConfigDict

from ddb_jax.debias.contract import MAIN, JointMethod, Method
from ddb_jax.stages.common.classifier_step import Step, make_train_step
from ddb_jax.stages.common.networks import build_network, init_variables, with_classifier
from ddb_jax.training import train_state
from ddb_jax.training.train_state import TrainState


class ClassifierTraining(NamedTuple):
    """A training that is ready for `training.fit.fit`.

    Attributes:
        models: The method's networks by name.
        optimizer: Whose state lies in the train state.
        init: (key, pretrained=None) -> the state of step 0; traceable. `pretrained` holds the
            variables of a plain classifier, which every network takes over that holds one.
        train_step: (state, batch, augment_key) -> (state, metrics), not yet jitted.
    """

    models: Mapping[str, Any]
    optimizer: optax.GradientTransformation
    init: Callable[..., TrainState]
    train_step: Step


def build_training(
    settings: ConfigDict,
    num_outputs: int,
    image_size: int,
    method: Method | JointMethod,
    *,
    num_scores: int = 0,
) -> ClassifierTraining:
    """The training of a classifier section with a debiasing method.

    Args:
        settings: A classifier section of the config.
        num_outputs: Number of classes.
        image_size: Side of the images that the networks see.
        method: The debiasing method.
        num_scores: Length of the score by which validation chooses weights, which the state then
            holds beside the last ones; 0 where nothing is chosen.

    Raises:
        ValueError: As `make_train_step`.
    """
    models = {
        name: build_network(spec.kind, settings, num_outputs, image_size)
        for name, spec in method.networks.items()
    }
    optimizer, train_step = make_train_step(settings, models, image_size, method=method)

    def init(key: jax.Array, pretrained: Any = None) -> TrainState:
        variables = first_weights(method, models, image_size, key, pretrained)
        return train_state.create(
            _by_part(variables) if method.by_network else variables[MAIN],
            optimizer,
            method_state=method.init_state(),
            num_scores=num_scores,
            selectable=variables[MAIN],
        )

    return ClassifierTraining(models, optimizer, init, train_step)


def first_weights(
    method: Method | JointMethod,
    models: Mapping[str, Any],
    image_size: int,
    key: jax.Array,
    pretrained: Any = None,
) -> dict[str, Any]:
    """Variables of every network by name, each from a key of its own.

    The first network takes `key` itself, so that it starts alike under all methods.
    """
    variables = {}
    for i, (name, model) in enumerate(models.items()):
        fresh = init_variables(model, jax.random.fold_in(key, i) if i else key, image_size)
        if pretrained is not None:
            # Each further one has a head of its own: a committee's members must not be one network.
            kind = method.networks[name].kind
            fresh = with_classifier(kind, fresh, pretrained, keep_head=i > 0)
        variables[name] = fresh
    return variables


def _by_part(variables: Mapping[str, Any]) -> dict[str, Any]:
    """{network: {"params", ...}} as {"params": {network: ...}, ...}; a part may miss networks."""
    return {
        part: {name: values[part] for name, values in variables.items() if part in values}
        for part in ("params", "batch_stats")
    }
