"""Running the plan of a config: what is finished is skipped, what changed is named."""

import contextlib
import json
import logging
import platform
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ddb_jax.data.counts import count_mismatches, counts_table, describe
from ddb_jax.data.datasets import load_dataset
from ddb_jax.data.source import Dataset
from ddb_jax.run.cost import describe_costs, estimate_costs
from ddb_jax.run.memory import memory_table
from ddb_jax.run.plan import Task, plan, requirements
from ddb_jax.run.records import flatten, records
from ddb_jax.runtime import processes, work_directory
from ddb_jax.runtime.energy import EnergyMeter
from ddb_jax.runtime.errors import UserError
from ddb_jax.runtime.files import agreed, copy_file, first_process, read_json, write_json
from ddb_jax.runtime.manifest import code_version, library_versions
from ddb_jax.runtime.progress import duration
from ddb_jax.runtime.stop import StopFlag
from ddb_jax.stages.amplifier import (
    given_scores,
    measure_synthesis,
    score,
    synthesize,
    train_amplifier,
    train_diffusion,
)
from ddb_jax.stages.classifiers import evaluate, train_classifier, train_last_layer
from ddb_jax.stages.context import Context
from ddb_jax.stages.first_models import (
    infer_environments,
    train_base,
    train_bias_features,
    train_committee,
    train_reference,
)
from ddb_jax.stages.generated import (
    caption,
    check_generated,
    draw,
    extract,
    filter_captions,
    score_generated,
    steer,
    train_autoencoder,
    train_balanced_diffusion,
    train_biased,
    train_text_to_image,
)
from ddb_jax.stages.report import report
from ddb_jax.training.mesh import make_mesh

log = logging.getLogger("ddb_jax")

# Fields that no task reads, but that decide which tasks there are or what they are given.
DECIDING = (
    "seeds", "share_upstream", "amplifier.train_on", "given_scores.csv", "search.tries",
    "search.seed", "afr.held_out_share", "text_to_image.folder", "train_text_to_image.start_from",
    "gate.labels", "gate.debiased_method",
)  # fmt: skip

STAGES = {
    "train_diffusion": train_diffusion.run,
    "synthesize": synthesize.run,
    "measure_synthesis": measure_synthesis.run,
    "train_amplifier": train_amplifier.run,
    "score": score.run,
    "given_scores": given_scores.run,
    "train_reference": train_reference.run,
    "infer_environments": infer_environments.run,
    "train_committee": train_committee.run,
    "train_bias_features": train_bias_features.run,
    "train_base": train_base.run,
    "train_biased": train_biased.run,
    "extract": extract.run,
    "caption": caption.run,
    "filter_captions": filter_captions.run,
    "train_autoencoder": train_autoencoder.run,
    "train_text_to_image": train_text_to_image.run,
    "draw": draw.run,
    "train_balanced_diffusion": train_balanced_diffusion.run,
    "steer": steer.run,
    "check_generated": check_generated.run,
    "score_generated": score_generated.run,
    "train_classifier": train_classifier.run,
    "train_last_layer": train_last_layer.run,
    "evaluate": evaluate.run,
    "report": report.run,
}


def _refuse_oracles(config: ConfigDict, dataset: Dataset) -> None:
    """Stop when a method needs bias labels that the dataset lacks."""
    oracles = [m for m in config.methods if "true_groups" in requirements(config, m)]
    unknown = sum(int(np.sum(s.bias < 0)) for s in (dataset.train, dataset.validation))
    several = len(oracles) > 1
    if oracles and unknown:
        raise UserError(
            f"{', '.join(oracles)} {'need' if several else 'needs'} the true bias of every training"
            f" and validation image, and {dataset.name} has {unknown:,} images without it: leave"
            f" {'them' if several else 'it'} out of config.methods."
        )


def _refuse_markers(config: ConfigDict, dataset: Dataset) -> None:
    """Stop when what is asked for needs to know with what an image conflicts."""
    asking = [f"config.methods {m}" for m in config.methods if m in ("bias_bal", "bias_con")]
    if config.evaluation.group_by == "bias":
        asking.append("config.evaluation.group_by 'bias'")
    if dataset.bias_is_marker and asking:
        raise UserError(
            f"{', '.join(asking)} need{'' if len(asking) > 1 else 's'} the bias attribute of every"
            f" image, and {dataset.name} only says which images conflict: leave"
            f" {'them' if len(asking) > 1 else 'it'} out."
        )


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
    datasets = _load_datasets(config, stop)
    dataset = datasets["classifier"]
    _refuse_oracles(config, dataset)
    _refuse_markers(config, dataset)
    tasks = plan(config, dataset.bias_known and not dataset.bias_is_marker)
    if any(task.stage == "given_scores" for task in tasks):
        # Looked at every time: a method that is new may need what the file does not say.
        given_scores.read(config, dataset)
    elif config.given_scores.csv:
        log.warning("warning: no method of config.methods reads config.given_scores.csv")
    expected = records(config, tasks, {n: part.fingerprint for n, part in datasets.items()})
    chosen = _choose(tasks, only)
    status = {t.name: _status(workdir / t.name, expected[t.name], t in chosen) for t in tasks}
    ahead = [t for t in chosen if status[t.name] != "done"]
    costs = estimate_costs(config, ahead, dataset, datasets["generator"])
    if dry_run:
        lines = [f"{status[task.name]:11} {task.name}" for task in tasks]
        if costs:
            mesh = make_mesh(config.num_devices, config.fsdp)
            trained = [(task.stage, task.options.get("method", "")) for task in ahead]
            lines.append(describe_costs(costs, mesh))
            lines.append(memory_table(config, trained, dataset, datasets["generator"], mesh))
        if first_process():
            print("\n".join(lines))
        return
    if jax.process_count() > 1:
        if not processes.all_equal(json.dumps(expected, sort_keys=True)):
            raise UserError(
                "the processes of this run do not see the same: give all of them one config, the"
                " same images, and a work directory that all of them read."
            )
        stop = processes.AgreedStop(stop)
    # One process holds it for all.
    hold = work_directory.locked if first_process() else contextlib.nullcontext
    with hold(workdir):
        if not rerun:
            _refuse_changed(workdir, config, tasks, expected)
        write_json(workdir / "config.json", config.to_dict())
        for note in (*dataset.notes, *describe(dataset)):
            log.info(note)
        log.info(counts_table(dataset))
        for mismatch in count_mismatches(dataset):
            log.warning("warning: %s", mismatch)
        mesh = make_mesh(config.num_devices, config.fsdp)
        if costs:
            log.info(describe_costs(costs, mesh))
        begin = time.perf_counter()
        for task in chosen:
            _run_task(task, config, datasets, workdir, expected, mesh, stop)
        log.info("finished in %s", duration(time.perf_counter() - begin))
        report_folder = workdir / "report"
        if work_directory.is_done(report_folder, expected["report"]["fingerprint"]):
            for name in ("report.html", "results.csv", "scores.csv", "manifest.json"):
                if (report_folder / name).exists():
                    copy_file(report_folder / name, workdir / name)
            log.info("\n%s", (report_folder / "table.txt").read_text())
            log.info("report: %s", workdir / "report.html")


def _load_datasets(config: ConfigDict, stop: StopFlag) -> dict[str, Dataset]:
    """The data set at the size that classifiers see and at the size that the generator draws."""
    classifier = config.classifier
    sizes = {
        "generator": config.diffusion.image_size,
        "classifier": classifier.source_size or classifier.image_size,
    }
    loaded = {}
    try:
        for size in dict.fromkeys(sizes.values()):
            loaded[size] = load_dataset(config.data, size, stop)
    except (ValueError, FileNotFoundError) as error:
        raise UserError(str(error)) from error
    datasets = {name: loaded[size] for name, size in sizes.items()}
    for split, source in datasets["generator"].splits.items():
        # Scores are joined by position: an image that could be read at one size only is no match.
        if tuple(source.paths) != tuple(datasets["classifier"].splits[split].paths):
            raise UserError(
                f"the {split} images of {config.data.name} are not the same at the two sizes"
                f" {sizes['generator']} and {sizes['classifier']}: some could be read only once;"
                " run again, or mend them."
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
        log.info("%s: done before", task.name)
        return
    for name in task.inputs.values():
        if not work_directory.is_done(workdir / name, expected[name]["fingerprint"]):
            raise UserError(f"{task.name} reads from {name}, which is not done; run that first.")
    partial = work_directory.open_stage(folder, record)
    context = Context(
        config=config,
        dataset=datasets["classifier"],
        generator_dataset=datasets["generator"],
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
    with EnergyMeter(mesh.local_devices) as meter:
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
            "watt_hours": round(meter.energy.watt_hours, 4),
            "energy_source": meter.energy.source,
            "packages": library_versions(),
            "code": code_version(),
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
            for field in DECIDING
            if last.get(field) != now[field]
        ]
    for task in tasks:
        previous = work_directory.previous_record(workdir / task.name)
        record = expected[task.name]
        if task.stage == "report" or previous is None:
            continue
        if previous["fingerprint"] != record["fingerprint"]:
            changed.append(task.name)
            before, now = (
                {"data": r.get("data"), **flatten(r["config"])} for r in (previous, record)
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
