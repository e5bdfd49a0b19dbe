"""How fast a config's programs run here: `python -m ddb_jax.benchmark --config=configs/bar.py`.

--config=FILE.py[:PRESET]  the run's settings (configs/base.py); --config.FIELD=VALUE changes one
--preset=NAME,NAME         of cpu, paper, gpu: networks of these sizes, without a data set
--programs=NAME,NAME       of diffusion_train, sampling, classifier_train, lff_train, scoring,
                           text_to_image, input_pipeline, training, augmentation (all)
--rounds=N                 how often every figure is taken (5)
--steps=N                  training steps, or network evaluations, in one round (8)
--peer[=MODE,MODE]         the same work in PyTorch beside it: eager, channels_last, compile, bf16
--json=FILE                also write there, with the value of every round
"""

import argparse
import difflib
import functools
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ddb_jax.benchmark import machine, programs
from ddb_jax.benchmark.augmentation import augmentation
from ddb_jax.benchmark.bench import Bench, BenchmarkRow
from ddb_jax.benchmark.input_pipeline import input_pipeline
from ddb_jax.benchmark.measure import measure
from ddb_jax.benchmark.peer.client import MODES, Peer
from ddb_jax.benchmark.presets import PRESETS, Size, sized
from ddb_jax.benchmark.table import footnotes, heading, lines
from ddb_jax.benchmark.text_to_image import text_to_image
from ddb_jax.benchmark.training import training
from ddb_jax.checks import config as config_check
from ddb_jax.data.datasets import load_dataset
from ddb_jax.data.source import ArraySource
from ddb_jax.runtime.errors import Interrupted, UserError
from ddb_jax.runtime.files import write_json
from ddb_jax.runtime.host_memory import keep_freed_memory
from ddb_jax.runtime.processes import check_platform
from ddb_jax.runtime.stop import stop_flag
from ddb_jax.training.compilation import enable_cache
from ddb_jax.training.mesh import make_mesh

# Noise in the place of a preset's data set.
NUM_IMAGES = 1024

PROGRAMS: dict[str, Callable[[Bench], list[BenchmarkRow]]] = {
    "diffusion_train": functools.partial(measure, programs.diffusion_train),
    "sampling": functools.partial(measure, programs.sampling),
    "classifier_train": functools.partial(measure, programs.classifier_train),
    "lff_train": functools.partial(measure, programs.lff_train),
    "scoring": functools.partial(measure, programs.scoring),
    "text_to_image": functools.partial(measure, text_to_image),
    "input_pipeline": input_pipeline,
    "training": training,
    "augmentation": augmentation,
}


def main(arguments: Sequence[str]) -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m ddb_jax.benchmark",
        usage=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", default="configs/base.py")
    parser.add_argument("--preset", default="")
    parser.add_argument("--programs", default=",".join(PROGRAMS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--peer", nargs="?", const="eager")
    parser.add_argument("--json", type=Path)
    given, rest = parser.parse_known_args(arguments)
    overrides = [argument for argument in rest if argument.startswith("--config.")]
    unknown = [argument for argument in rest if argument not in overrides]
    if unknown:
        parser.error(f"unknown arguments: {' '.join(unknown)} (a field is --config.FIELD=VALUE)")
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    peer = None
    try:
        asked = choose("--programs", given.programs, PROGRAMS)
        names = [name for name in PROGRAMS if name in asked]
        for flag in ("rounds", "steps"):
            if getattr(given, flag) < 1:
                raise UserError(f"--{flag}={getattr(given, flag)} must be at least 1.")
        if given.json and not given.json.parent.is_dir():  # before minutes of measuring
            raise UserError(f"--json={given.json}: there is no folder {given.json.parent}.")
        presets = choose("--preset", given.preset, PRESETS) if given.preset else []
        sizes = [size for name in presets for size in PRESETS[name]]
        modes = choose("--peer", given.peer, MODES) if given.peer else []
        check_platform()
        config = config_check.load_config(given.config, overrides)
        if not sizes:
            config_check.check_config(config)
        peer = Peer(modes) if modes else None
        make = functools.partial(Bench, rounds=given.rounds, steps=given.steps, peer=peer)
        fields = {o.removeprefix("--config.").split("=")[0] for o in overrides}
        if sizes:
            benches = [(of_size(config, size, fields, make), size.programs) for size in sizes]
        else:
            benches = [(of_config(config, make), tuple(PROGRAMS))]
        report = run(names, benches, list(arguments))
        if given.json:
            write_json(given.json, report)
    except (UserError, ValueError) as error:  # ValueErrors come from sizes that do not fit together
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
    finally:
        if peer:
            peer.close()
    return 0


def choose(flag: str, names: str, known: Iterable[str]) -> list[str]:
    """The names of a list with commas, as of a flag of the command line.

    Raises:
        UserError: There is no such name; says the nearest of those that are known.
    """
    given, known = [name.strip() for name in names.split(",")], list(known)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.0)[0]
            raise UserError(f"{flag} has {name!r}, the nearest of {', '.join(known)} is {near!r}.")
    return given


def run(
    names: Sequence[str], benches: Sequence[tuple[Bench, Sequence[str]]], arguments: list[str]
) -> dict[str, Any]:
    """Run the programs and print their tables; returns all of it, ready for JSON.

    Args:
        names: Names of programs.
        benches: Inputs, each with the programs that run on it.
        arguments: Arguments of the command line.
    """
    first = benches[0][0]
    conditions = {
        "arguments": arguments,
        "images": " and ".join(
            f"{len(bench.source):,} of {bench.config.data.name or 'noise'},"
            f" {bench.source.image_shape[0]} px"
            for bench, _ in benches
        ),
        **machine.describe(first.mesh),
        "rounds": f"{first.rounds}, of {first.steps} steps",
    }
    print("\n".join(f"{name}: {value}" for name, value in conditions.items()), flush=True)
    print(heading(), flush=True)
    helpers = [first.peer.pid] if first.peer else []
    before, tables = machine.read(helpers), {}
    for name in names:
        rows = []
        for bench, programs_of in benches:
            if name in programs_of:
                found = PROGRAMS[name](bench)
                print("\n".join([*([] if rows else [name]), *lines(found)]), flush=True)
                rows += found
        if rows:
            tables[name] = rows
    share = machine.foreign_share(before, machine.read(helpers))
    if share is not None:
        conditions["cores_used_by_others"] = round(share * len(machine.cores()), 2)
    print(footnotes(tables, conditions.get("cores_used_by_others")), flush=True)
    return {
        "conditions": conditions,
        "programs": {name: [row._asdict() for row in rows] for name, rows in tables.items()},
    }


def of_config(config: Any, make: Callable[..., Bench]) -> Bench:
    """Load what the programs need; images are decoded when first seen."""
    settings = config.classifier
    try:
        with stop_flag() as stop:
            dataset = load_dataset(config.data, settings.source_size or settings.image_size, stop)
    except (ValueError, FileNotFoundError) as error:
        raise UserError(str(error)) from error
    mesh = make_mesh(config.num_devices, config.fsdp)
    return make(config, dataset.train, len(dataset.class_names), mesh)


def of_size(config: Any, size: Size, given: set[str], make: Callable[..., Bench]) -> Bench:
    """Noise in the place of images, at a preset's size."""
    config = sized(config, size, given)
    side = config.classifier.image_size
    if "classifier.image_size" not in size.fields:
        side = config.diffusion.image_size
    bench = make(config, None, size.num_classes, make_mesh(config.num_devices, config.fsdp))
    noise = bench.images(max(NUM_IMAGES, config.classifier.batch_size), side)
    source = ArraySource(noise["image"], noise["label"], noise["label"])
    return make(config, source, size.num_classes, bench.mesh)


if __name__ == "__main__":
    keep_freed_memory()
    enable_cache()
    sys.exit(main(sys.argv[1:]))
