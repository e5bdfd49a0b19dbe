"""Stand-ins for what launch/ calls: a cloud with its gcloud, a Python; and what tests share."""

import ast
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

LAUNCH = Path(__file__).parent.parent / "launch"

# Cloud and bucket in one folder, $WORLD. Worker 0 is the folder vm, the next vm1; ssh is a shell in
# there.
GCLOUD = f"""#!{sys.executable} -SE
import os, signal, sys, time  # and no more: it is called often

world, arguments = os.environ["WORLD"], sys.argv[1:]
with open(world + "/calls", "a") as calls:
    print(arguments, file=calls)
cloud = eval(open(world + "/cloud").read())
vms = [world + "/vm" + (str(i) if i else "") for i in range(cloud["workers"])]

def end(status=0, error=""):
    with open(world + "/cloud.part", "w") as file:
        print(cloud, file=file)
    os.rename(world + "/cloud.part", world + "/cloud")
    print(error, end="", file=sys.stderr)
    sys.exit(status)

def kill_run(vm, number):
    try:
        os.killpg(int(open(vm + "/ddb_jax/run.pid").read()), number)
        if number == signal.SIGKILL:  # where nobody waits for it, its number stays in use
            open(vm + "/ddb_jax/run.pid", "w").write("999999999")
    except (FileNotFoundError, ProcessLookupError):
        pass

def power_off():
    for vm in vms:
        kill_run(vm, signal.SIGKILL)
        os.rename(vm, vm.replace("/vm", "/gone" + str(len(os.listdir(world))) + "-"))

def strike():
    "What happens to the machine once the run on it waits."
    while "waiting" not in open(vms[0] + "/ddb_jax/run.log").read():
        time.sleep(0.02)
    if "preempt" in cloud:
        cloud["states"] = cloud.pop("preempt")
        power_off()
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        end(255, "ssh: connection closed")
    elif "shutdown" in cloud:  # of the worker with this number
        kill_run(vms[cloud.pop("shutdown")], signal.SIGTERM)
    elif "network" in cloud:  # worker 1 is not reached any more
        cloud["cut"] = cloud.pop("network")
        kill_run(vms[1], signal.SIGKILL)
        open(world + "/left", "w").close()
    elif "kill" in cloud:  # on worker 1, all of the run or Python alone; the others notice it
        if cloud.pop("kill") == "python":
            os.kill(int(open(vms[1] + "/python").read()), signal.SIGKILL)
        else:
            kill_run(vms[1], signal.SIGKILL)
        open(world + "/left", "w").close()

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
    if "no_quota" in cloud:
        end(1, "ERROR: no quota")
    cloud["states"], cloud["state"] = cloud["requests"].pop(0), "ACCEPTED"
    cloud.pop("cut", None)
    for vm in vms:
        os.mkdir(vm)
elif verb == "delete":
    if "undeletable" in cloud:
        end(1, "ERROR: no")
    if os.path.exists(vms[0]):
        power_off()
    cloud["state"] = "NONE"
elif cloud["state"] != "ACTIVE" or not os.path.exists(vms[0]):
    end(255, "ssh: no route to host")
elif verb == "scp":
    for vm in vms:
        data = open(arguments[4], "rb").read()
        open(vm + "/" + os.path.basename(arguments[4]), "wb").write(data)
else:
    command, children, status = arguments[-1].removeprefix("--command="), [], 0
    for vm in vms:
        if "cut" in cloud and vm == vms[1]:
            print("ssh: no route to host", file=sys.stderr)
            status = 255
            continue
        os.chdir(vm)
        os.environ["HOME"] = vm
        children.append(os.spawnvp(os.P_NOWAIT, "bash", ["bash", "-c", command]))
    if " follow " in command and cloud.keys() & {{"preempt", "shutdown", "network", "kill"}}:
        strike()
    for child in children:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or status
    end(status)
end()
"""

# Archives the working folder; what is copied to the machine.
GIT = """#!/bin/bash
[[ $3 != archive ]] || exec tar -czf "${5#--output=}" -C "$2" launch
"""

# A run: --config=finish, fail, fail_there (on worker 1) or wait (until the file `finish` is there,
# or it is told to stop). Worker 0 writes, and the others end when it has or when one has left.
RUN = """#!/bin/bash
[[ $* != *--install* ]] || exit 0
for argument; do [[ $argument != --workdir=* ]] || workdir=${argument#*=}; done
workdir=${workdir/#gs:\\//$WORLD/bucket}
printf '<%s>' "$@"
touch "$HOME/started"
echo $$ >"$HOME/python"
wait_for() {
    trap 'touch $workdir/stopped; exit 143' TERM
    until [[ -e $1 ]]; do
        [[ ! $WORLD/left -nt $HOME/started ]] || { echo "another one has ended"; exit 1; }
        [[ ! $workdir/stopped -nt $HOME/started ]] || exit 143
        sleep 0.05
    done
}
join() { until [[ -e $WORLD/$1/started ]]; do sleep 0.05; done; }
if [[ $HOME != */vm ]]; then
    join vm
    [[ $* != *fail_there* ]] || { echo "no images here"; touch "$WORLD/left"; exit 4; }
    wait_for "$workdir/report.html"
    exit
fi
[[ $* != *--distributed* ]] || join vm1
if [[ -e $workdir ]]; then
    echo "resumed at $(<"$workdir/step")"
    set -- --config=finish
else
    mkdir -p "$workdir.new/stage" && echo 7 >"$workdir.new/step" && mv "$workdir.new" "$workdir"
fi
case " $*" in
*fail_there*) wait_for "$WORLD/never" ;;
*fail*) echo "it failed" && touch "$WORLD/left" && exit 3 ;;
*wait*) echo waiting && wait_for "$workdir/finish" ;;
esac
echo report >"$workdir/report.html"
"""

# Logs its arguments, but for the question for its version; `-m venv FOLDER` puts copies of itself
# there.
PYTHON = """#!/bin/bash
[[ $1 != -c ]] || exit 0
echo "$PWD $0 $*" >>"$WORLD/calls"
if [[ $2 == venv ]]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp "$0" "$3/bin/pip"; fi
"""


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


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
    if arguments[3] == "ssh":
        return "install" if "--install" in command else command.split()[2]
    return arguments[3]


def make_project(tmp_path):
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


class Cloud:
    """A project with the scripts in it, and a cloud for it, in one folder."""

    def __init__(self, folder):
        self.folder = folder
        self.vm = folder / "vm"
        self.workdir = folder / "bucket/b/runs/bar"
        for name in ("tpu_vm.sh", "tpu_worker.sh"):
            script(folder / "project/launch" / name, (LAUNCH / name).read_text())
        script(folder / "project/launch/run.sh", RUN)
        for name, text in {"gcloud": GCLOUD, "git": GIT, "python3.12": "#!/bin/bash"}.items():
            script(folder / "bin" / name, text)
        self.set(state="NONE", states=[], requests=[["ACTIVE"]], workers=1)
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
        given |= {"--version": "v2", "--poll": "0.1"}
        given = [f"{k}={v}" for k, v in given.items()]
        # Where the tests run in the background, SIGINT is ignored, and bash cannot take that back.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        process = subprocess.Popen(
            ["bash", str(self.folder / "project/launch/tpu_vm.sh"), *given, *options]
            + (["--", f"--config={run}", "--workdir=gs://b/runs/bar", *more] if run else []),
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

    def close(self):
        """End what the scripts left, on the machine too."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def interrupt(self, *options):
        """Ctrl-C as soon as the run waits; the script's exit status and what it printed."""
        process = self.start(*options, run="wait")
        wait_for(lambda: "waiting" in read(self.vm / "ddb_jax/run.log"))
        wait_for(lambda: "follow" in self.calls())
        os.kill(process.pid, signal.SIGINT)
        output = process.communicate(timeout=60)[0]
        return process.returncode, output

    def arguments(self):
        """What gcloud was called with, call by call."""
        return list(map(ast.literal_eval, read(self.folder / "calls").splitlines()))

    def calls(self):
        """The same in a word each: "create", "follow", ..."""
        return [verb(call) for call in self.arguments()]

    def steps(self):
        """The same without questions, and without repeats."""
        steps = [step for step in self.calls() if step not in ("describe", "running")]
        return [word for i, word in enumerate(steps) if i == 0 or word != steps[i - 1]]
