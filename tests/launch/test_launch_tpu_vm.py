"""launch/tpu_vm.sh on a machine of one worker, against a stand-in for the cloud."""

import shlex

import pytest
from launch_cloud import Cloud, verb, wait_for


@pytest.fixture
def cloud(tmp_path):
    cloud = Cloud(tmp_path)
    yield cloud
    cloud.close()


BUCKET = ("--bucket=gs://b/runs", "--save_every=0.003", "--spot")


def test_a_run_from_creation_to_deletion(cloud):
    cloud.set(requests=[["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]])
    status, output = cloud.run("--setup=touch fetched", more=["--config.data.root=a $b"])
    assert status == 0
    # Blanks and dollars come through both shells.
    assert "<--extra=tpu><--config=finish><--config.data.root=a $b><--workdir=runs/bar>" in output
    assert (cloud.results / "report.html").read_text() == "report\n"
    assert "<--config=finish>" in (cloud.results / "run.log").read_text()
    assert cloud.steps() == [
        "create", "copy", "install", "run", "progress", "pack", "fetch", "delete",
    ]  # fmt: skip
    assert not cloud.vm.exists()
    created = set(next(call for call in cloud.arguments() if call[3] == "create"))
    assert {"--accelerator-type=v5litepod-8", "--runtime-version=v2", "--node-id=bar"} <= created
    assert {"--project=p", "--zone=z", "--quiet"} <= created
    assert "--spot" not in created


def test_the_work_directory_is_saved_when_the_run_ends(cloud):
    status, _ = cloud.run("--bucket=gs://b/runs", "--save_every=60")
    assert status == 0
    assert cloud.saved() == {"bar/step": "7\n", "bar/report.html": "report\n"}


@pytest.mark.parametrize("states", [["SUSPENDING", "SUSPENDED"], ["SUSPENDED"], ["FAILED"], []])
def test_a_run_goes_on_after_a_preemption(cloud, states):
    """Without any state but ACTIVE: the machine does not answer any more."""
    cloud.set(requests=[["ACTIVE"]] * 2, preempt=states or ["ACTIVE"])
    status, output = cloud.run(*BUCKET, run="wait")
    assert status == 0, output
    assert "resumed at 7" in output
    assert (cloud.results / "report.html").exists()
    calls = cloud.calls()
    assert calls.count("create") == calls.count("delete") == calls.count("copy") == 2
    # The old machine goes before the new one comes.
    assert [c for c in calls if c in ("create", "delete")] == ["create", "delete"] * 2


def test_a_run_goes_on_when_the_machine_was_shut_down_before_anybody_looked(cloud):
    cloud.set(requests=[["ACTIVE"]] * 2, shutdown=0)
    status, output = cloud.run("--bucket=gs://b/runs", "--save_every=60", run="wait")
    assert status == 0
    assert "resumed at 7" in output
    assert cloud.calls().count("create") == cloud.calls().count("delete") == 2


def test_lost_machines_are_replaced_only_so_often(cloud):
    cloud.set(preempt=["SUSPENDED"])
    status, output = cloud.run(*BUCKET, "--restarts=0", run="wait")
    assert status == 1
    assert "--restarts" in output
    assert cloud.calls().count("create") == cloud.calls().count("delete") == 1


def test_a_failed_run_gives_its_log_and_status_and_no_machine_stays(cloud):
    status, output = cloud.run(run="fail")
    assert status == 3
    assert "it failed" in output
    assert "it failed" in (cloud.results / "run.log").read_text()
    assert cloud.calls()[-1] == "delete"


def test_a_kept_machine_is_used_again(cloud):
    status, output = cloud.run("--keep")
    assert status == 0
    assert "delete" not in cloud.calls()
    assert "queued-resources delete bar --project=p --zone=z" in output
    status, output = cloud.run()
    assert status == 0
    assert "resumed at 7" in output  # the work directory was still there
    assert cloud.calls().count("create") == 1
    assert cloud.calls()[-1] == "delete"


def test_interrupted_it_stops_and_saves_the_run_and_deletes_the_machine(cloud):
    status, _ = cloud.interrupt("--bucket=gs://b/runs", "--save_every=60")
    assert status == 130
    assert "bar/stopped" in cloud.saved()
    assert cloud.steps()[-2:] == ["stop", "delete"]


def test_interrupted_with_keep_the_run_goes_on_and_is_followed_again(cloud):
    status, _ = cloud.interrupt("--keep")
    assert status == 130
    assert not {"stop", "delete"} & set(cloud.calls())
    process, looks = cloud.start(), cloud.calls().count("progress")
    wait_for(lambda: cloud.calls().count("progress") > looks)
    (cloud.vm / "ddb_jax/runs/bar/finish").touch()
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0
    assert "waiting" in output  # the log from its start
    assert cloud.calls().count("copy") == cloud.calls().count("run") == 1
    assert cloud.calls()[-1] == "delete"


def test_a_request_that_fails_is_deleted(cloud):
    cloud.set(requests=[["WAITING_FOR_RESOURCES", "FAILED"]])
    status, output = cloud.run()
    assert status == 1
    assert "error: the request for a machine has failed" in output
    assert cloud.calls()[-1] == "delete"


@pytest.mark.parametrize("state", ["SUSPENDED", "FAILED"])
def test_what_an_earlier_call_left_is_replaced(cloud, state):
    cloud.set(state=state)
    assert cloud.run()[0] == 0
    assert [c for c in cloud.calls() if c in ("create", "delete")] == ["delete", "create", "delete"]


def test_gcloud_does_not_answer(cloud):
    cloud.set(no_answer=True)
    status, output = cloud.run()
    assert status == 1
    assert "UNAUTHENTICATED" in output
    assert "create" not in cloud.calls()


def test_a_machine_that_cannot_be_deleted_is_reported(cloud):
    cloud.set(undeletable=True)
    status, output = cloud.run()
    assert status == 1
    assert "error: bar could not be deleted" in output


def test_a_saved_state_that_cannot_be_read_is_not_taken_for_none(cloud):
    cloud.set(denied=True)
    status, output = cloud.run(*BUCKET)
    assert status == 1
    assert "gs://b/runs/bar.tar cannot be read: ERROR: 403 denied" in output
    assert "<--config=finish>" not in output


def test_the_machine_stays_when_it_has_the_only_copy_of_the_results(cloud):
    cloud.set(no_fetch=True)
    status, output = cloud.run()
    assert status == 1
    assert "could not be fetched" in output
    assert "delete" not in cloud.calls()


def test_a_machine_that_cannot_be_set_up_is_deleted(cloud):
    status, output = cloud.run("--setup=false")
    assert status == 1
    assert "could not be set up" in output
    assert "run" not in cloud.calls()
    assert cloud.calls()[-1] == "delete"


@pytest.mark.parametrize(
    ("options", "run", "more", "message"),
    [
        (["--type=v5litepod-16"], "finish", [], "v5litepod-16 has several workers, which all"),
        (["--type=v4"], "finish", [], "has to end in a number"),
        (["--spot"], "finish", [], "--spot needs --bucket"),
        (["--bucket=b/runs"], "finish", [], "does not begin with gs://"),
        (["--name=Bar"], "finish", [], "--name=Bar"),
        (["--zone="], "finish", [], "--zone is missing"),
        (["--colour=red"], "finish", [], "--colour=red is not an option"),
        ([], "", [], "there is no --config"),
        ([], "finish", ["--workdir=x"], "the work directory is runs/bar"),
        ([], "finish", ["--workdir", "gs://b/x"], "the work directory is runs/bar"),
        (["--bucket=gs://b"], "finish", ["--workdir=gs://b/x"], "--bucket has no use beside"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_called(cloud, options, run, more, message):
    status, output = cloud.run(*options, run=run, more=more)
    assert status == 1
    assert output.startswith("error: ") and message in output
    assert len(output.splitlines()) == 1
    assert not (cloud.folder / "calls").exists()


def test_dry_run_of_tpu_vm_prints_the_commands_and_runs_none(cloud):
    status, output = cloud.run("--dry_run", *BUCKET, more=["--config.data.root=a $b"])
    assert status == 0
    assert not (cloud.folder / "calls").exists() and not cloud.results.exists()
    commands = [shlex.split(line) for line in output.splitlines()]
    assert [c[0] for c in commands if c[0] != "gcloud"] == ["git", "mkdir", "tar"]
    assert [verb(c[1:]) for c in commands if c[0] == "gcloud"] == [
        "describe", "create", "copy", "install", "run", "progress", "pack", "fetch", "delete",
    ]  # fmt: skip
    remote = next(c[-1] for c in commands if "nohup" in c[-1])
    remote = shlex.split(remote.partition("nohup ")[2].partition(">")[0])
    assert remote[2:] == ["run", "bar", "runs/bar", "gs://b/runs/bar.tar", "0.003",
                          "--config=finish", "--config.data.root=a $b"]  # fmt: skip
