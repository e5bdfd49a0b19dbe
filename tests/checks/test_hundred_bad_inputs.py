"""A hundred bad values and inputs: one sentence each that says what, where and the mend."""

import pytest
from bad_files import write_inputs
from bad_inputs import BAD

from ddb_jax.main import main


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder)
    return folder


def test_there_are_a_hundred():
    assert len(BAD) >= 100 and len({row[:2] for row in BAD}) == len(BAD)
    assert all(len(words) > 1 or "give" in words[0] for *_, words in BAD)


@pytest.mark.parametrize("row", BAD, ids=lambda row: " ".join((row[0], *row[1])))
def test_one_sentence_says_what_where_and_the_mend(row, root, tmp_path, monkeypatch, capfd):
    config, flags, words = row
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    flags = [flag if flag.startswith("--") else f"--config.{flag}" for flag in flags]
    flags = [flag.replace("ROOT", str(root)) for flag in flags]
    # A later flag counts; a work directory is looked at by a run alone.
    dry = [] if any("--workdir" in flag for flag in flags) else ["--dry_run"]
    monkeypatch.setattr("ddb_jax.run.pipeline.estimate_costs", lambda *a: [])
    given = [f"--config=configs/{config}.py:smoke", f"--workdir={tmp_path / 'run'}", *dry]
    assert main([*given, *flags]) == 1
    error = capfd.readouterr().err
    assert error.startswith("error: ") and error.endswith(".\n") and error.count("\n") == 1
    assert [part for part in words if part.replace("ROOT", str(root)) not in error] == [], error
    assert not (tmp_path / "run").exists()
