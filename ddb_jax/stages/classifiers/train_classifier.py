"""Stage: train the target classifier with one debiasing method.

It is trained on the real images, and on generated ones if the method uses them.

Writes `checkpoints/`, `weights/` (of the step that the selection rule prefers), `metrics.jsonl`,
`selection.json` and, if the method itself finds bias-conflicting training images,
`detection.json`.
"""

from typing import Any

import numpy as np

from ddb_jax.data.source import conflicting
from ddb_jax.debias.contract import MAIN, JointMethod, Method
from ddb_jax.debias.method_config import method_settings, selection_rule
from ddb_jax.debias.table import method_entry
from ddb_jax.evaluation.bias_detection import metrics_where_known
from ddb_jax.evaluation.selection import RULES as SELECTION_RULES
from ddb_jax.runtime.files import write_json
from ddb_jax.stages.common.classifier_step import network_weights
from ddb_jax.stages.common.classifier_training import fit_classifier, make_predict
from ddb_jax.stages.common.networks import build_classifier, input_size
from ddb_jax.stages.common.search import tuned
from ddb_jax.stages.common.training_set import (
    groups_for,
    make_training_set,
    training_source,
)
from ddb_jax.stages.context import Context
from ddb_jax.training.mesh import jit_over
from ddb_jax.training.train_state import TrainState


def run(context: Context) -> dict[str, Any]:
    """Train `options["method"]`, choosing the step by the rule of the config."""
    context, search = tuned(context)
    config, name = context.config, context.options["method"]
    entry, dataset = method_entry(name), context.dataset
    source = training_source(context)
    training_set, columns, groups = make_training_set(context, entry, source)
    method = entry.make(method_settings(config, entry), training_set)

    selection = selection_rule(config, name)
    rule = SELECTION_RULES[selection]
    validation = dataset.test if rule.reads_test else dataset.validation
    validation_groups = groups_for(
        context, rule.requires, validation, "validation", entry.pseudo_group_rule
    )
    ids = validation_groups.ids if validation_groups else None

    state = fit_classifier(
        context,
        config.classifier,
        source,
        num_outputs=context.num_classes,
        method=method,
        columns={column: columns[column] for column in method.columns},
        groups=groups.ids if method.sampling == "group_balanced" else None,
        validation=None if selection == "last" else validation,
        score=lambda right: rule.score(validation.labels, right, ids),
    )
    record = {
        "selection": selection,
        "selected_step": int(state.selected["step"] if state.selected else state.step),
        "score": np.asarray(state.selected["score"]).tolist() if state.selected else [],
        "network": method.networks[MAIN].kind,
        "group_sizes": dict(zip(groups.names, groups.sizes.tolist(), strict=True))
        if groups
        else {},
        "dropped_groups": list(groups.dropped) if groups else [],
        "generated": len(source) - len(dataset.train),
        **search,
    }
    suspected = _suspected(context, entry.detects_by_loss, method, state)
    if suspected:
        write_json(
            context.folder / "detection.json",
            metrics_where_known(*suspected, conflicting(dataset.train)),
        )
    write_json(context.folder / "selection.json", record)
    return record


def _suspected(
    context: Context, by_loss: bool, method: Method | JointMethod, state: TrainState
) -> tuple[np.ndarray, np.ndarray] | None:
    """The method's suspicion of each training image, and its verdict; None without an opinion.

    Both are from the last step, whatever step was selected.
    """
    if by_loss:
        train, settings = context.dataset.train, context.config.classifier
        model = build_classifier(settings, context.num_classes)
        predict = make_predict(model, settings, input_size(settings, train), context.mesh)
        predictions = predict(network_weights(state.params, state.batch_stats, method), train)
        return predictions.loss, predictions.predicted != train.labels
    if method.suspicion is None:
        return None
    suspicion = jit_over(context.mesh, method.suspicion, (False,))(state.method_state)
    suspicion = suspicion[: len(context.dataset.train)]  # generated images come after the real ones
    return suspicion, suspicion > 0.5
