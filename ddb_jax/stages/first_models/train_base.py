"""Stage: plain training on part of the training images; a last layer is fitted to the rest.

Writes what `train_classifier` does for plain training, and `held_out.npy`, int64, the positions of
the images that were left out.
"""

from typing import Any

from ddb_jax.data.source import Subset, stratified_split
from ddb_jax.debias.contract import plain
from ddb_jax.debias.method_config import selection_rule
from ddb_jax.evaluation.selection import RULES as SELECTION_RULES
from ddb_jax.runtime.errors import UserError
from ddb_jax.runtime.files import save_array, write_json
from ddb_jax.stages.common.classifier_training import fit_classifier
from ddb_jax.stages.common.training_set import HELD_OUT, groups_for
from ddb_jax.stages.context import Context
from ddb_jax.training.rng import data_seed


def run(context: Context) -> dict[str, Any]:
    """Train on all but `options["held_out_share"]` of every class."""
    train = context.dataset.train
    share, seed = context.options["held_out_share"], data_seed(context.seed, "train_base/split")
    try:
        kept, held_out = stratified_split(train.labels, share, seed)
    except ValueError as error:
        raise UserError(f"config.afr.held_out_share: {error}.") from error
    save_array(context.folder / HELD_OUT, held_out)
    selection = selection_rule(context.config, "erm")
    rule = SELECTION_RULES[selection]
    validation = context.dataset.test if rule.reads_test else context.dataset.validation
    groups = groups_for(context, rule.requires, validation, "validation")
    ids = groups.ids if groups else None
    state = fit_classifier(
        context,
        context.config.classifier,
        Subset(train, kept),
        num_outputs=context.num_classes,
        method=plain(),
        validation=None if selection == "last" else validation,
        score=lambda right: rule.score(validation.labels, right, ids),
    )
    record = {
        "selection": selection,
        "selected_step": int(state.selected["step"] if state.selected else state.step),
        "held_out": len(held_out),
    }
    write_json(context.folder / "selection.json", record)
    return record
