"""launch/tpu_vm.sh on machines of one worker and of several, against a stand-in for the cloud."""

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


POD = "--type=v5litepod-16"


@pytest.fixture
def pod(cloud):
    """The same with two workers."""
    cloud.set(workers=2, requests=[["ACTIVE"]] * 2)
    return cloud


def test_a_run_from_creation_to_deletion(cloud):
    cloud.set(requests=[["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]])
    status, output = cloud.run("--setup=touch fetched", more=["--config.data.root=a $b"])
    assert status == 0, output
    # Blanks and dollars come through both shells.
    assert (
        "<--extra=tpu,gcs><--config=finish><--workdir=gs://b/runs/bar><--config.data.root=a $b>"
        in output
    )
    assert "the results are in gs://b/runs/bar" in output
    assert (cloud.workdir / "report.html").read_text() == "report\n"
    assert cloud.steps() == ["create", "scp", "install", "start", "follow", "delete"]
    assert not cloud.vm.exists()
    created = set(next(call for call in cloud.arguments() if call[3] == "create"))
    assert {"--accelerator-type=v5litepod-8", "--runtime-version=v2", "--node-id=bar"} <= created
    assert {"--project=p", "--zone=z", "--quiet"} <= created
    assert "--spot" not in created


def test_a_run_on_several_workers(pod):
    pod.set(workers=3)
    status, output = pod.run(POD, "--setup=touch fetched", "--keep", "--spot")
    assert status == 0, output
    arguments = "<--extra=tpu,gcs><--config=finish><--workdir=gs://b/runs/bar><--distributed>"
    assert output.count(arguments) == 3
    assert output.count("the run on ") == output.count(": 0\n") == 3
    for worker in ("vm", "vm1", "vm2"):
        assert arguments in read(pod.folder / worker / "ddb_jax/run.log")
        assert (pod.folder / worker / "ddb_jax/fetched").exists()
    assert pod.steps() == ["create", "scp", "install", "start", "follow"]
    assert "--spot" in next(call for call in pod.arguments() if call[3] == "create")


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("states", [["SUSPENDING", "SUSPENDED"], ["SUSPENDED"], ["FAILED"], []])
def test_a_run_goes_on_after_a_preemption(cloud, states, workers):
    """Without any state but ACTIVE: the machine does not answer any more."""
    cloud.set(requests=[["ACTIVE"]] * 2, preempt=states or ["ACTIVE"], workers=workers)
    status, output = cloud.run("--spot", *[POD] * (workers > 1), run="wait")
    assert status == 0, output
    assert "resumed at 7" in output
    assert (cloud.workdir / "report.html").exists()
    # The old machine goes before the new one comes.
    assert [c for c in cloud.calls() if c in ("create", "delete")] == ["create", "delete"] * 2


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_goes_on_when_a_worker_was_told_to_shut_down(cloud, workers):
    cloud.set(workers=workers, shutdown=workers - 1)
    status, output = cloud.run(*[POD] * (workers > 1), run="wait")
    assert status == 0, output
    assert ": 143\n" in output and "the run was lost; going on from gs://b/runs/bar" in output
    assert "resumed at 7" in output
    assert cloud.calls().count("start") == 2


@pytest.mark.parametrize("killed", ["all", "python"])
def test_a_run_killed_on_one_worker_starts_again_on_all(pod, killed):
    pod.set(kill=killed)
    status, output = pod.run(POD, run="wait")
    assert status == 0, output
    assert "another one has ended" in output
    assert (": died\n" if killed == "all" else ": 137\n") in output
    assert "resumed at 7" in output
    # On the same machine.
    assert pod.calls().count("create") == pod.calls().count("delete") == 1
    assert pod.calls().count("start") == 2


def test_a_worker_that_does_not_answer_any_more_is_a_lost_machine(pod):
    pod.set(network=True)
    status, output = pod.run(POD, run="wait")
    assert status == 0, output
    assert "no route to host" in output
    assert "resumed at 7" in output
    assert pod.calls().count("create") == pod.calls().count("delete") == 2


@pytest.mark.parametrize("event", [{"preempt": ["SUSPENDED"]}, {"kill": "all"}])
def test_lost_runs_are_replaced_only_so_often(pod, event):
    pod.set(**event)
    status, output = pod.run(POD, "--restarts=0", run="wait")
    assert status == 1
    assert "--restarts" in output
    assert pod.calls().count("start") == 1
    assert pod.calls()[-1] == "delete"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failed_run_gives_its_log_and_status_and_no_machine_stays(cloud, workers):
    cloud.set(workers=workers)
    status, output = cloud.run(*[POD] * (workers > 1), run="fail")
    assert status == 3
    assert "it failed" in output
    assert cloud.calls().count("start") == 1
    assert cloud.calls()[-1] == "delete"


def test_what_another_worker_says_about_its_end_is_printed(pod):
    status, output = pod.run(POD, run="fail_there")
    assert status == 4  # the highest
    lines = output.splitlines()
    assert any(line.endswith("no images here") for line in lines)
    assert any(line.startswith("the run on ") and line.endswith(": 4") for line in lines)
    assert pod.calls().count("start") == 1


def test_a_kept_machine_is_used_again(cloud):
    assert cloud.run("--keep")[0] == 0
    assert "delete" not in cloud.calls()
    status, output = cloud.run()
    assert status == 0
    assert "resumed at 7" in output
    assert cloud.calls().count("create") == 1
    assert cloud.calls()[-1] == "delete"


@pytest.mark.parametrize("workers", [1, 2])
def test_interrupted_it_stops_the_run_and_deletes_the_machine(cloud, workers):
    cloud.set(workers=workers)
    status, _ = cloud.interrupt(*[POD] * (workers > 1))
    assert status == 130
    assert (cloud.workdir / "stopped").exists()
    assert cloud.steps()[-2:] == ["stop", "delete"]


@pytest.mark.parametrize("workers", [1, 2])
def test_interrupted_with_keep_the_run_goes_on_and_is_followed_again(cloud, workers):
    cloud.set(workers=workers)
    options = [POD] * (workers > 1)
    status, _ = cloud.interrupt("--keep", *options)
    assert status == 130
    assert not {"stop", "delete"} & set(cloud.calls())
    process = cloud.start(*options)
    wait_for(lambda: cloud.calls().count("follow") == 2)
    (cloud.workdir / "finish").touch()
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0
    assert "waiting" in output  # the log from its start
    assert cloud.calls().count("scp") == cloud.calls().count("start") == 1
    assert cloud.calls()[-1] == "delete"


def test_workers_that_still_run_are_stopped_before_all_start_again(pod):
    """One was killed while nobody followed, and the other has not noticed."""
    pod.interrupt(POD, "--keep")
    path = pod.folder / "vm1/ddb_jax/run.pid"
    os.killpg(int(read(path)), signal.SIGKILL)
    path.write_text("999999999")  # where nobody waits for it, its number stays in use
    assert not (pod.workdir / "stopped").exists()
    status, output = pod.run(POD)
    assert status == 0, output
    assert (pod.workdir / "stopped").exists()
    assert "resumed at 7" in output
    assert pod.calls().count("create") == 1 and pod.calls().count("start") == 2


def test_a_request_that_fails_is_deleted(cloud):
    cloud.set(requests=[["WAITING_FOR_RESOURCES", "FAILED"]])
    status, output = cloud.run()
    assert status == 1
    assert "error: the request has failed" in output
    assert cloud.calls()[-1] == "delete"


@pytest.mark.parametrize("state", ["SUSPENDED", "FAILED"])
def test_what_an_earlier_call_left_is_replaced(cloud, state):
    cloud.set(state=state)
    assert cloud.run()[0] == 0
    assert [c for c in cloud.calls() if c in ("create", "delete")] == ["delete", "create", "delete"]


@pytest.mark.parametrize(
    ("event", "message", "created"),
    [({"no_answer": True}, "UNAUTHENTICATED", 0), ({"no_quota": True}, "no quota", 1)],
)
def test_gcloud_does_not_answer_or_refuses(cloud, event, message, created):
    cloud.set(**event)
    status, output = cloud.run()
    assert status == 1
    assert message in output
    assert cloud.calls().count("create") == created
    assert "scp" not in cloud.calls()


def test_a_machine_that_cannot_be_deleted_is_reported(cloud):
    cloud.set(undeletable=True)
    status, output = cloud.run()
    assert status == 1
    assert "error: bar could not be deleted" in output


def test_a_machine_that_cannot_be_set_up_is_deleted(cloud):
    status, output = cloud.run("--setup=false")
    assert status == 1
    assert "could not be set up" in output
    assert "start" not in cloud.calls()
    assert cloud.calls()[-1] == "delete"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--type=v4"], "has to end in a number"),
        (["--zone="], "--zone is missing"),
        (["--colour=red"], "--colour=red is not an option"),
        (["--", "--workdir=gs://b/x"], "there is no --config"),
        (["--", "--config=c.py", "--workdir=runs/bar"], "there is no --workdir=gs://"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_called(cloud, options, message):
    status, output = cloud.run(*options, run=None)
    assert status == 1
    assert output.startswith("error: ") and message in output
    assert len(output.splitlines()) == 1
    assert not (cloud.folder / "calls").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_dry_run_of_tpu_vm_prints_the_commands_and_runs_none(cloud, workers):
    more = ["--config.data.root=a $b"]
    status, output = cloud.run("--dry_run", "--spot", *[POD] * (workers > 1), more=more)
    assert status == 0
    assert not (cloud.folder / "calls").exists()
    commands = [shlex.split(line) for line in output.splitlines()]
    assert [c[0] for c in commands if c[0] != "gcloud"] == ["git"]
    gcloud = [c[1:] for c in commands if c[0] == "gcloud"]
    steps = ["create", "scp", "install", "start", "follow", "delete"]
    assert [verb(c) for c in gcloud] == steps
    assert all("--worker=all" in c for c in gcloud[1:5])
    assert shlex.split(gcloud[3][-1])[3:] == [
        "--config=finish", "--workdir=gs://b/runs/bar", *more, *["--distributed"] * (workers > 1),
    ]  # fmt: skip
