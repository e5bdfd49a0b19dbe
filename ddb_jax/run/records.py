"""What the result of a task depends on, as a record with a fingerprint."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ddb_jax.run.plan import Task
from ddb_jax.runtime.work_directory import fingerprint


def records(
    config: ConfigDict, tasks: Iterable[Task], data_hashes: dict[str, str]
) -> dict[str, dict[str, Any]]:
    """For each task what its result depends on, with the fingerprint of it all.

    Args:
        config: The resolved config.
        tasks: In the order of `plan`.
        data_hashes: Fingerprint of the data set at each of its sizes.
    """
    resolved = config.to_dict()
    result: dict[str, dict[str, Any]] = {}
    for task in tasks:
        record = {
            "stage": task.stage,
            "seed": task.seed,
            "options": task.options,
            "data": data_hashes[task.data],
            "config": {section: _essential(_get(resolved, section)) for section in task.sections},
            "inputs": {key: result[name]["fingerprint"] for key, name in task.inputs.items()},
        }
        result[task.name] = {**record, "fingerprint": fingerprint(record)}
    return result


# Fields that cannot change a result, that choose the task itself, or for whose effect the hash of
# the data stands.
INESSENTIAL = (
    "log_every", "checkpoint_every", "train_on", "compare", "root", "imagenet_a_root", "cache",
    "num_threads", "max_broken", "remat",
)  # fmt: skip


def _essential(section: Any) -> Any:
    """A section without the inessential fields; a file that it names stands for its content."""
    if not isinstance(section, dict):
        return section
    kept = {n: _essential(value) for n, value in section.items() if n not in INESSENTIAL}
    for name in ("weights", "csv"):
        if kept.get(name):
            kept[name] = hashlib.sha256(Path(kept[name]).read_bytes()).hexdigest()[:16]
    for name in ("folder", "start_from"):  # of gigabytes, for which names and sizes stand
        if kept.get(name):
            folder = Path(kept[name])
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            listing = [(str(path.relative_to(folder)), path.stat().st_size) for path in files]
            kept[name] = fingerprint({"files": listing})
    return kept


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
