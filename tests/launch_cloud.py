"""Stand-ins for what launch/ calls: a cloud with its gcloud, a Python; and what tests share."""

import ast
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

LAUNCH = Path(__file__).parent.parent / "launch"

# Cloud and bucket in one folder, $WORLD. Worker 0 is the folder vm, the next vm1; ssh is a shell in
# there.
GCLOUD = f"""#!{sys.executable} -SE
import os, signal, sys  # and no more: it is called often

world, arguments = os.environ["WORLD"], sys.argv[1:]
bucket = world + "/bucket"
with open(world + "/calls", "a") as calls:
    print(arguments, file=calls)
cloud = eval(open(world + "/cloud").read())
vms = [world + "/vm" + (str(i) if i else "") for i in range(cloud["workers"])]
vm, runs = vms[0], [v + "/ddb_jax/runs/" for v in vms]

def end(status=0, error=""):
    with open(world + "/cloud.part", "w") as file:
        print(cloud, file=file)
    os.rename(world + "/cloud.part", world + "/cloud")
    print(error, end="", file=sys.stderr)
    sys.exit(status)

def kill(number, *names):
    for name in names:
        try:
            os.kill(int(open(name).read()), number)
            if number == signal.SIGKILL:  # where nobody waits for it, its number stays in use
                open(name, "w").write("999999999")
        except (FileNotFoundError, ProcessLookupError):
            pass

def power_off():
    for v, r in zip(vms, runs):
        kill(signal.SIGKILL, r + "bar.pid", r + "bar.child")
        os.rename(v, v.replace("/vm", "/gone" + str(len(os.listdir(world))) + "-"))

def copy(source, target):
    data = open(source, "rb").read()
    if os.path.isdir(target):
        target += "/" + os.path.basename(source)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    part = target + str(os.getpid())
    open(part, "wb").write(data)
    os.rename(part, target)

def path(text):
    return text.replace("gs:/", bucket)

if arguments[0] == "storage":  # on the machine, beside a call from here: does not call end()
    if "denied" in cloud:
        sys.exit("ERROR: 403 denied")
    if arguments[1] == "cp":
        for source in arguments[3:-1]:
            copy(path(source), path(arguments[-1]))
    elif not os.path.exists(path(arguments[2])):
        sys.exit("ERROR: One or more URLs matched no objects.")
    elif arguments[2].endswith("/"):
        for name in os.listdir(path(arguments[2])):
            print(arguments[2] + name + "/" * os.path.isdir(path(arguments[2] + name)))
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
    cloud.pop("cut", None)
    for v in vms:
        os.mkdir(v)
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
    for v in vms if "--worker=all" in arguments else vms[:1]:
        copy(*(name.replace("bar:", v + "/") for name in arguments[4:6]))
else:
    command = arguments[-1].removeprefix("--command=")
    saved = [bucket + "/b/runs/bar.tar", bucket + "/b/runs/bar/step"]
    if "preempt" in cloud and "progress" in command and any(map(os.path.exists, saved)):
        cloud["states"] = cloud.pop("preempt")
        power_off()
        end(255, "ssh: connection closed")
    waiting = "progress" in command and "waiting" in open(runs[0] + "bar.log").read()
    if "shutdown" in cloud and waiting:  # of the worker with this number
        kill(signal.SIGTERM, runs[cloud.pop("shutdown")] + "bar.child")
        while not all(os.path.exists(r + "bar.exit_status") for r in runs):
            os.system("sleep 0.1")
    if "kill" in cloud and waiting:  # of worker 1; the others notice it
        if "network" in cloud["kill"]:
            cloud["cut"] = True
        kill(signal.SIGKILL, *(runs[1] + name for name in cloud.pop("kill")))
        open(world + "/left", "w").close()
    os.environ["HOME"] = vm
    status = 0
    for v in vms if "--worker=all" in arguments else vms[:1]:
        if "cut" in cloud and v == vms[1]:
            print("ssh: no route to host", file=sys.stderr)
            status = 255
            continue
        os.chdir(v)
        os.environ["HOME"] = v
        status = os.spawnvp(os.P_WAIT, "bash", ["bash", "-c", command]) or status
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
    for mark, name in {
        "--install": "install", "nohup": "run", "kill -0": "is_running", " progress ": "progress",
        " status ": "status", " pack ": "pack", " stop ": "stop",
    }.items():  # fmt: skip
        if arguments[3] == "ssh" and mark in command:
            return name
    if arguments[3] == "scp":
        return "fetch" if arguments[4].startswith("bar:") else "copy"
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
        self.results = folder / "results"
        for name in ("tpu_vm.sh", "tpu_machine.sh", "on_tpu_vm.sh"):
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

    def close(self):
        """End what the scripts left, on the machine too."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

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

    def steps(self):
        """The same without questions, and without repeats."""
        steps = [step for step in self.calls() if step not in ("describe", "is_running")]
        return [word for i, word in enumerate(steps) if i == 0 or word != steps[i - 1]]

    def saved(self):
        """Names and content of the files of the saved work directory."""
        with tarfile.open(self.folder / "bucket/b/runs/bar.tar") as tar:
            return {m.name: tar.extractfile(m).read().decode() for m in tar if m.isfile()}
