"""How fast a config's programs run here: `python -m ddb_jax.benchmark --config=configs/bar.py`.

--config=FILE.py[:PRESET]  the run's settings; --config.FIELD=VALUE changes one of them
--programs=NAME,NAME       of input_pipeline, train_step, training, augmentation (all)
--rounds=N                 how often every figure is taken (5)
--steps=N                  training steps in one round (8)
--json=FILE                write there too, with the value of every round
"""

import argparse
import difflib
import importlib.metadata
import logging
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from ddb_jax import config_check
from ddb_jax.benchmark.augmentation import augmentation
from ddb_jax.benchmark.bench import Bench, Row
from ddb_jax.benchmark.input_pipeline import input_pipeline
from ddb_jax.benchmark.training import train_step, training
from ddb_jax.data.datasets import load_dataset
from ddb_jax.training.compilation import enable_cache
from ddb_jax.training.errors import Interrupted, UserError
from ddb_jax.training.files import write_json
from ddb_jax.training.mesh import make_mesh
from ddb_jax.training.stop import stop_flag

PROGRAMS: dict[str, Callable[[Bench], list[Row]]] = {
    "input_pipeline": input_pipeline,
    "train_step": train_step,
    "training": training,
    "augmentation": augmentation,
}

PACKAGES = ("jax", "jaxlib", "flax", "grain", "array-record", "numpy", "pillow")


def main(arguments: Sequence[str]) -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m ddb_jax.benchmark",
        usage=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True)
    parser.add_argument("--programs", default=",".join(PROGRAMS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--json", type=Path)
    given, rest = parser.parse_known_args(arguments)
    overrides = [argument for argument in rest if argument.startswith("--config.")]
    unknown = [argument for argument in rest if argument not in overrides]
    if unknown:
        parser.error(f"unknown arguments: {' '.join(unknown)} (a field is --config.FIELD=VALUE)")
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        names = choose_programs(given.programs)
        for flag in ("rounds", "steps"):
            if getattr(given, flag) < 1:
                raise UserError(f"--{flag}={getattr(given, flag)} must be at least 1.")
        if given.json and not given.json.parent.is_dir():  # not found out after minutes
            raise UserError(f"--json={given.json}: there is no folder {given.json.parent}.")
        config = config_check.load_config(given.config, overrides)
        config_check.check_config(config)
        bench = _prepare(config, given.rounds, given.steps)
        report = measure(bench, names, {"arguments": list(arguments), **_conditions(config, bench)})
        if given.json:
            write_json(given.json, report)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error}.", file=sys.stderr)
        return 1
    except Interrupted as interrupted:
        print(interrupted, file=sys.stderr)
        return interrupted.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def choose_programs(names: str) -> list[str]:
    """The programs of a list with commas, in the order of PROGRAMS.

    Raises:
        UserError: There is no such program; names the nearest.
    """
    given = [name.strip() for name in names.split(",")]
    for name in given:
        if name not in PROGRAMS:
            near = difflib.get_close_matches(name, PROGRAMS, 1, 0.0)[0]
            raise UserError(
                f"--programs has {name!r}, the nearest of {', '.join(PROGRAMS)} is {near!r}."
            )
    return [name for name in PROGRAMS if name in given]


def measure(bench: Bench, names: Sequence[str], conditions: dict[str, Any]) -> dict[str, Any]:
    """Run the programs and print their tables; returns all of it, ready for JSON."""
    print("\n".join(f"{name}: {value}" for name, value in conditions.items()), flush=True)
    print(f"\n{'':42}{'median':>10}{'lowest':>10}{'highest':>10}")
    before, begin = _other_cpu_seconds(), time.perf_counter()
    tables = {}
    for name in names:
        rows = PROGRAMS[name](bench)
        print("\n".join([name, *map(_line, rows)]), flush=True)
        tables[name] = [row._asdict() for row in rows]
    after, seconds = _other_cpu_seconds(), time.perf_counter() - begin
    if before is not None and after is not None:
        others = round((after - before) / seconds, 2)
        print(f"\nmeanwhile other processes used {others} of {os.cpu_count()} cores.")
        conditions = {**conditions, "cores_used_by_others": others}
    return {"conditions": conditions, "programs": tables}


def _prepare(config: Any, rounds: int, steps: int) -> Bench:
    """Load what the programs need; images are decoded when first seen."""
    settings = config.classifier
    try:
        with stop_flag() as stop:
            dataset = load_dataset(config.data, settings.source_size or settings.image_size, stop)
    except (ValueError, FileNotFoundError) as error:
        raise UserError(str(error)) from error
    return Bench(
        settings=settings,
        source=dataset.train,
        num_classes=len(dataset.class_names),
        mesh=make_mesh(config.num_devices),
        rounds=rounds,
        steps=steps,
    )


def _conditions(config: Any, bench: Bench) -> dict[str, Any]:
    """What the figures were taken on and with, ready for JSON."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    device = bench.mesh.devices.flat[0]
    return {
        "images": f"{len(bench.source):,} of {config.data.name}, {bench.source.image_shape[0]} px",
        "step": f"{bench.settings.network} in {bench.settings.dtype},"
        f" {bench.settings.batch_size} images",
        "device": f"{bench.mesh.size} x {device.device_kind} ({jax.default_backend()})",
        "host": f"{os.cpu_count()} cores of {model[0] if model else platform.machine()}",
        "load": f"{os.getloadavg()[0]:.2f} in the last minute",
        "rounds": f"{bench.rounds}, of {bench.steps} training steps",
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def _line(row: Row) -> str:
    figures = (statistics.median(row.values), min(row.values), max(row.values))
    return f"  {row.case:40}" + "".join(f"{_figure(x):>10}" for x in figures) + f"  {row.unit}"


def _figure(x: float) -> str:
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"


def _other_cpu_seconds() -> float | None:
    """Processor time of other processes since the machine's start; None where it is not told."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    user, nice, system, _, _, irq, softirq, steal = map(int, stat.read_text().split()[1:9])
    ticks = user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK") - time.process_time()


if __name__ == "__main__":
    enable_cache()
    sys.exit(main(sys.argv[1:]))
