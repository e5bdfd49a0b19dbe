"""Command line: `python -m ddb_jax.main --config=configs/digits.py`, or `ddb-jax --config=...`.

--config=FILE.py[:PRESET]  the run's settings; --config.FIELD=VALUE changes one of them. Where there
                           is no such file, configs/NAME.py is the one that comes with the package
                           (:smoke is a short run of every stage). Every field: configs/base.py;
                           the methods: docs/methods.md
--workdir=FOLDER           where everything is written (runs/<config.name>); may be gs://BUCKET/NAME
                           (pip install 'ddb_jax[gcs]') or s3://BUCKET/NAME ([s3])
--stage=NAME               run only this stage, or only this task of --dry_run's list
--dry_run                  print what is done, what would run, and how many operations it takes;
                           --dry_run=memory compiles the training steps and prints their memory, too
--rerun                    do again what other settings made in this work directory

Finished stages are skipped, so the same command resumes a run. Ctrl-C or SIGTERM saves first; a
killed run loses what came after the last checkpoint.

One run of several processes, each started with the same command (docs/launch.md):
--distributed              a TPU pod, Slurm or Open MPI says which processes there are
--coordinator=HOST:PORT    where process 0 listens, with --num_processes=N and --process_id=I
--join_timeout=SECONDS     how long to wait for the others (300)
"""

import argparse
import gc
import logging
import sys
from collections.abc import Sequence

from ddb_jax.runtime.host_memory import keep_freed_memory
from ddb_jax.runtime.terminal import escape_what_cannot_be_written


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The flags, and those of the form --config.FIELD=VALUE as they are; exits on wrong ones."""
    parser = argparse.ArgumentParser(
        prog="python -m ddb_jax.main",
        usage=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True)
    parser.add_argument("--workdir", default="")
    parser.add_argument("--stage", default="")
    parser.add_argument(
        "--dry_run", nargs="?", const="plan", default="", choices=("plan", "memory")
    )
    parser.add_argument("--rerun", action="store_true")
    parser.add_argument("--distributed", action="store_true")
    parser.add_argument("--coordinator")
    parser.add_argument("--num_processes", type=int)
    parser.add_argument("--process_id", type=int)
    parser.add_argument("--join_timeout", type=int, default=300)
    given, rest = parser.parse_known_args(arguments)
    overrides = [argument for argument in rest if argument.startswith("--config.")]
    unknown = [argument for argument in rest if argument not in overrides]
    if unknown:
        parser.error(f"unknown arguments: {' '.join(unknown)} (a field is --config.FIELD=VALUE)")
    return given, overrides


def main(arguments: Sequence[str]) -> int:
    """Run the pipeline; returns the exit status."""
    return run(*parse(arguments))


def run(given: argparse.Namespace, overrides: list[str]) -> int:
    """Run the pipeline with what `parse` returned; returns the exit status."""
    # Imported here, since this takes seconds: --help and wrong flags are answered before.
    import jax
    from absl import logging as absl_logging

    from ddb_jax.checks import config as config_check
    from ddb_jax.run import pipeline
    from ddb_jax.runtime import processes
    from ddb_jax.runtime.errors import Interrupted, UserError, write_failure
    from ddb_jax.runtime.files import work_path
    from ddb_jax.runtime.stop import stop_flag

    # A separate handler, because libraries configure the root logger.
    log = logging.getLogger("ddb_jax")
    log.handlers, log.propagate = [logging.StreamHandler(sys.stdout)], False
    # orbax logs a traceback for every error that it also raises; we report it in one sentence.
    absl_logging.set_verbosity(absl_logging.FATAL)
    try:
        process = (given.coordinator, given.num_processes, given.process_id)
        if given.distributed or any(value is not None for value in process):
            processes.join(*process, given.join_timeout)
        processes.check_platform()
        # What every process would say alike is said by one.
        log.setLevel(logging.INFO if jax.process_index() == 0 else logging.ERROR)
        config = config_check.load_config(given.config, overrides)
        config_check.check_config(config)
        with stop_flag() as stop:
            pipeline.run(
                config,
                work_path(given.workdir or f"runs/{config.name}"),
                stop=stop,
                only=given.stage,
                dry_run=given.dry_run,
                rerun=given.rerun,
            )
    except UserError as error:
        processes.leave_if_another_is_gone(error)
        print(f"error: {error}", file=sys.stderr)
        return processes.leave_alone(1)
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        if failure := write_failure(error):
            reason += f"; if it was to be written, {failure[1]} and run again: what is done is kept"
        print(f"error: {reason}.", file=sys.stderr)
        return processes.leave_alone(1)
    except Interrupted as interrupted:
        print(interrupted, file=sys.stderr)
        return interrupted.exit_code
    except KeyboardInterrupt:
        print("stopped immediately; the last checkpoint is safe.", file=sys.stderr)
        return 130
    except Exception as error:
        processes.leave_if_another_is_gone(error)
        raise
    return 0


def command_line() -> int:
    """The program `ddb-jax`: `main` in a process of its own, which is set up for it."""
    escape_what_cannot_be_written(sys.stdout)
    given, overrides = parse(sys.argv[1:])
    # Tracing makes many long-lived objects: frequent collections take a tenth of the start-up time.
    gc.set_threshold(100_000, 50, 100)
    keep_freed_memory()
    try:
        from ddb_jax.training.compilation import enable_cache
    except ValueError as error:
        if "JAX flag" not in str(error):
            raise
        # JAX reads its environment variables when it is imported.
        print(f"error: {error}: fix the environment variable of that name.", file=sys.stderr)
        return 1
    enable_cache()
    return run(given, overrides)


if __name__ == "__main__":
    sys.exit(command_line())
