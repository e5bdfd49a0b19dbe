"""The plan of a run: which tasks a config needs, in which order, and what each depends on."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from ddb_jax.debias.methods import METHODS
from ddb_jax.evaluation.selection import RULES as SELECTION_RULES
from ddb_jax.stages.train_classifier import selection_rule
from ddb_jax.training.work_directory import fingerprint


class Task(NamedTuple):
    """One use of a stage.

    Attributes:
        name: Its folder in the work directory.
        stage: Name of the stage.
        seed: Seeds its draws.
        data: Which of the data set's two sizes it reads, "generator" or "classifier".
        sections: The config sections and fields that it reads.
        inputs: What it calls the tasks it reads from, and their names.
        options: Handed to the stage.
    """

    name: str
    stage: str
    seed: int
    data: str
    sections: tuple[str, ...]
    inputs: dict[str, str]
    options: dict[str, Any]


def plan(config: ConfigDict, bias_known: bool) -> list[Task]:
    """The tasks of a run, each after those it reads from.

    Args:
        config: The resolved config.
        bias_known: Whether the dataset names the bias attribute of its images.
    """
    tasks: dict[str, Task] = {}

    def add(
        stage: str,
        seed: int,
        sections: tuple[str, ...],
        inputs: dict[str, str] | None = None,
        variant: str = "",
        data: str = "generator",
        **options: Any,
    ) -> str:
        name = f"seed_{seed}/{stage}" + (f"/{variant}" if variant else "")
        tasks.setdefault(name, Task(name, stage, seed, data, sections, inputs or {}, options))
        return name

    def add_synthesis(seed: int) -> str:
        # Its sample grid is drawn by the synthesis settings of the day; they are not among what
        # it depends on, since a new guidance scale must not train a new model.
        diffusion = add("train_diffusion", seed, ("data", "unet", "diffusion"))
        synthesis = add(
            "synthesize",
            seed,
            ("data", "unet", "diffusion", "synthesis"),
            {"train_diffusion": diffusion},
        )
        if bias_known and config.measure_synthesis.probe_steps:
            add(
                "measure_synthesis",
                seed,
                ("data", "diffusion.image_size", "measure_synthesis", "amplifier"),
                {"synthesize": synthesis},
            )
        return synthesis

    def add_scores(seed: int, train_on: str) -> str:
        inputs = {"synthesize": add_synthesis(seed)} if train_on == "synthetic" else {}
        sections = ("data", "diffusion.image_size", "amplifier")
        amplifier = add("train_amplifier", seed, sections, inputs, train_on, train_on=train_on)
        inputs = {"train_amplifier": amplifier}
        return add("score", seed, (*sections, "pseudo_groups"), inputs, train_on)

    needed = {method: _needs_scores(config, method) for method in config.methods}
    for seed in config.seeds:
        upstream_seed = config.seeds[0] if config.share_upstream else seed
        scores = ""
        if any(needed.values()):
            scores = add_scores(upstream_seed, config.amplifier.train_on)
            if config.amplifier.compare:
                other = {"synthetic": "real", "real": "synthetic"}[config.amplifier.train_on]
                add_scores(upstream_seed, other)
        for method in config.methods:
            sections = ("data", "classifier", *filter(None, [METHODS[method].settings]))
            if "true_groups" in requirements(config, method):
                sections += ("evaluation",)
            inputs = {"score": scores} if needed[method] else {}
            if "reference_errors" in requirements(config, method):
                reading = ("data", "classifier", "jtt.first_steps", "pseudo_groups")
                reference = add("train_reference", seed, reading, data="classifier")
                inputs["train_reference"] = reference
            trained = add(
                "train_classifier",
                seed,
                sections,
                inputs,
                method,
                data="classifier",
                method=method,
            )
            sections = ("data", "classifier", "evaluation")
            inputs = {"train_classifier": trained}
            add("evaluate", seed, sections, inputs, method, data="classifier", method=method)
    # The report reads every other task.
    sections = tuple(config.keys())
    tasks["report"] = Task(
        "report", "report", config.seeds[0], "generator", sections, {n: n for n in tasks}, {}
    )
    return list(tasks.values())


def requirements(config: ConfigDict, method: str) -> set[str]:
    """What the method and the rule that selects its step need beforehand."""
    rule = selection_rule(config, method)
    return {METHODS[method].requires, SELECTION_RULES[rule].requires}


def _needs_scores(config: ConfigDict, method: str) -> bool:
    of_amplifier = {"amplifier_scores", "amplifier_errors", "pseudo_groups"}
    return bool(requirements(config, method) & of_amplifier)


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
    "num_threads", "max_broken",
)  # fmt: skip


def _essential(section: Any) -> Any:
    """A section without the inessential fields; a file of weights stands for its content."""
    if not isinstance(section, dict):
        return section
    kept = {name: value for name, value in section.items() if name not in INESSENTIAL}
    if kept.get("weights"):
        kept["weights"] = hashlib.sha256(Path(kept["weights"]).read_bytes()).hexdigest()[:16]
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
