"""launch/tpu_vm.sh with a work directory on a bucket: types of several workers, or one worker's."""

import os
import shlex
import signal

import pytest
from launch_cloud import Cloud, read, verb, wait_for


@pytest.fixture
def cloud(tmp_path):
    cloud = Cloud(tmp_path)
    yield cloud
    cloud.close()


POD = ("--type=v5litepod-16", "--bucket=gs://b/runs")
WORKDIR = "bucket/b/runs/bar"


@pytest.fixture
def pod(cloud):
    """The same with two workers."""
    cloud.set(workers=2, requests=[["ACTIVE"]] * 2)
    return cloud


def log(cloud, worker):
    return read(cloud.folder / worker / "ddb_jax/runs/bar.log")


def test_a_run_on_several_workers(pod):
    pod.set(workers=3)
    status, output = pod.run(*POD, "--setup=touch fetched", "--keep", more=["--config.x=a $b"])
    assert status == 0, output
    arguments = (
        "<--extra=tpu,gcs><--config=finish><--config.x=a $b><--distributed>"
        "<--workdir=gs://b/runs/bar>"
    )
    assert arguments in output
    for worker in ("vm", "vm1", "vm2"):
        assert arguments in log(pod, worker)
        assert (pod.folder / worker / "ddb_jax/fetched").exists()
    assert pod.steps() == [
        "create", "copy", "install", "run", "progress", "status", "pack", "fetch",
    ]  # fmt: skip
    assert not (pod.folder / "bucket/b/runs/bar.tar").exists()
    # What lies at the top of the work directory, and the log.
    assert {path.name for path in pod.results.iterdir()} == {"report.html", "step", "run.log"}
    assert (pod.results / "report.html").read_text() == "report\n"


@pytest.mark.parametrize(
    ("options", "workers"),
    [(POD, 2), (["--spot"], 1)],
)
def test_a_preempted_run_goes_on_from_the_bucket(cloud, options, workers):
    cloud.set(workers=workers, requests=[["ACTIVE"]] * 2, preempt=["SUSPENDED"])
    more = [] if workers > 1 else ["--workdir=gs://b/runs/bar"]
    status, output = cloud.run(*options, run="wait", more=more)
    assert status == 0, output
    assert "resumed at 7" in output
    assert (cloud.results / "report.html").exists()
    assert ("--distributed" in output) == (workers > 1)
    assert not (cloud.folder / "bucket/b/runs/bar.tar").exists()
    assert [c for c in cloud.calls() if c in ("create", "delete")] == ["create", "delete"] * 2


def test_a_run_goes_on_when_one_worker_was_shut_down(pod):
    pod.set(shutdown=1)
    status, output = pod.run(*POD, run="wait")
    assert status == 0, output
    assert "resumed at 7" in output
    assert pod.calls().count("create") == pod.calls().count("delete") == 2


@pytest.mark.parametrize("killed", [["bar.child"], ["bar.pid", "bar.child"]])
def test_a_run_killed_on_one_worker_starts_again_on_all(pod, killed):
    pod.set(kill=killed)
    status, output = pod.run(*POD, run="wait")
    assert status == 0, output
    assert "another one has ended" in output
    assert "the run was killed on one worker" in output
    assert "resumed at 7" in output
    # On the same machine.
    assert pod.calls().count("create") == pod.calls().count("delete") == 1
    assert pod.calls().count("run") == 2


def test_a_worker_that_does_not_answer_any_more_is_a_lost_machine(pod):
    pod.set(kill=["network", "bar.pid", "bar.child"])
    status, output = pod.run(*POD, run="wait")
    assert status == 0, output
    assert "no route to host" in output
    assert "resumed at 7" in output
    assert pod.calls().count("create") == pod.calls().count("delete") == 2


def test_restarts_are_bounded_on_several_workers_too(pod):
    pod.set(kill=["bar.child"])
    status, output = pod.run(*POD, "--restarts=0", run="wait")
    assert status == 1
    assert "--restarts" in output
    assert pod.calls()[-1] == "delete"


def test_the_status_is_that_of_the_worker_that_failed(pod):
    status, output = pod.run(*POD, run="fail")
    assert status == 3
    assert "it failed" in output
    assert pod.calls().count("run") == 1
    assert pod.calls()[-1] == "delete"


def test_what_another_worker_says_about_its_end_is_printed(pod):
    status, output = pod.run(*POD, run="fail_there")
    assert status in (1, 4)  # of the workers' statuses the first that gcloud gives
    lines = output.splitlines()
    assert any(line.endswith("no images here") for line in lines)
    assert any(line.startswith("the run on ") and line.endswith(": 4") for line in lines)
    assert pod.calls().count("run") == 1


def test_interrupted_all_workers_stop(pod):
    status, _ = pod.interrupt(*POD)
    assert status == 130
    assert (pod.folder / WORKDIR / "stopped").exists()
    assert pod.steps()[-2:] == ["stop", "delete"]


def test_workers_that_still_run_are_stopped_before_all_start_again(pod):
    """One was killed while nobody followed, and the other has not noticed."""
    pod.interrupt(*POD, "--keep")
    for name in ("bar.pid", "bar.child"):
        path = pod.folder / "vm1/ddb_jax/runs" / name
        os.kill(int(read(path)), signal.SIGKILL)
        path.write_text("999999999")  # where nobody waits for it, its number stays in use
    assert not (pod.folder / WORKDIR / "stopped").exists()
    status, output = pod.run(*POD)
    assert status == 0, output
    assert (pod.folder / WORKDIR / "stopped").exists()
    assert "resumed at 7" in output
    assert pod.calls().count("create") == 1 and pod.calls().count("run") == 2


def test_interrupted_with_keep_several_workers_are_followed_again(pod):
    pod.interrupt(*POD, "--keep")
    process, looks = pod.start(*POD), pod.calls().count("progress")
    wait_for(lambda: pod.calls().count("progress") > looks)
    (pod.folder / WORKDIR / "finish").touch()
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    assert pod.calls().count("run") == 1


def test_dry_run_with_several_workers(pod):
    status, output = pod.run("--dry_run", *POD, "--spot", more=["--config.x=a $b"])
    assert status == 0
    assert not (pod.folder / "calls").exists()
    commands = [shlex.split(line) for line in output.splitlines()]
    gcloud = [c[1:] for c in commands if c[0] == "gcloud"]
    workers = [
        (verb(c), next((word for word in c if word.startswith("--worker=")), "")) for c in gcloud
    ]
    assert workers == [
        ("describe", ""), ("create", ""), ("copy", "--worker=all"), ("install", "--worker=all"),
        ("run", "--worker=all"), ("progress", "--worker=0"), ("status", "--worker=all"),
        ("pack", "--worker=0"), ("fetch", ""), ("delete", ""),
    ]  # fmt: skip
    remote = next(c[-1] for c in gcloud if "nohup" in c[-1])
    remote = shlex.split(remote.partition("nohup ")[2].partition(">")[0])
    assert remote[2:] == ["run", "bar", "gs://b/runs/bar", "", "15", "--config=finish",
                          "--config.x=a $b", "--distributed"]  # fmt: skip
    assert any("--extra=tpu,gcs --install" in c[-1] for c in gcloud)
