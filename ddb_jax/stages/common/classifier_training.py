"""Classifiers as the stages use them: build, train with a debiasing method, save, predict."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ddb_jax.data.input_pipeline import eval_batches, train_batches
from ddb_jax.data.preprocessing import to_input
from ddb_jax.data.source import Source
from ddb_jax.debias.contract import MAIN, JointMethod, Method
from ddb_jax.models.pretrained import load_pretrained, weights_path
from ddb_jax.runtime.errors import UserError
from ddb_jax.runtime.processes import this_process
from ddb_jax.stages.common.cached_maps import cached_maps
from ddb_jax.stages.common.classifier_build import build_training
from ddb_jax.stages.common.classifier_step import network_weights
from ddb_jax.stages.common.networks import (
    build_classifier,
    build_network,
    init_variables,
    input_size,
)
from ddb_jax.stages.context import Context
from ddb_jax.training.checkpoint import abstract_like, load_weights, save_weights
from ddb_jax.training.compilation import jit
from ddb_jax.training.fit import Schedule, fit
from ddb_jax.training.mesh import replicated, shard_batch
from ddb_jax.training.rng import data_seed, stream
from ddb_jax.training.train_state import TrainState

log = logging.getLogger("ddb_jax")

EVAL_BATCH_SIZE = 256
INIT = "train_classifier/init"  # the stream of first weights, one for all methods


class Predictions(NamedTuple):
    """A classifier's answers over a source, in its order.

    Attributes:
        predicted: int32 [N], the most probable class.
        probability: float32 [N], of the example's own label.
        loss: float32 [N], cross-entropy against the example's own label.
    """

    predicted: np.ndarray
    probability: np.ndarray
    loss: np.ndarray


def make_outputs(
    model: Any, settings: ConfigDict, image_size: int, mesh: Mesh
) -> Callable[[Mapping[str, Any], Source], tuple[np.ndarray, np.ndarray]]:
    """Logits float32 [N, K] and features float32 [N, F] over a source; see `_map_batches`."""
    return make_map(
        lambda weights, x: model.apply(weights, x, train=False), settings, image_size, mesh
    )


def make_map(
    function: Callable[[Any, jax.Array], tuple[jax.Array, ...]],
    settings: ConfigDict,
    image_size: int,
    mesh: Mesh,
    batch_size: int = EVAL_BATCH_SIZE,
) -> Callable[[Mapping[str, Any], Source], tuple[np.ndarray, ...]]:
    """(weights, inputs float32 [B, S, S, 3]) -> arrays [B, ...], over a source; see `_map_batches`.

    The images are seen as in evaluation.
    """

    def of_batch(weights: Any, batch: dict[str, jax.Array]) -> tuple[jax.Array, ...]:
        return function(weights, to_input(batch["image"], image_size, settings.normalization))

    return _map_batches(of_batch, mesh, batch_size)


def make_predict(
    model: Any, settings: ConfigDict, image_size: int, mesh: Mesh
) -> Callable[[Mapping[str, Any], Source], Predictions]:
    """Predictions over a source; see `_map_batches`. Maps of `frozen_maps` are taken as such."""

    def predict_batch(weights: Any, batch: dict[str, jax.Array]) -> tuple[jax.Array, ...]:
        if batch["image"].ndim == 5:
            x = batch["image"][:, 0].astype(jnp.float32)
            logits, _ = model.apply(weights, x, train=False, part="above")
        else:
            x = to_input(batch["image"], image_size, settings.normalization)
            logits, _ = model.apply(weights, x, train=False)
        log_p = jax.nn.log_softmax(logits)
        log_p_label = jnp.take_along_axis(log_p, batch["label"][:, None], axis=1)[:, 0]
        return jnp.argmax(logits, axis=1).astype(jnp.int32), jnp.exp(log_p_label), -log_p_label

    predict = _map_batches(predict_batch, mesh)
    return lambda weights, source: Predictions(*predict(weights, source))


def _map_batches(
    function: Callable[[Any, dict[str, jax.Array]], tuple[jax.Array, ...]],
    mesh: Mesh,
    batch_size: int = EVAL_BATCH_SIZE,
) -> Callable[[Mapping[str, Any], Source], tuple[np.ndarray, ...]]:
    """(weights, source) -> arrays over its images, compiled once; the last batch is padded."""
    compiled = jit(function, out_shardings=replicated(mesh))
    batch_size = -(-batch_size // mesh.size) * mesh.size

    def over_source(weights: Mapping[str, Any], source: Source) -> tuple[np.ndarray, ...]:
        weights = {name: value for name, value in weights.items() if value}
        parts = []
        for batch in eval_batches(source, batch_size, **this_process()):
            fields = {name: batch[name] for name in ("image", "label")}
            parts.append(jax.device_get(compiled(weights, shard_batch(mesh, fields))))
        # The last batch was filled up.
        columns = zip(*parts, strict=True)
        return tuple(np.concatenate(column)[: len(source)] for column in columns)

    return over_source


def fit_classifier(
    context: Context,
    settings: ConfigDict,
    source: Source,
    *,
    num_outputs: int,
    method: Method | JointMethod,
    columns: Mapping[str, np.ndarray] | None = None,
    groups: np.ndarray | None = None,
    validation: Source | None = None,
    score: Callable[[np.ndarray], tuple[float, ...]] | None = None,
) -> TrainState:
    """Train a classifier and write its weights to `weights/`.

    Args:
        context: Of the stage that trains it.
        settings: A classifier section of the config.
        source: The images to train on.
        num_outputs: Number of classes.
        method: The debiasing method.
        columns: Per-example arrays that the method reads from its batch.
        groups: Group of every example, for group-balanced sampling.
        validation: Split that chooses which weights are kept; None keeps the last.
        score: From "the prediction is right" (bool [N] over validation) the value to maximise,
            compared element by element; required with `validation`.

    Returns:
        The last state; its `selected` holds the written weights if validation chose them.
    """
    size = input_size(settings, source)
    if settings.trainable == "last_block":
        source = cached_maps(context, source)
        validation = cached_maps(context, validation) if validation else None
    num_scores = len(score(np.zeros(len(validation), bool))) if validation else 0
    training = build_training(settings, num_outputs, size, method, num_scores=num_scores)
    evaluate = None
    if validation:
        predict = make_predict(training.models[MAIN], settings, size, context.mesh)
        evaluate = make_evaluate(predict, validation, score, method)

    state = fit(
        training.init,
        training.train_step,
        lambda start: train_batches(
            source,
            batch_size=settings.batch_size,
            seed=data_seed(context.seed, "train_classifier"),
            start_step=start,
            num_steps=settings.num_steps,
            **this_process(),
            columns=columns or {},
            groups=groups,
            repeats=method.repeats,
        ),
        Schedule(
            settings.num_steps,
            settings.log_every,
            settings.checkpoint_every,
            settings.evaluate_every if validation else 0,
        ),
        title=context.name,
        folder=context.folder,
        mesh=context.mesh,
        stop=context.stop,
        evaluate=evaluate,
        # Keys are arguments, so that all seeds run one compiled program.
        init_arguments=(
            stream(context.seed, INIT),
            *pretrained_variables(context, settings, num_outputs, size),
        ),
        step_arguments=(stream(context.seed, f"{context.name}/augment"),),
    )
    kept = state.selected or network_weights(state.params, state.batch_stats, method)
    save_weights(
        context.folder / "weights",
        {name: kept[name] for name in ("params", "batch_stats") if kept[name]},
    )
    return state


def make_evaluate(
    predict: Callable[[Mapping[str, Any], Source], Predictions],
    validation: Source,
    score: Callable[[np.ndarray], tuple[float, ...]],
    method: Method | JointMethod,
) -> Callable[[TrainState], tuple[TrainState, dict[str, float]]]:
    """What `fit` calls to evaluate: it notes the weights that validation prefers in the state.

    Args:
        predict: Of the method's main network.
        validation: As in `fit_classifier`, and so is `score`.
        score: As in `fit_classifier`.
        method: The debiasing method.

    Returns:
        state -> the state, whose `selected` may be new, and figures to log.
    """

    def evaluate(state: TrainState) -> tuple[TrainState, dict[str, float]]:
        weights = network_weights(state.params, state.batch_stats, method)
        right = predict(weights, validation).predicted == validation.labels
        # Kept as float32, as the checkpoint holds it, so that a resumed run compares the same.
        value = tuple(float(v) for v in np.float32(score(right)))
        best = tuple(float(v) for v in jax.device_get(state.selected["score"]))
        if value >= best:  # the later step wins a tie
            state = state.replace(selected=_copy_selected(weights, state.step, value))
        return state, {
            "validation_accuracy": float(np.mean(right)),
            "validation_score": value[0],
        }

    return evaluate


@jax.jit
def _copy_selected(weights: dict[str, Any], step: jax.Array, score: Any) -> dict[str, Any]:
    """Copies, since the next step donates the originals."""
    copied = jax.tree.map(jnp.copy, {**weights, "step": step})
    return {**copied, "score": jnp.asarray(score, jnp.float32)}


def pretrained_variables(
    context: Context, settings: ConfigDict, num_outputs: int, size: int
) -> tuple[Any, ...]:
    """The variables from the section's weights file, in a tuple; () without a file."""
    return (first_variables(context, settings, num_outputs, size),) if settings.weights else ()


def first_variables(
    context: Context, settings: ConfigDict, num_outputs: int, size: int
) -> dict[str, Any]:
    """The variables from the section's weights file, or fresh ones without a file."""
    model, key = build_classifier(settings, num_outputs), stream(context.seed, INIT)
    fresh = jax.device_get(jax.jit(lambda key: init_variables(model, key, size))(key))
    if not settings.weights:
        return fresh
    try:
        path = weights_path(settings.network, settings.weights) or Path(settings.weights)
        variables, notes = load_pretrained(settings.network, fresh, path)
    except (OSError, ValueError) as error:
        raise UserError(str(error)) from error
    for note in notes:
        log.info("%s: %s", context.name, note)
    return variables


def load_classifier(
    context: Context,
    settings: ConfigDict,
    num_outputs: int,
    folder: Path,
    source: Source,
    kind: str = "classifier",
) -> Callable[[Source], Predictions]:
    """Prediction by the frozen classifier that `fit_classifier` left in `folder`.

    `source` is one of those it will predict over; all have images of one size. `kind` is that of
    the network, one of networks.KINDS.
    """
    size = input_size(settings, source)
    model = build_network(kind, settings, num_outputs, size)
    weights = load_network(context, model, folder, size)
    predict = make_predict(model, settings, size, context.mesh)
    return lambda source: predict(weights, source)


def load_network(context: Context, model: Any, folder: Path, size: int) -> dict[str, Any]:
    """The variables of a network that `fit_classifier` left in `folder`."""
    abstract = jax.eval_shape(lambda: init_variables(model, jax.random.key(0), size))
    return load_weights(folder / "weights", abstract_like(abstract, replicated(context.mesh)))
