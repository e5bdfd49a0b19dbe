"""The stages a config needs, in order; what is finished is skipped, what changed is named."""

import importlib.metadata
import logging
import platform
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from ddb_jax.data.datasets import load_dataset
from ddb_jax.data.source import Dataset, describe
from ddb_jax.debias.methods import METHODS
from ddb_jax.evaluation.selection import RULES as SELECTION_RULES
from ddb_jax.stages import (
    evaluate,
    measure_synthesis,
    report,
    score,
    synthesize,
    train_amplifier,
    train_classifier,
    train_diffusion,
)
from ddb_jax.stages.context import Context
from ddb_jax.training import work_directory
from ddb_jax.training.errors import UserError
from ddb_jax.training.files import read_json, write_json
from ddb_jax.training.mesh import make_mesh
from ddb_jax.training.progress import duration
from ddb_jax.training.stop import StopFlag

log = logging.getLogger("ddb_jax")

STAGES = {
    "train_diffusion": train_diffusion.run,
    "synthesize": synthesize.run,
    "measure_synthesis": measure_synthesis.run,
    "train_amplifier": train_amplifier.run,
    "score": score.run,
    "train_classifier": train_classifier.run,
    "evaluate": evaluate.run,
    "report": report.run,
}

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "scikit-learn")


class Task(NamedTuple):
    """One use of a stage.

    Attributes:
        name: Its folder in the work directory.
        stage: A key of STAGES.
        seed: Seeds its draws.
        sections: The config fields and sections that it reads.
        inputs: What it calls the tasks it reads from, and their names.
        options: Handed to the stage.
    """

    name: str
    stage: str
    seed: int
    sections: tuple[str, ...]
    inputs: dict[str, str]
    options: dict[str, Any]


def plan(config: ConfigDict, bias_known: bool) -> list[Task]:
    """The tasks of a run, each after those it reads from.

    Args:
        config: The resolved config.
        bias_known: Whether the dataset names the bias of its images.
    """
    tasks: dict[str, Task] = {}

    def add(
        stage: str,
        seed: int,
        sections: tuple[str, ...],
        inputs: dict[str, str] | None = None,
        variant: str = "",
        **options: Any,
    ) -> str:
        name = f"seed_{seed}/{stage}" + (f"/{variant}" if variant else "")
        tasks.setdefault(name, Task(name, stage, seed, sections, inputs or {}, options))
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
                ("data", "measure_synthesis", "classifier"),
                {"synthesize": synthesis},
            )
        return synthesis

    def add_scores(seed: int, train_on: str) -> str:
        inputs = {"synthesize": add_synthesis(seed)} if train_on == "synthetic" else {}
        sections = ("data", "amplifier")
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
            if "true_groups" in _requirements(config, method):
                sections += ("evaluation",)
            trained = add(
                "train_classifier",
                seed,
                sections,
                {"score": scores} if needed[method] else {},
                method,
                method=method,
            )
            sections = ("data", "classifier", "evaluation")
            add("evaluate", seed, sections, {"train_classifier": trained}, method, method=method)
    # The report reads every other task.
    sections = tuple(config.keys())
    tasks["report"] = Task(
        "report", "report", config.seeds[0], sections, {name: name for name in tasks}, {}
    )
    return list(tasks.values())


def _requirements(config: ConfigDict, method: str) -> set[str]:
    """What the method and the rule that selects its step need beforehand."""
    rule = train_classifier.selection_rule(config, method)
    return {METHODS[method].requires, SELECTION_RULES[rule].requires}


def _needs_scores(config: ConfigDict, method: str) -> bool:
    return bool(_requirements(config, method) & {"amplifier_scores", "pseudo_groups"})


def _refuse_oracles(config: ConfigDict, dataset: Dataset) -> None:
    """Stop when a method needs bias labels that the dataset lacks."""
    oracles = [m for m in config.methods if "true_groups" in _requirements(config, m)]
    unknown = sum(int(np.sum(s.bias < 0)) for s in (dataset.train, dataset.validation))
    if oracles and unknown:
        raise UserError(
            f"{', '.join(oracles)} needs the true bias of every training and validation image, and"
            f" {dataset.name} has {unknown:,} images without it: leave it out of config.methods."
        )


def records(config: ConfigDict, tasks: Iterable[Task]) -> dict[str, dict[str, Any]]:
    """For each task what its result depends on, with the fingerprint of it all."""
    resolved = config.to_dict()
    result: dict[str, dict[str, Any]] = {}
    for task in tasks:
        record = {
            "stage": task.stage,
            "seed": task.seed,
            "options": task.options,
            "config": {section: _essential(resolved[section]) for section in task.sections},
            "inputs": {key: result[name]["fingerprint"] for key, name in task.inputs.items()},
        }
        result[task.name] = {**record, "fingerprint": work_directory.fingerprint(record)}
    return result


def _essential(section: Any) -> Any:
    """A section without the fields that cannot change a result, or that choose the task itself."""
    if not isinstance(section, dict):
        return section
    inessential = ("log_every", "checkpoint_every", "train_on", "compare")
    return {name: value for name, value in section.items() if name not in inessential}


def run(
    config: ConfigDict,
    workdir: Path,
    *,
    stop: StopFlag,
    only: str = "",
    dry_run: bool = False,
    rerun: bool = False,
) -> None:
    """Run what is not finished.

    Args:
        config: A checked config.
        workdir: Where everything is written.
        stop: Set when the run is asked to stop.
        only: Run just the tasks of this stage, or the one task of this name.
        dry_run: Print what is done and what would run, and change nothing.
        rerun: Do again what other settings made.

    Raises:
        UserError: The work directory was made with other settings and `rerun` is not set; a task
            of `only` lacks its inputs; the work directory is in use or cannot be written to.
        Interrupted: `stop` was set; what was done is saved.
    """
    try:
        dataset = load_dataset(config.data)
    except ValueError as error:
        raise UserError(str(error)) from error
    _refuse_oracles(config, dataset)
    tasks = plan(config, dataset.bias_known)
    expected = records(config, tasks)
    chosen = _choose(tasks, only)
    if dry_run:
        for task in tasks:
            status = _status(workdir / task.name, expected[task.name], task in chosen)
            print(f"{status:11} {task.name}")
        return
    with work_directory.locked(workdir):
        if not rerun:
            _refuse_changed(workdir, config, tasks, expected)
        write_json(workdir / "config.json", config.to_dict())
        for note in (*dataset.notes, *describe(dataset)):
            log.info(note)
        mesh = make_mesh(config.num_devices)
        begin = time.perf_counter()
        for task in chosen:
            _run_task(task, config, dataset, workdir, expected, mesh, stop)
        log.info("finished in %s", duration(time.perf_counter() - begin))
        report_folder = workdir / "report"
        if work_directory.is_done(report_folder, expected["report"]["fingerprint"]):
            for name in ("report.html", "results.csv", "scores.csv"):
                if (report_folder / name).exists():
                    shutil.copyfile(report_folder / name, workdir / name)
            log.info("\n%s", (report_folder / "table.txt").read_text())
            log.info("report: %s", workdir / "report.html")


def _run_task(
    task: Task,
    config: ConfigDict,
    dataset: Dataset,
    workdir: Path,
    expected: dict[str, dict[str, Any]],
    mesh: jax.sharding.Mesh,
    stop: StopFlag,
) -> None:
    folder, record = workdir / task.name, expected[task.name]
    work_directory.finish_rename(folder)
    if work_directory.is_done(folder, record["fingerprint"]):
        log.info("%s: done before", task.name)
        return
    for name in task.inputs.values():
        if not work_directory.is_done(workdir / name, expected[name]["fingerprint"]):
            raise UserError(f"{task.name} reads from {name}, which is not done; run that first.")
    partial = work_directory.open_stage(folder, record)
    context = Context(
        config=config,
        dataset=dataset,
        mesh=mesh,
        stop=stop,
        name=task.name,
        seed=task.seed,
        folder=partial,
        inputs={key: workdir / name for key, name in task.inputs.items()},
        options=task.options,
    )
    context.leave_if_stopped("the stages before it are done")
    begin = time.perf_counter()
    result = STAGES[task.stage](context)
    seconds = time.perf_counter() - begin
    work_directory.close_stage(
        folder,
        {
            **record,
            "result": result,
            "seconds": round(seconds, 2),
            "device": f"{mesh.size} x {mesh.devices.flat[0].device_kind}",
            "python": platform.python_version(),
            "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        },
    )
    log.info("%s: %s", task.name, duration(seconds))


def _choose(tasks: list[Task], only: str) -> list[Task]:
    chosen = [task for task in tasks if only in ("", task.stage, task.name)]
    if not chosen:
        names = sorted({task.stage for task in tasks})
        raise UserError(f"--stage={only} names no stage of this config, which has {names}.")
    return chosen


def _status(folder: Path, record: dict[str, Any], chosen: bool) -> str:
    if work_directory.is_done(folder, record["fingerprint"]):
        return "done"
    if not chosen:
        return "not chosen"
    if work_directory.is_begun(folder, record["fingerprint"]):
        return "would go on"
    return "would rerun" if work_directory.previous_record(folder) else "would run"


def _refuse_changed(
    workdir: Path, config: ConfigDict, tasks: list[Task], expected: dict[str, dict[str, Any]]
) -> None:
    """Stop when a task but the report was made with other settings."""
    differing: list[str] = []
    changed: list[str] = []
    if (workdir / "config.json").exists():
        last, now = flatten(read_json(workdir / "config.json")), flatten(config.to_dict())
        differing += [
            f"{field} was {last.get(field)!r} and is {now[field]!r}"
            for field in ("seeds", "share_upstream", "amplifier.train_on")
            if last.get(field) != now[field]
        ]
    for task in tasks:
        previous = work_directory.previous_record(workdir / task.name)
        record = expected[task.name]
        if task.stage == "report" or previous is None:
            continue
        if previous["fingerprint"] != record["fingerprint"]:
            changed.append(task.name)
            before, now = flatten(previous["config"]), flatten(record["config"])
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


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}, with lists for tuples as JSON has them."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat
