"""Stage: the biased classifier of DiffuBias, whose high losses point at conflicting images.

It is the config's classifier trained by generalised cross-entropy, which favours what is easy, that
is, the bias; its last step is kept (the released code keeps the best on validation). Writes
`weights/` and what `scoring.write_scoring` does.
"""

import functools
from typing import Any

from ddb_jax.debias.contract import plain
from ddb_jax.debias.losses import generalized_cross_entropy
from ddb_jax.stages.common.classifier_training import fit_classifier, load_classifier
from ddb_jax.stages.common.scoring import write_scoring
from ddb_jax.stages.context import Context


def run(context: Context) -> dict[str, Any]:
    """Train for `biased.num_steps` and score the real images."""
    settings = context.config.classifier.copy_and_resolve_references()
    biased, dataset = context.config.biased, context.dataset
    settings.num_steps = biased.num_steps or settings.num_steps
    loss = functools.partial(generalized_cross_entropy, q=biased.gce_q, scaled=biased.gce_scaled)
    fit_classifier(
        context,
        settings,
        dataset.train,
        num_outputs=context.num_classes,
        method=plain(per_example_loss=loss),
    )
    predict = load_classifier(context, settings, context.num_classes, context.folder, dataset.train)
    return write_scoring(context, dataset, predict)
