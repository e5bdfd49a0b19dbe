"""Stage: fit a new last layer to the frozen network of plain training.

Writes `weights/` of the whole network and `selection.json`, as `train_classifier` does.
"""

import logging
from typing import Any

import jax
import numpy as np

from ddb_jax.data.source import Subset
from ddb_jax.debias.contract import FrozenFeatures
from ddb_jax.debias.method_config import method_settings, selection_rule
from ddb_jax.debias.requirements import AMPLIFIER_SCORES, PSEUDO_GROUPS, TRUE_GROUPS
from ddb_jax.debias.table import method_entry
from ddb_jax.evaluation.selection import RULES as SELECTION_RULES
from ddb_jax.evaluation.selection import most_informed
from ddb_jax.runtime.files import load_array, read_json, write_json
from ddb_jax.stages.common.classifier_training import load_network, make_outputs
from ddb_jax.stages.common.networks import build_classifier, input_size
from ddb_jax.stages.common.search import tuned
from ddb_jax.stages.common.training_set import (
    HELD_OUT,
    groups_for,
    make_training_set,
    read_split,
)
from ddb_jax.stages.context import Context
from ddb_jax.training.checkpoint import save_weights
from ddb_jax.training.rng import data_seed

log = logging.getLogger("ddb_jax")


def run(context: Context) -> dict[str, Any]:
    """Fit the layer of `options["method"]` and attach it to the network of the task before."""
    context, search = tuned(context)
    config, dataset, base = context.config, context.dataset, context.inputs["base"]
    entry = method_entry(context.options["method"])
    training_set, _, _ = make_training_set(context, entry, context.dataset.train)
    layer = entry.make(method_settings(config, entry), training_set)

    source, groups = dataset.validation, None
    if layer.held_out_share:
        held_out = load_array(base / HELD_OUT)
        source = Subset(dataset.train, held_out)
    else:
        groups = groups_for(context, entry.requires, source, "validation", entry.pseudo_group_rule)
    settings = config.classifier
    size = input_size(settings, source)
    model = build_classifier(settings, context.num_classes)
    weights = load_network(context, model, base, size)
    outputs = make_outputs(model, settings, size, context.mesh)
    logits, features = outputs(weights, source)
    probability = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    probability = np.take_along_axis(probability, source.labels[:, None], axis=1)[:, 0]
    if layer.held_out_share and entry.requires == AMPLIFIER_SCORES:
        probability = read_split(context.inputs["score"], "train")["probability"][held_out]
    head = jax.device_get(weights["params"]["head"])
    kernel, bias, record = layer.fit(
        FrozenFeatures(
            features=features,
            labels=source.labels,
            groups=groups.ids if groups else None,
            label_probability=probability,
            kernel=head["kernel"],
            bias=head["bias"],
        ),
        data_seed(context.seed, context.name),
    )
    if record.get("largest_weight", np.inf) < 1.01:
        log.warning(
            "warning: %s: all examples weigh the same, since the model that judges them is equally"
            " sure of each, and this is a plainly fitted last layer",
            context.name,
        )
    weights["params"]["head"] = {"kernel": kernel, "bias": bias}
    save_weights(context.folder / "weights", weights)
    of_base = read_json(base / "selection.json")
    own_rule = selection_rule(config, context.options["method"])
    rule = SELECTION_RULES[own_rule]
    validation = dataset.test if rule.reads_test else dataset.validation
    by = groups_for(context, rule.requires, validation, "validation", entry.pseudo_group_rule)
    _, features = outputs(weights, validation)
    right = (features @ np.asarray(kernel) + np.asarray(bias)).argmax(axis=1) == validation.labels
    # The layer and the network below it may be chosen by different rules. The table names the rule
    # that was told the most.
    fitted_by = {TRUE_GROUPS: "worst_true_group", PSEUDO_GROUPS: "worst_pseudo_group"}
    chosen_by = [fitted_by.get(entry.requires, of_base["selection"]), of_base["selection"]]
    if search["tries"] > 1:
        chosen_by.insert(1, own_rule)
    record = {
        "selection": most_informed(chosen_by),
        "selected_step": of_base["selected_step"],
        "score": list(rule.score(validation.labels, right, by.ids if by else None)),
        "network": "classifier",
        "fitted_on": len(source),
        **record,
        **search,
    }
    write_json(context.folder / "selection.json", record)
    return record
