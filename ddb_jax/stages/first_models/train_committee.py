"""Stage: BiasEnsemble's committee of biased networks, and its vote on every real image.

Writes what `fit_classifier` does for its first member, and what `scoring.write_tables` does with
the mean loss of the members, the class that most of them predict, and their vote as the verdict.
"""

from typing import Any

import numpy as np

from ddb_jax.data.source import Source
from ddb_jax.debias import committee
from ddb_jax.stages.common.classifier_step import network_weights
from ddb_jax.stages.common.classifier_training import fit_classifier, make_predict
from ddb_jax.stages.common.networks import build_classifier, input_size
from ddb_jax.stages.common.scoring import Scored, write_tables
from ddb_jax.stages.context import Context


def run(context: Context) -> dict[str, Any]:
    """Train the members for `reference.num_steps` steps and let them vote."""
    settings = context.config.classifier.copy_and_resolve_references()
    settings.num_steps = context.config.reference.num_steps
    train, num_classes = context.dataset.train, context.num_classes
    method = committee.make(context.config.committee)
    state = fit_classifier(context, settings, train, num_outputs=num_classes, method=method)
    model = build_classifier(settings, num_classes)
    predict = make_predict(model, settings, input_size(settings, train), context.mesh)
    members = [
        network_weights(state.params, state.batch_stats, method, name) for name in method.networks
    ]

    def vote(source: Source) -> Scored:
        answers = [predict(weights, source) for weights in members]
        probabilities = np.stack([answer.probability for answer in answers])
        flagged, doubt = committee.flag_conflicting(probabilities, context.config.committee)
        votes = sum(np.eye(num_classes)[answer.predicted] for answer in answers)
        return Scored(
            flagged=flagged,
            predicted=votes.argmax(axis=1).astype(np.int32),
            probability=probabilities.mean(axis=0),
            loss=np.mean([answer.loss for answer in answers], axis=0),
            suspicion=doubt,
        )

    dataset = context.dataset
    scored = {"train": vote(dataset.train), "validation": vote(dataset.validation)}
    return write_tables(context, dataset, scored, rule="committee")
