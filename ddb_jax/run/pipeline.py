"""Runs the plan of a config: skips finished tasks and names changed settings."""

import contextlib
import json
import logging
import platform
import time
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from ddb_jax.data.counts import overview
from ddb_jax.data.datasets import load_dataset
from ddb_jax.data.source import Dataset
from ddb_jax.run.cost import Cost, describe_costs, estimate_costs
from ddb_jax.run.memory import memory_table
from ddb_jax.run.plan import Task, plan
from ddb_jax.run.publish_model import publish_model
from ddb_jax.run.records import records
from ddb_jax.run.refusals import refuse_captions, refuse_changed, refuse_markers, refuse_oracles
from ddb_jax.runtime import processes, work_directory
from ddb_jax.runtime.energy import EnergyMeter
from ddb_jax.runtime.errors import UserError
from ddb_jax.runtime.files import agreed, copy_file, first_process, write_json
from ddb_jax.runtime.manifest import code_version, library_versions
from ddb_jax.runtime.progress import duration
from ddb_jax.runtime.stop import StopFlag
from ddb_jax.stages.amplifier import given_scores
from ddb_jax.stages.context import Context, declared_config
from ddb_jax.stages.table import STAGES
from ddb_jax.training.mesh import make_mesh

log = logging.getLogger("ddb_jax")


def run(
    config: ConfigDict,
    workdir: Path,
    *,
    stop: StopFlag,
    only: str = "",
    dry_run: str = "",
    rerun: bool = False,
) -> None:
    """Run all unfinished tasks.

    Args:
        config: A checked config.
        workdir: Where everything is written.
        stop: Set when the run is asked to stop.
        only: Run only the tasks of this stage, or the one task of this name.
        dry_run: "plan" prints what is done, what would run and its cost, and changes nothing;
            "memory" compiles the training steps besides and prints the memory they take; "" runs.
        rerun: Repeat tasks that were made with other settings.

    Raises:
        UserError: The work directory was made with other settings and `rerun` is not set; a task
            of `only` lacks its inputs; the work directory is in use or cannot be written to.
        Interrupted: `stop` was set; what was done is saved.
    """
    datasets = _load_datasets(config, stop)
    dataset = datasets["classifier"]
    refuse_oracles(config, dataset)
    refuse_markers(config, dataset)
    tasks = plan(config, dataset.bias_known and not dataset.bias_is_marker)
    refuse_captions(config, tasks, dataset)
    if any(task.stage == "given_scores" for task in tasks):
        # Checked every time: a newly added method may need what the file lacks.
        given_scores.read(config, dataset)
    elif config.given_scores.csv:
        log.warning("warning: no method of config.methods reads config.given_scores.csv")
    expected = records(config, tasks, {n: part.fingerprint for n, part in datasets.items()})
    chosen = _choose(tasks, only)
    status = {t.name: _status(workdir / t.name, expected[t.name], t in chosen) for t in tasks}
    ahead = [t for t in chosen if status[t.name] != "done"]
    costs = estimate_costs(config, ahead, dataset, datasets["generator"])
    if dry_run:
        _print_plan(config, datasets, [(status[task.name], task) for task in tasks], costs, dry_run)
        return
    if jax.process_count() > 1:
        if not processes.all_equal(json.dumps(expected, sort_keys=True)):
            raise UserError(
                "the processes of this run see different inputs: give all of them the same config,"
                " images and work directory."
            )
        stop = processes.AgreedStop(stop)
    # One process holds the lock for all.
    hold = work_directory.locked if first_process() else contextlib.nullcontext
    with hold(workdir):
        if not rerun:
            refuse_changed(workdir, config, tasks, expected)
        write_json(workdir / "config.json", config.to_dict())
        _log_overview(dataset)
        mesh = make_mesh(config.num_devices, config.fsdp)
        if config.chosen:
            log.info(config.chosen)
        if costs:
            log.info(describe_costs(costs, mesh))
        begin = time.perf_counter()
        for task in chosen:
            _run_task(task, config, datasets, workdir, expected, mesh, stop)
        log.info("finished in %s", duration(time.perf_counter() - begin))
        if work_directory.is_done(workdir / "report", expected["report"]["fingerprint"]):
            publish_model(workdir, config, dataset, tasks)
            _publish_report(workdir)


def _print_plan(
    config: ConfigDict,
    datasets: dict[str, Dataset],
    tasks: list[tuple[str, Task]],
    costs: list[Cost],
    kind: str,
) -> None:
    """What the images are, the tasks with their status, their cost, and with "memory" that."""
    dataset = datasets["classifier"]
    warnings, facts = overview(dataset)
    lines = [*(f"warning: {warning}" for warning in warnings), *facts]
    lines += [config.chosen] if config.chosen else []
    lines += [f"{status:11} {task.name}" for status, task in tasks]
    if costs:
        mesh = make_mesh(config.num_devices, config.fsdp)
        lines.append(describe_costs(costs, mesh))
        if kind == "memory":
            ahead = [
                (t.stage, t.options.get("method", ""))
                for status, t in tasks
                if status not in ("done", "not chosen")
            ]
            lines.append(memory_table(config, ahead, dataset, datasets["generator"], mesh))
    if first_process():
        print("\n".join(lines))


def _load_datasets(config: ConfigDict, stop: StopFlag) -> dict[str, Dataset]:
    """The data set at the classifier's size and, where there is one, at the generator's size."""
    classifier = config.classifier
    sizes = {
        "generator": config.diffusion.image_size,
        "classifier": classifier.source_size or classifier.image_size,
    }
    if all(task.data == "classifier" for task in plan(config, bias_known=True)):
        sizes["generator"] = sizes["classifier"]  # there is no generator
    loaded = {}
    try:
        for size in dict.fromkeys(sizes.values()):
            loaded[size] = load_dataset(config.data, size, stop)
    except (ValueError, FileNotFoundError) as error:
        raise UserError(str(error)) from error
    datasets = {name: loaded[size] for name, size in sizes.items()}
    for split, source in datasets["generator"].splits.items():
        # Scores are joined by position, so both sizes must have the same images.
        if tuple(source.paths) != tuple(datasets["classifier"].splits[split].paths):
            raise UserError(
                f"the {split} images of {config.data.name} are not the same at the two sizes"
                f" {sizes['generator']} and {sizes['classifier']}: some could be read only once;"
                " run again, or fix them."
            )
    return datasets


def _run_task(
    task: Task,
    config: ConfigDict,
    datasets: dict[str, Dataset],
    workdir: Path,
    expected: dict[str, dict[str, Any]],
    mesh: jax.sharding.Mesh,
    stop: StopFlag,
) -> None:
    folder, record = workdir / task.name, expected[task.name]
    processes.barrier(f"begin {task.name}")
    work_directory.finish_rename(folder)
    if agreed(lambda: work_directory.is_done(folder, record["fingerprint"])):
        log.info("%s: already done", task.name)
        return
    for name in task.inputs.values():
        if not work_directory.is_done(workdir / name, expected[name]["fingerprint"]):
            raise UserError(f"{task.name} reads from {name}, which is not done; run it first.")
    partial = work_directory.open_stage(folder, record)
    stage = STAGES[task.stage]
    context = Context(
        config=visible_config(config, task),
        dataset=datasets[task.data],
        mesh=mesh,
        stop=stop,
        name=task.name,
        seed=task.seed,
        folder=partial,
        inputs={key: workdir / name for key, name in task.inputs.items()},
        options=task.options,
        generator_dataset=datasets["generator"] if task.stage == "report" else None,
    )
    context.leave_if_stopped("the stages before it are done")
    begin = time.perf_counter()
    with EnergyMeter(mesh.local_devices) as meter:
        result = stage.run(context)
    seconds = time.perf_counter() - begin
    work_directory.close_stage(
        folder,
        {
            **record,
            "result": result,
            "seconds": round(seconds, 2),
            "device": f"{mesh.size} x {mesh.devices.flat[0].device_kind}",
            "python": platform.python_version(),
            "watt_hours": meter.energy.watt_hours,
            "energy_source": meter.energy.source,
            "packages": library_versions(),
            "code": code_version(),
        },
    )
    log.info("%s: %s", task.name, duration(seconds))


def _log_overview(dataset: Dataset) -> None:
    """Tell what the images are, what is suspicious first."""
    warnings, facts = overview(dataset)
    for warning in warnings:
        log.warning("warning: %s", warning)
    for fact in facts:
        log.info(fact)


def _publish_report(workdir: Path) -> None:
    """Copy what the report stage wrote to the top of the work directory, and log its table."""
    folder = workdir / "report"
    for name in ("report.html", "results.csv", "scores.csv", "data_check.csv", "manifest.json"):
        if (folder / name).exists():
            copy_file(folder / name, workdir / name)
    log.info("\n%s", (folder / "table.txt").read_text())
    log.info("report: %s", workdir / "report.html")


def visible_config(config: ConfigDict, task: Task) -> ConfigDict:
    """The fields that the stage's row and the task declare; reading another one raises."""
    return declared_config(config, (*task.sections, *STAGES[task.stage].shows))


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
