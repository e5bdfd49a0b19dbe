"""Stage: train the bias amplifier on synthetic images alone (or, as the ablation, on real ones).

A classifier that never sees a real image cannot memorise the rare bias-conflicting ones. It only
knows the bias that the generator exaggerates.
"""

import functools
from typing import Any

from ddb_jax.debias.contract import plain
from ddb_jax.debias.losses import cross_entropy, generalized_cross_entropy
from ddb_jax.stages.common.classifier_training import fit_classifier
from ddb_jax.stages.common.sampled_set import load_finite
from ddb_jax.stages.context import Context


def run(context: Context) -> dict[str, Any]:
    """Train on the source that `options["train_on"]` names and write the weights."""
    settings = context.config.amplifier
    source = context.dataset.train
    if context.options["train_on"] == "synthetic":
        source = load_finite(context.inputs["synthesize"])
    loss = {
        "cross_entropy": functools.partial(cross_entropy, label_smoothing=settings.label_smoothing),
        "generalized_cross_entropy": functools.partial(
            generalized_cross_entropy, q=settings.gce_q, scaled=settings.gce_scaled
        ),
    }[settings.loss]
    fit_classifier(
        context,
        settings,
        source,
        num_outputs=context.num_classes,
        method=plain(per_example_loss=loss),
    )
    return {"trained_on": context.options["train_on"], "images": len(source)}
