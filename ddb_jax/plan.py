"""The plan of a run: which tasks a config needs, in which order, and what each depends on."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from ddb_jax.debias.methods import METHODS
from ddb_jax.evaluation.selection import RULES as SELECTION_RULES
from ddb_jax.stages.search import draw
from ddb_jax.stages.training_set import selection_rule
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
        place: str = "",
        **options: Any,
    ) -> str:
        name = f"seed_{seed}/{place or stage}" + (f"/{variant}" if variant else "")
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
        return add("score", seed, (*sections, *PSEUDO_GROUP_RULE), inputs, train_on)

    def add_requirements(seed: int, needs: set[str]) -> dict[str, str]:
        """The tasks that a method of this seed reads from, but for the base of a last layer."""
        inputs = {}
        upstream_seed = config.seeds[0] if config.share_upstream else seed
        if needs & OF_AMPLIFIER and config.given_scores.csv:
            sections = ("data", "given_scores", "pseudo_groups")
            given = add("given_scores", config.seeds[0], sections, data="classifier")
            inputs["score"] = given
        elif needs & OF_AMPLIFIER:
            inputs["score"] = add_scores(upstream_seed, config.amplifier.train_on)
            if config.amplifier.compare:
                other = {"synthetic": "real", "real": "synthetic"}[config.amplifier.train_on]
                add_scores(upstream_seed, other)

        def add_first(stage: str, *sections: str, **sources: str) -> None:
            inputs[stage] = add(stage, seed, ("data", *sections), sources, data="classifier")

        if needs & {"reference_errors", "environments"}:
            add_first("train_reference", "classifier", "reference", *PSEUDO_GROUP_RULE)
        if "environments" in needs:
            reference = inputs["train_reference"]
            add_first("infer_environments", "eiil", train_reference=reference)
        if "committee_votes" in needs:
            add_first("train_committee", "classifier", "reference", "committee")
        if "bias_features" in needs:
            add_first("train_bias_features", "classifier", "reference")
        return inputs

    def add_base(seed: int, method: str) -> str:
        """The plainly trained network that a last layer is fitted over."""
        if METHODS[method].settings != "afr":
            return add_training(seed, "erm")
        needs = requirements(config, "erm")
        return add(
            "train_base",
            seed,
            ("data", "classifier", *_read_for(needs)),
            add_requirements(seed, needs),
            data="classifier",
            held_out_share=config.afr.held_out_share,
        )

    def add_training(seed: int, method: str) -> str:
        entry, needs = METHODS[method], requirements(config, method)
        sections = ("data", "classifier", *filter(None, [entry.settings]), *_read_for(needs))

        def add_inputs(seed: int) -> dict[str, str]:
            inputs = add_requirements(seed, needs)
            if entry.stage == "train_last_layer":
                inputs["base"] = add_base(seed, method)
            return inputs

        inputs, first = add_inputs(seed), config.seeds[0]
        searched = entry.search or entry.stage == "train_classifier"
        if searched and config.search.tries > 1:
            for i in range(config.search.tries):  # the first seed searches for all
                inputs[f"try_{i}"] = add(
                    entry.stage,
                    first,
                    sections,
                    add_inputs(first),
                    f"{method}/{i}",
                    "classifier",
                    "search",
                    method=method,
                    values=draw(config, method, i),
                )
        return add(entry.stage, seed, sections, inputs, method, "classifier", method=method)

    for seed in config.seeds:
        for method in config.methods:
            inputs = {"trained": add_training(seed, method)}
            sections = ("data", "classifier", "evaluation")
            add("evaluate", seed, sections, inputs, method, data="classifier", method=method)
    # The report reads every other task.
    sections = tuple(config.keys())
    tasks["report"] = Task(
        "report", "report", config.seeds[0], "generator", sections, {n: n for n in tasks}, {}
    )
    return list(tasks.values())


# What a predicted class and a loss are judged by; given scores read the other fields, too.
PSEUDO_GROUP_RULE = ("pseudo_groups.rule", "pseudo_groups.gamma")
# What an amplifier must have scored.
OF_AMPLIFIER = {"amplifier_scores", "amplifier_errors", "pseudo_groups"}


def requirements(config: ConfigDict, method: str) -> set[str]:
    """What the method and the rule that selects its step need beforehand."""
    rule = selection_rule(config, method)
    needs = {METHODS[method].requires, SELECTION_RULES[rule].requires}
    if METHODS[method].stage == "train_last_layer":
        needs |= requirements(config, "erm")  # of its base
    return needs


def _read_for(needs: set[str]) -> tuple[str, ...]:
    """Sections that say what the groups are."""
    return ("evaluation",) if "true_groups" in needs else ()


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
    """A section without the inessential fields; a file that it names stands for its content."""
    if not isinstance(section, dict):
        return section
    kept = {name: value for name, value in section.items() if name not in INESSENTIAL}
    for name in ("weights", "csv"):
        if kept.get(name):
            kept[name] = hashlib.sha256(Path(kept[name]).read_bytes()).hexdigest()[:16]
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
