"""Stage: how much of the bias the synthetic images show, where the bias is known.

A probe learns the bias attribute on real training images, drawn so that every pair of class and
attribute is equally frequent, and predicts it for the synthetic ones. Nothing is chosen by the
result; the probe's accuracy is measured on the test split, whose bias is independent of the class.
Writes `aligned_share.json`.
"""

from typing import Any

import numpy as np

from ddb_jax.data.source import ArraySource, Source
from ddb_jax.debias.contract import plain
from ddb_jax.debias.pseudo_groups import assign_bias_groups
from ddb_jax.evaluation.metrics import wilson_interval
from ddb_jax.runtime.files import write_json
from ddb_jax.stages.common.classifier_training import fit_classifier, load_classifier
from ddb_jax.stages.common.sampled_set import load_finite
from ddb_jax.stages.context import Context


def run(context: Context) -> dict[str, Any]:
    """Train the probe, apply it, write the share of aligned images per class and in all."""
    config, dataset = context.config, context.dataset
    train = dataset.train
    settings = config.amplifier.copy_and_resolve_references()
    settings.num_steps = config.measure_synthesis.probe_steps
    num_biases = len(dataset.bias_names)
    cells = assign_bias_groups(train.labels, train.bias, context.num_classes, num_biases)
    fit_classifier(
        context,
        settings,
        _bias_as_label(train),
        num_outputs=num_biases,
        method=plain(),
        groups=cells.ids,
    )
    predict = load_classifier(context, settings, num_biases, context.folder, train)

    synthetic = load_finite(context.inputs["synthesize"])
    aligned = predict(synthetic).predicted == synthetic.labels
    test = _bias_as_label(dataset.test)
    result = {
        "aligned_share": float(np.mean(aligned)),
        "interval": wilson_interval(int(aligned.sum()), len(aligned)),
        "aligned_share_of_train": float(np.mean(train.bias == train.labels)),
        "per_class": {
            name: float(np.mean(aligned[synthetic.labels == i]))
            for i, name in enumerate(dataset.class_names)
        },
        "probe_accuracy_on_test": float(np.mean(predict(test).predicted == test.labels)),
    }
    write_json(context.folder / "aligned_share.json", result)
    return {"aligned_share": result["aligned_share"]}


def _bias_as_label(source: Source) -> ArraySource:
    """The same images with the bias attribute as label."""
    fields = source.gather(np.arange(len(source)))
    unknown = np.full(len(source), -1, np.int32)
    return ArraySource(fields["image"], source.bias, unknown)
