"""Stage: the test split, read by the classifier that validation chose.

Writes `metrics.json` and `predictions.csv`.
"""

import csv
import io
from typing import Any

import numpy as np

from ddb_jax.evaluation.bootstrap import bootstrap_intervals
from ddb_jax.evaluation.metrics import (
    attribute_gaps,
    evaluate_predictions,
    train_weighted_accuracy,
)
from ddb_jax.runtime.files import read_json, write_atomically, write_json
from ddb_jax.stages.common.classifier_training import load_classifier
from ddb_jax.stages.context import Context


def run(context: Context) -> dict[str, Any]:
    """Evaluate one method's classifier on the test split."""
    dataset, test = context.dataset, context.dataset.test
    trained = context.inputs["trained"]
    selection = read_json(trained / "selection.json")
    predict = load_classifier(
        context,
        context.config.classifier,
        context.num_classes,
        trained,
        test,
        selection["network"],
    )
    predictions = predict(test)
    metrics = evaluate_predictions(
        test.labels,
        predictions.predicted,
        test.bias,
        num_classes=context.num_classes,
        group_by=context.config.evaluation.group_by,
        class_names=dataset.class_names,
        bias_names=dataset.bias_names,
    )
    correct = predictions.predicted == test.labels
    train = dataset.train
    weighted = train_weighted_accuracy(test.labels, correct, test.bias, train.labels, train.bias)
    metrics["train_weighted_accuracy"] = weighted
    if dataset.bias_attributes and weighted is not None:
        gaps = attribute_gaps(test.labels, correct, test.bias, dataset.bias_attributes, weighted)
        metrics |= gaps
    intervals = bootstrap_intervals(
        test.labels,
        predictions.predicted,
        test.bias,
        num_classes=context.num_classes,
        group_by=context.config.evaluation.group_by,
    )
    metrics["cross_entropy"] = float(np.mean(predictions.loss))
    write_json(
        context.folder / "metrics.json",
        {
            "dataset": dataset.name,
            "method": context.options["method"],
            "seed": context.seed,
            "selection": selection["selection"],
            "selected_step": selection["selected_step"],
            "tries": selection["tries"],
            "metrics": metrics,
            "intervals": intervals,
        },
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["index", "path", "label", "predicted", "probability", "bias"])
    columns = (test.paths, test.labels, *predictions[:2], test.bias)
    for i, (path, label, predicted, probability, bias) in enumerate(zip(*columns, strict=True)):
        writer.writerow([i, path, label, predicted, f"{probability:.6g}", "" if bias < 0 else bias])
    write_atomically(context.folder / "predictions.csv", text.getvalue())
    return {
        name: value
        for name, value in metrics.items()
        if name in ("average_accuracy", "conflicting_accuracy")
    }
