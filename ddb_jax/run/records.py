"""What the result of a task depends on, as a record with a fingerprint."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ddb_jax.checks.field_values import FIELDS, Field
from ddb_jax.models.pretrained import weights_path
from ddb_jax.run.plan import Task
from ddb_jax.runtime.work_directory import fingerprint


def records(
    config: ConfigDict, tasks: Iterable[Task], data_hashes: dict[str, str]
) -> dict[str, dict[str, Any]]:
    """For each task, everything its result depends on, and a fingerprint of that.

    Args:
        config: The resolved config.
        tasks: In the order of `plan`.
        data_hashes: Fingerprint of the data set at each of its sizes.
    """
    resolved = config.to_dict()
    if config.amplifier.kind == "lda":
        resolved["amplifier"]["weights"] = ""  # nothing reads them, and there may be no such file
    for section in resolved.values():
        if isinstance(section, dict) and section.get("weights"):
            # The file of an installed package counts by its content, too.
            path = weights_path(section["network"], section["weights"])
            section["weights"] = str(path or section["weights"])
    result: dict[str, dict[str, Any]] = {}
    for task in tasks:
        record = {
            "stage": task.stage,
            "seed": task.seed,
            "options": task.options,
            "data": data_hashes[task.data],
            "config": {
                name: _counted(name, _get(resolved, name))
                for name in task.sections
                if _counts(name) != "nothing"
            },
            "inputs": {key: result[name]["fingerprint"] for key, name in task.inputs.items()},
        }
        result[task.name] = {**record, "fingerprint": fingerprint(record)}
    return result


def _counted(name: str, value: Any) -> Any:
    """What counts of a section or field, see `Field.counts`; `name` is its dotted name."""
    if isinstance(value, dict):
        return {
            part: _counted(f"{name}.{part}", inner)
            for part, inner in value.items()
            if _counts(f"{name}.{part}") != "nothing"
        }
    counts = _counts(name)
    if value and counts == "content":
        return hashlib.sha256(Path(value).read_bytes()).hexdigest()[:16]
    if value and counts == "listing":
        folder = Path(value)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        listing = [(str(path.relative_to(folder)), path.stat().st_size) for path in files]
        return fingerprint({"files": listing})
    return value


def _counts(name: str) -> str:
    return FIELDS.get(name, Field()).counts


def _get(tree: dict[str, Any], name: str) -> Any:
    for part in name.split("."):
        tree = tree[part]
    return tree


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}, with lists for tuples as JSON has them."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat
