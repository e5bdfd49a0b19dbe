"""Stage: trains a network with a small receptive field, whose features capture the bias.

Such a network sees colours and textures and no shapes; SoftCon compares images by its features.
Writes `weights/`, `features.npy` (float32 [N, D] of the training images).
"""

from typing import Any

import numpy as np

from ddb_jax.debias.contract import MAIN, NetworkSpec, plain
from ddb_jax.runtime.files import save_array
from ddb_jax.stages.common.classifier_training import fit_classifier, load_network, make_outputs
from ddb_jax.stages.common.networks import build_network, input_size
from ddb_jax.stages.common.training_set import FEATURES
from ddb_jax.stages.context import Context

KIND = "small_receptive_field"


def run(context: Context) -> dict[str, Any]:
    """Train it for `reference.num_steps` and write its features."""
    settings = context.config.classifier.copy_and_resolve_references()
    settings.num_steps = context.config.reference.num_steps
    # No weights file fits it, so all of it is trained, with the learning rate of the head.
    settings.weights, settings.trainable, settings.backbone_lr_scale = "", "all", 1.0
    train = context.dataset.train
    method = plain(networks={MAIN: NetworkSpec(KIND)})
    fit_classifier(context, settings, train, num_outputs=context.num_classes, method=method)
    size = input_size(settings, train)
    model = build_network(KIND, settings, context.num_classes, size)
    weights = load_network(context, model, context.folder, size)
    logits, features = make_outputs(model, settings, size, context.mesh)(weights, train)
    save_array(context.folder / FEATURES, features)
    return {"train_accuracy": float(np.mean(logits.argmax(axis=1) == train.labels))}
