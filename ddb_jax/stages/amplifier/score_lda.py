"""Stage: linear discriminant analysis of frozen features scores every real image.

It takes the place of the amplifier that learns from synthetic images. Writes what
`scoring.write_scoring` does.
"""

import functools
from typing import Any

import numpy as np

from ddb_jax.data.source import Source
from ddb_jax.debias.lda import cross_fitted_logits, fit_without_errors, temperature
from ddb_jax.runtime.errors import UserError
from ddb_jax.runtime.files import load_array
from ddb_jax.stages.amplifier.frozen_features import JUDGED, file_name
from ddb_jax.stages.common.classifier_training import Predictions
from ddb_jax.stages.common.scoring import write_scoring
from ddb_jax.stages.context import Context
from ddb_jax.training.rng import data_seed


def run(context: Context) -> dict[str, Any]:
    """Fit on the training images, drop its errors, fit again; score training and validation.

    Cross-fitted scores are calibrated, too. Recipe II would give aligned images no weight under a
    judge that is as sure of them as LDA is.
    """
    settings, dataset = context.config.lda, context.dataset
    train = dataset.train
    features = {
        split: load_array(context.inputs["frozen_features"] / file_name(split)) for split in JUDGED
    }
    fit = functools.partial(
        fit_without_errors, num_classes=context.num_classes, refits=settings.refits
    )
    try:
        judge = fit(features["train"], train.labels)
        logits = {split: judge.logits(values) for split, values in features.items()}
        if settings.cross_fit:
            seed = data_seed(context.seed, context.name)
            logits["train"] = cross_fitted_logits(
                features["train"], train.labels, fit, settings.cross_fit, seed
            )
            divisor = temperature(logits["train"], train.labels)
            logits = {split: values / divisor for split, values in logits.items()}
    except ValueError as error:
        raise UserError(
            f"config.amplifier.kind 'lda' cannot judge {dataset.name}: {error}; give more images,"
            " another config.classifier.network or its weights, or take kind 'network'."
        ) from error

    def predict(source: Source) -> Predictions:
        return predictions(logits["train" if source is train else "validation"], source.labels)

    figures = write_scoring(context, dataset, predict)
    return {"shrinkage": judge.shrinkage, **figures}


def predictions(logits: np.ndarray, labels: np.ndarray) -> Predictions:
    """Of logits float [N, K] and labels int [N]."""
    log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    loss = np.maximum(-np.take_along_axis(log_p, labels[:, None], axis=1)[:, 0], 0.0)
    return Predictions(
        logits.argmax(axis=1).astype(np.int32),
        np.exp(-loss).astype(np.float32),
        loss.astype(np.float32),
    )
