"""Stage: a first model, trained shortly and plainly, whose errors Just Train Twice repeats.

Writes `weights/` and what `scoring.write_scoring` does.
"""

from typing import Any

from ddb_jax.debias.method import plain
from ddb_jax.stages.classifier import load_classifier, train_classifier
from ddb_jax.stages.context import Context
from ddb_jax.stages.scoring import write_scoring


def run(context: Context) -> dict[str, Any]:
    """Train the classifier of the config for `jtt.first_steps` steps and score the real images."""
    settings = context.config.classifier.copy_and_resolve_references()
    settings.num_steps = context.config.jtt.first_steps
    dataset = context.dataset
    train_classifier(
        context, settings, dataset.train, num_outputs=context.num_classes, method=plain()
    )
    predict = load_classifier(context, settings, context.num_classes, context.folder, dataset.train)
    return write_scoring(context, dataset, predict)
