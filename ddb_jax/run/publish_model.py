"""The classifier that a run recommends, put into its `model/` to be taken away."""

import logging
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from ddb_jax.data.images.facts import grey_bits_in_use
from ddb_jax.data.source import Dataset
from ddb_jax.debias.table import method_entry, method_title
from ddb_jax.evaluation.selection import RULES
from ddb_jax.predict.model_folder import (
    FORMAT,
    NETWORK_FIELDS,
    RECORD,
    ModelRecord,
    read_record,
    write_model,
)
from ddb_jax.run.plan import Task
from ddb_jax.runtime.errors import UserError
from ddb_jax.runtime.files import read_json
from ddb_jax.runtime.manifest import code_version
from ddb_jax.training.checkpoint import abstract_like, load_weights
from ddb_jax.training.mesh import make_mesh, replicated

log = logging.getLogger("ddb_jax")


def recommended(selections: dict[str, dict[str, Any]], preferred: str) -> tuple[str, str]:
    """The method to take, and why, from validation without bias labels.

    Only methods that one rule chose can be compared by what the rule gave them on validation.

    Args:
        selections: Method -> its `selection.json`, in the config's order; not empty. Oracles are
            left out, and whatever was chosen with bias labels or on the test split.
        preferred: The rule whose methods are compared, where it chose any.
    """
    rules = [found["selection"] for found in selections.values() if found["score"]]
    if not rules:
        method = next(iter(selections))
        return method, f"{method}, the first of config.methods; no rule compares them"
    rule = preferred if preferred in rules else rules[0]
    compared = {
        m: f["score"] for m, f in selections.items() if f["selection"] == rule and f["score"]
    }
    method = max(compared, key=lambda name: compared[name])
    title, (figure, mean) = RULES[rule].title, (100 * value for value in compared[method])
    among = f"the highest of {len(compared)} methods" if len(compared) > 1 else "the only method"
    reason = (
        f"{method}, {among} by {title} on validation ({figure:.1f}%; {mean:.1f}% on average over"
        " the classes or groups)"
    )
    return method, reason


def publish_model(
    workdir: Path, config: ConfigDict, dataset: Dataset, tasks: list[Task]
) -> Path | None:
    """Write `model/` for the recommended method of the first seed; None where there is none.

    A model that is there already, of the same training, is left alone.
    """
    seed = config.seeds[0]
    trained = {
        task.options["method"]: task
        for task in tasks
        if task.seed == seed and task.stage in ("train_classifier", "train_last_layer")
    }
    selections = {}
    for method in config.methods:
        task = trained.get(method)
        if task is None or method_entry(method).uses_bias_labels:
            continue
        found = read_json(workdir / task.name / "selection.json")
        rule = RULES[found["selection"]]
        if not (rule.uses_bias_labels or rule.reads_test):
            selections[method] = found
    if not selections or jax.process_count() > 1:
        return None
    method, reason = recommended(selections, config.classifier.selection)
    task, folder = trained[method], workdir / "model"
    record = _record(config, dataset, method, task, selections[method], workdir)
    try:
        if (folder / RECORD).exists() and read_record(folder) == record:
            return folder
    except UserError:
        pass  # damaged, or of another version: written again
    abstract = abstract_like(record.shapes(), replicated(make_mesh(1)))
    variables = load_weights(workdir / task.name / "weights", abstract)
    evaluation = read_json(workdir / f"seed_{seed}/evaluate/{method}/metrics.json")
    write_model(folder, record, jax.device_get(variables), _card(record, reason, evaluation))
    log.info("model: %s (%s)", folder, reason)
    return folder


def _record(
    config: ConfigDict,
    dataset: Dataset,
    method: str,
    task: Task,
    selection: dict[str, Any],
    workdir: Path,
) -> ModelRecord:
    settings = config.classifier
    source_size = int(dataset.train.image_shape[0])
    facts = [image for images in dataset.images.values() for image in images]
    return ModelRecord(
        format=FORMAT,
        dataset=dataset.name,
        method=method,
        seed=task.seed,
        kind=selection["network"],
        network={name: settings[name] for name in NETWORK_FIELDS},
        class_names=tuple(dataset.class_names),
        decoding={
            "image_size": source_size,
            "resize": config.data.resize if dataset.images else "squash",
            "background": config.data.background,
            "grey_bits": grey_bits_in_use(facts),
        },
        input_size=settings.image_size or source_size,
        normalization=settings.normalization,
        selection=selection["selection"],
        fingerprint=read_json(workdir / task.name / "done.json")["fingerprint"],
        version=str(code_version()["version"]),
    )


def _card(record: ModelRecord, reason: str, evaluation: dict[str, Any]) -> str:
    """The model card, in Markdown."""
    rows = []
    for name, value in evaluation["metrics"].items():
        if isinstance(value, float) and name.endswith("_accuracy"):
            low, high = evaluation["intervals"].get(name) or (None, None)
            between = "" if low is None else f"{100 * low:.1f} to {100 * high:.1f}"
            rows.append(f"| {name.replace('_', ' ')} | {100 * value:.1f} | {between} |")
    network = record.network["network"]
    return "\n".join(
        [
            f"# {record.dataset}: {method_title(record.method)}",
            "",
            f"An image classifier ({network}) of {len(record.class_names)} classes:"
            f" {', '.join(record.class_names)}. Trained by ddb_jax {record.version}, seed"
            f" {record.seed}.",
            "",
            f"Recommended: {reason}. The step was chosen by {RULES[record.selection].title} on the"
            " validation split.",
            "",
            "On the test split, in percent, with 95% bootstrap intervals:",
            "",
            "| | | |",
            "| --- | --- | --- |",
            *rows,
            "",
            "If the test images have the bias of the training images, the average says little about"
            " images that do not.",
            "",
            f"Images are resized to {record.decoding['image_size']} pixels"
            f" ({record.decoding['resize']}), seen at {record.input_size}, and normalised as"
            f" {record.normalization!r}; model.json has every setting.",
            "",
            "    python -m ddb_jax.predict --model=FOLDER IMAGES --out=predictions.csv",
            "",
            '    ddb_jax.load("FOLDER").predict(images)  # probabilities [N, K]',
            "",
        ]
    )
