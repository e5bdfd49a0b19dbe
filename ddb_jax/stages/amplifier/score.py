"""Stage: the frozen amplifier scores every real image, giving losses and pseudo-groups.

Writes what `scoring.write_scoring` does.
"""

from typing import Any

from ddb_jax.stages.common.classifier_training import load_classifier
from ddb_jax.stages.common.scoring import write_scoring
from ddb_jax.stages.context import Context


def run(context: Context) -> dict[str, Any]:
    """Score with the amplifier, at the generator's size."""
    dataset = context.dataset
    predict = load_classifier(
        context,
        context.config.amplifier,
        context.num_classes,
        context.inputs["train_amplifier"],
        dataset.train,
    )
    return write_scoring(context, dataset, predict)
