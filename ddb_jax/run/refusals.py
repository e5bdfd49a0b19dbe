"""What a run refuses once its data is loaded: missing bias labels, work of other settings."""

from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ddb_jax.data.source import Dataset
from ddb_jax.run.plan import Task, requirements
from ddb_jax.run.records import flatten
from ddb_jax.runtime import work_directory
from ddb_jax.runtime.errors import UserError
from ddb_jax.text_to_image.captions import read_captions

# Fields that no task reads, but that decide which tasks there are or what they are given.
DECIDING = (
    "seeds", "share_upstream", "amplifier.kind", "amplifier.train_on", "given_scores.csv",
    "search.tries", "search.seed", "afr.held_out_share", "text_to_image.folder",
    "train_text_to_image.start_from", "gate.labels", "gate.debiased_method",
)  # fmt: skip


def refuse_oracles(config: ConfigDict, dataset: Dataset) -> None:
    """Stop if a method needs bias labels that the dataset lacks."""
    oracles = [m for m in config.methods if "true_groups" in requirements(config, m)]
    unknown = sum(int(np.sum(s.bias < 0)) for s in (dataset.train, dataset.validation))
    several = len(oracles) > 1
    if oracles and unknown:
        raise UserError(
            f"{', '.join(oracles)} {'need' if several else 'needs'} the true bias of every training"
            f" and validation image, and {dataset.name} has {unknown:,} images without it: leave"
            f" {'them' if several else 'it'} out of config.methods."
        )


def refuse_markers(config: ConfigDict, dataset: Dataset) -> None:
    """Stop if a request needs the bias attribute and the dataset only marks conflicting images."""
    asking = [f"config.methods {m}" for m in config.methods if m in ("bias_bal", "bias_con")]
    if config.evaluation.group_by == "bias":
        asking.append("config.evaluation.group_by 'bias'")
    if dataset.bias_is_marker and asking:
        raise UserError(
            f"{', '.join(asking)} need{'' if len(asking) > 1 else 's'} the bias attribute of every"
            f" image, and {dataset.name} only says which images conflict: leave"
            f" {'them' if len(asking) > 1 else 'it'} out."
        )


def refuse_captions(config: ConfigDict, tasks: list[Task], dataset: Dataset) -> None:
    """Stop when a task would read a file of captions that is not of these classes and images."""
    if all(task.stage != "caption" for task in tasks) or config.captions.source != "csv":
        return
    train = dataset.train
    try:
        read_captions(Path(config.captions.csv), dataset.class_names, train.paths, train.labels)
    except (OSError, ValueError) as error:
        raise UserError(f"config.captions.csv: {str(error).rstrip('.')}.") from error


def refuse_changed(
    workdir: Path, config: ConfigDict, tasks: list[Task], expected: dict[str, dict[str, Any]]
) -> None:
    """Stop if any task except the report was made with other settings."""
    differing: list[str] = []
    changed: list[str] = []
    last = work_directory.read_record(workdir / "config.json")
    if last is not None:
        last, now = flatten(last), flatten(config.to_dict())
        differing += [
            f"{field} was {last.get(field)!r} and is {now[field]!r}"
            for field in DECIDING
            if last.get(field, now[field]) != now[field]  # a newer version may have more fields
        ]
    for task in tasks:
        previous = work_directory.previous_record(workdir / task.name)
        record = expected[task.name]
        if task.stage == "report" or previous is None:
            continue
        if previous.get("fingerprint") != record["fingerprint"]:
            changed.append(task.name)
            before, now = (
                {"data": r.get("data"), **flatten(r.get("config", {}))} for r in (previous, record)
            )
            differing += [
                f"{field} was {before.get(field)!r} and is {now.get(field)!r}"
                for field in sorted(before.keys() | now.keys())
                if before.get(field) != now.get(field)
            ]
    if changed:
        fields = "; ".join(dict.fromkeys(differing)) or "what they read from differs"
        raise UserError(
            f"{workdir} was made with another config ({fields}): give another --workdir, or"
            f" --rerun to do again {', '.join(changed)}."
        )
