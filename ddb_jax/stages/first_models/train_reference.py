"""Stage: a first model, trained briefly and plainly, for JTT (its errors) and EIIL (its logits).

Writes `weights/`, `logits.npy` (float32 [N, K] of the training images) and what
`scoring.write_scoring` does.
"""

from typing import Any

from ddb_jax.debias.contract import plain
from ddb_jax.runtime.files import save_array
from ddb_jax.stages.common.classifier_training import (
    fit_classifier,
    load_classifier,
    load_network,
    make_outputs,
)
from ddb_jax.stages.common.networks import build_classifier, input_size
from ddb_jax.stages.common.scoring import write_scoring
from ddb_jax.stages.common.training_set import LOGITS
from ddb_jax.stages.context import Context


def run(context: Context) -> dict[str, Any]:
    """Train the classifier of the config for `reference.num_steps` and score the real images."""
    settings = context.config.classifier.copy_and_resolve_references()
    settings.num_steps = context.config.reference.num_steps
    dataset = context.dataset
    fit_classifier(
        context, settings, dataset.train, num_outputs=context.num_classes, method=plain()
    )
    size = input_size(settings, dataset.train)
    model = build_classifier(settings, context.num_classes)
    weights = load_network(context, model, context.folder, size)
    logits, _ = make_outputs(model, settings, size, context.mesh)(weights, dataset.train)
    save_array(context.folder / LOGITS, logits)
    predict = load_classifier(context, settings, context.num_classes, context.folder, dataset.train)
    return write_scoring(context, dataset, predict)
