"""launch/slurm.sbatch: the batch script as SLURM runs it, with stand-ins for SLURM's commands."""

import os
import shlex
import shutil
import signal
import subprocess

import pytest
from launch_cloud import LAUNCH, make_project, read, script, wait_for

# Writes down its SIGTERMs, and saves for a while, in which it would get a second one.
JOB = """#!/bin/bash
trap 'echo TERM >>terms' TERM
echo "$*" >>started
[[ $* != *--install* ]] || exit 0
echo $$ >>pids
for _ in {1..200}; do
    [[ ! -e finish ]] || exit 5
    [[ ! -e terms ]] || { sleep 0.5; exit 143; }
    sleep 0.02
done
"""

# Runs two tasks; the exit status is the highest. Answers SIGTERM with a SIGKILL of its tasks, and
# passes other signals on.
SRUN = """#!/bin/bash
echo "$*" >>srun
while [[ $1 == --* ]]; do shift; done
"$@" & "$@" &
trap 'kill -KILL $(jobs -p)' TERM
status=0
for child in $(jobs -p); do
    while true; do
        wait "$child"; one=$?
        kill -0 "$child" 2>/dev/null || break
    done
    ((one <= status)) || status=$one
done
exit "$status"
"""

SCANCEL = """#!/bin/bash
[[ "$*" == "--signal=TERM 17" ]] && kill -TERM $(<pids)
"""


@pytest.fixture
def submit(tmp_path):
    """Starts the job script as SLURM does, from a copy in another folder."""
    script(tmp_path / "launch/run.sh", JOB)
    script(tmp_path / "spool/slurm_script", (LAUNCH / "slurm.sbatch").read_text())
    script(tmp_path / "bin/scontrol", '#!/bin/bash\necho "$*" >>requeued\n')
    script(tmp_path / "bin/srun", SRUN)
    script(tmp_path / "bin/scancel", SCANCEL)
    started = []

    def start(tasks=1, **environment):
        process = subprocess.Popen(
            ["bash", str(tmp_path / "spool/slurm_script"), "--config=c.py"],
            cwd=tmp_path,
            env={
                "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
                "SLURM_SUBMIT_DIR": str(tmp_path),
                "SLURM_JOB_ID": "17",
                **environment,
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        wait_for(lambda: len(read(tmp_path / "pids").split()) == tasks or process.poll())
        return process

    start.folder = tmp_path
    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def job(submit):
    return submit(), submit.folder


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path)


SEVERAL = {"SLURM_NTASKS": "2", "SLURM_JOB_NUM_NODES": "1", "SLURM_GPUS_ON_NODE": "2"}


def test_before_the_time_limit_the_run_saves_and_goes_back_to_the_queue(job):
    process, folder = job
    os.kill(process.pid, signal.SIGUSR1)  # as --signal=B:USR1 does: the shell alone
    assert process.wait(30) == 143
    assert read(folder / "terms") == "TERM\n"
    assert read(folder / "requeued") == "requeue 17\n"
    assert read(folder / "started") == "--extra=cuda --config=c.py\n"


def test_a_preempted_run_gets_one_sigterm_and_is_waited_for(job):
    process, folder = job
    # As SLURM does: to every process of the job.
    os.kill(int(read(folder / "pids")), signal.SIGTERM)
    wait_for((folder / "terms").exists)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(30) == 143
    assert read(folder / "terms") == "TERM\n"
    assert not (folder / "requeued").exists()


def test_a_job_ends_with_the_status_of_its_run(job):
    process, folder = job
    (folder / "finish").touch()
    assert process.wait(30) == 5
    assert not (folder / "requeued").exists()


def test_several_tasks_are_started_by_srun_once_the_environment_is_made(submit):
    process = submit(2, SLURM_CPUS_PER_TASK="6", **SEVERAL)
    (submit.folder / "finish").touch()
    assert process.wait(30) == 5
    assert read(submit.folder / "started").splitlines() == [
        "--extra=cuda --install --config=c.py",
        *["--extra=cuda --config=c.py --distributed"] * 2,
    ]
    [srun] = read(submit.folder / "srun").splitlines()
    assert srun.startswith("--cpus-per-task=6 --kill-on-bad-exit=0 bash ")


def test_before_the_time_limit_every_task_gets_one_sigterm_and_srun_none(submit):
    process = submit(2, **SEVERAL)
    os.kill(process.pid, signal.SIGUSR1)
    assert process.wait(30) == 143
    assert read(submit.folder / "terms") == "TERM\n" * 2
    assert read(submit.folder / "requeued") == "requeue 17\n"


def test_several_tasks_that_are_told_to_stop_are_waited_for(submit):
    process = submit(2, **SEVERAL)
    for pid in read(submit.folder / "pids").split():
        os.kill(int(pid), signal.SIGTERM)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(30) == 143
    assert read(submit.folder / "terms") == "TERM\n" * 2
    assert not (submit.folder / "requeued").exists()


def test_two_nodes_without_a_number_of_tasks_are_two_tasks(submit):
    process = submit(2, SLURM_JOB_NUM_NODES="2", SLURM_GPUS_ON_NODE="1")
    (submit.folder / "finish").touch()
    assert process.wait(30) == 5


def test_a_task_takes_one_gpu_where_there_are_several_tasks(submit):
    process = submit(2, SLURM_JOB_NUM_NODES="2", SLURM_GPUS_ON_NODE="8")
    assert process.wait(30) == 1
    assert process.stderr.read() == (
        "error: the job has 16 GPUs and 2 tasks, and a task takes one GPU: add"
        " --ntasks-per-node=8.\n"
    )
    assert not (submit.folder / "started").exists()


def test_what_the_job_asks_of_slurm():
    lines = (LAUNCH / "slurm.sbatch").read_text().splitlines()
    asked = {line.split()[1] for line in lines if line.startswith("#SBATCH")}
    assert {"--requeue", "--signal=B:USR1@120", "--nodes=1", "--open-mode=append"} <= asked
    # These would hold against --ntasks-per-node, and beside --gpus-per-node or --mem.
    assert not any(line.startswith(("--ntasks", "--gres", "--mem=")) for line in asked)
    # SLURM reads them up to the first command.
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    assert not any(line.startswith("#SBATCH") for line in lines[first:])


@pytest.mark.parametrize("tasks", [1, 16])
def test_dry_run_of_the_job_prints_the_commands_and_runs_none(project, tasks):
    script(project.folder / "project/launch/slurm.sbatch", (LAUNCH / "slurm.sbatch").read_text())
    arguments = ["--config=c.py", "--config.x=a b"]
    dry_run = "--dry_run" if tasks == 1 else f"--dry_run={tasks}"
    result = subprocess.run(
        [
            shutil.which("bash"),
            str(project.folder / "project/launch/slurm.sbatch"),
            dry_run,
            *arguments,
        ],
        env={"PATH": str(project.folder / "bin"), "WORLD": str(project.folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    commands = [shlex.split(line) for line in result.stdout.splitlines()]
    if tasks == 1:
        assert commands[0] == ["sbatch", "launch/slurm.sbatch", *arguments]
        assert commands[-1] == ["exec", ".venv/bin/python", "-m", "ddb_jax.main", *arguments]
    else:
        assert commands[0] == ["sbatch", "--ntasks=16", "launch/slurm.sbatch", *arguments]
        assert commands[-1] == [
            "srun", "--cpus-per-task=8", "--kill-on-bad-exit=0", "bash", "launch/run.sh",
            "--extra=cuda", *arguments, "--distributed",
        ]  # fmt: skip
    assert ".[cuda]" in commands[-2]
    assert not (project.folder / "calls").exists()


def test_the_job_script_is_not_run_by_hand(tmp_path):
    result = subprocess.run(
        ["bash", str(LAUNCH / "slurm.sbatch"), "--config=c.py"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert "sbatch launch/slurm.sbatch" in result.stderr
