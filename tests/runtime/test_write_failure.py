"""Why something could not be written, and what to do about it."""

import errno

import pytest

from ddb_jax import main as main_module
from ddb_jax.run import pipeline
from ddb_jax.runtime import processes
from ddb_jax.runtime.errors import UserError, write_failure
from ddb_jax.training import checkpoint

TENSORSTORE = ValueError(
    'RESOURCE_EXHAUSTED: Error writing "a/0" in OCDBT database: Failed to write 2007040 bytes to'
    " file 7: No space left on device [os_error_code='28']"
)
FIXES = {
    "full": (OSError(errno.ENOSPC, "x"), "No space left on device", "make room there"),
    "quota": (OSError(errno.EDQUOT, "x"), "Disk quota exceeded", "make room there"),
    "read_only": (OSError(errno.EROFS, "x"), "Read-only file system", "make it writable"),
    "denied": (PermissionError(errno.EACCES, "x"), "Permission denied", "make it writable"),
    "limit": (
        OSError(errno.EFBIG, "x"),
        "File too large",
        "raise the limit on the size of files (ulimit -f)",
    ),
    "stale": (
        OSError(errno.ESTALE, "x"),
        "Stale file handle",
        "see that the disk or the server is well",
    ),
    "tensorstore": (TENSORSTORE, "No space left on device", "make room there"),
}


@pytest.mark.parametrize("case", FIXES)
def test_the_fix_fits_the_error(case):
    error, reason, fix = FIXES[case]
    assert write_failure(error) == (reason, fix)
    outer = RuntimeError("orbax")
    outer.__cause__ = error
    assert write_failure(outer) == (reason, fix)


@pytest.mark.parametrize("error", [ValueError("x"), FileNotFoundError(errno.ENOENT, "x")])
def test_other_errors_are_not_of_writing(error):
    assert write_failure(error) is None


@pytest.mark.parametrize("case", ["read_only", "tensorstore"])
def test_a_checkpoint_says_so(case, tmp_path, monkeypatch):
    error, reason, fix = FIXES[case]
    saved = checkpoint.Checkpoints(tmp_path / "checkpoints")

    def fail(step, state):
        raise error

    monkeypatch.setattr(saved._steps, "save", fail)
    with pytest.raises(UserError) as raised:
        saved.save(1, {})
    assert str(raised.value) == (
        f"a checkpoint could not be written to {tmp_path / 'checkpoints'} ({reason}); the ones"
        f" before it are whole: {fix} and run again."
    )
    saved.close()


def test_the_command_line_says_so(tmp_path, monkeypatch, capsys):
    def fail(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device", "w/erm/table.csv")

    monkeypatch.setattr(pipeline, "run", fail)
    status = main_module.main(["--config=configs/digits.py:smoke", f"--workdir={tmp_path}"])
    assert status == 1
    assert capsys.readouterr().err == (
        "error: w/erm/table.csv: No space left on device; if it was to be written, make room there"
        " and run again: what is done is kept.\n"
    )


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (AssertionError(), "it has no plugin for it"),
        (
            RuntimeError(
                "Unable to initialize backend 'gpuu': it is unknown. (set JAX_PLATFORMS='' to"
                " automatically choose an available backend)"
            ),
            "Unable to initialize backend 'gpuu': it is unknown",
        ),
    ],
)
def test_a_platform_that_is_not_there(error, said, monkeypatch, capsys):
    def fail():
        raise error

    monkeypatch.setattr(processes.jax, "devices", fail)
    assert main_module.main(["--config=configs/digits.py:smoke"]) == 1
    assert capsys.readouterr().err == (
        f"error: JAX_PLATFORMS is 'cpu', and JAX finds no such device here ({said}): set it to cpu,"
        " or to cuda or tpu where there is one and JAX is installed for it, or unset it.\n"
    )
