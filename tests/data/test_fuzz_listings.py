"""Folders and tables at random: the counts are right, or one sentence says what is wrong."""

import contextlib
import io
import os
import shutil
import tempfile
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from random_folders import Case, folders
from random_tables import tables

from ddb_jax.configs import csv, folder
from ddb_jax.data.datasets import load_dataset
from ddb_jax.main import main

FUZZ = int(os.environ.get("FUZZ_EXAMPLES", "500"))
SHARE = 0.3  # of drawn splits: small sets can be divided
SETTINGS = {
    "derandomize": True,
    "deadline": None,
    "database": None,
    "phases": (Phase.generate,),  # with three oddities at most there is little to shrink
    "suppress_health_check": list(HealthCheck),
}


@settings(max_examples=25, **SETTINGS)
@given(data=st.data())
def test_a_folder_is_counted_right_or_refused_in_a_sentence(data):
    check(data, folders)


@settings(max_examples=25, **SETTINGS)
@given(data=st.data())
def test_a_table_is_counted_right_or_refused_in_a_sentence(data):
    check(data, tables)


@pytest.mark.slow
@settings(max_examples=FUZZ, **SETTINGS)
@given(data=st.data())
def test_many_folders(data):
    check(data, folders)


@pytest.mark.slow
@settings(max_examples=FUZZ, **SETTINGS)
@given(data=st.data())
def test_many_tables(data):
    check(data, tables)


def check(data, strategy):
    # Not tmp_path, which is one folder for all examples.
    place = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        case = data.draw(strategy(place / "set"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
            patch.setattr("ddb_jax.run.pipeline.estimate_costs", lambda *a: [])
            check_case(case, place)
    finally:
        shutil.rmtree(place)


def check_case(case: Case, place: Path):
    config = {"folder": folder, "csv": csv}[case.config].get_config("smoke")
    config.data.root = str(case.root)
    config.data.validation_share = config.data.test_share = SHARE
    config.data.max_broken = case.max_broken
    try:
        dataset = load_dataset(config.data, 8, None)
    except (ValueError, FileNotFoundError) as error:  # UserError is for damaged caches
        assert getattr(error, "errno", None) is None, f"not a sentence of ours: {error!r}"
        event("refused")
        check_sentence(str(error), case)
        assert case.refused or not case.clean, f"refused: {error}"
        check_main(case, place)
        return
    event("read")
    assert not case.refused, f"read in spite of {case.refused}"
    found = {}
    for split, source in dataset.splits.items():
        for label, bias in zip(source.labels.tolist(), source.bias.tolist(), strict=True):
            kind = "unknown" if bias < 0 else "aligned" if bias == label else "conflicting"
            name = unicodedata.normalize("NFC", dataset.class_names[label])
            found.setdefault("all" if "all" in case.counts else split, Counter())[name, kind] += 1
    expected = {split: spelled(counter) for split, counter in case.counts.items()}
    assert {split: +counter for split, counter in found.items()} == expected
    paths = [path for source in dataset.splits.values() for path in source.paths]
    assert len(set(paths)) == len(paths)
    for line in (*dataset.notes, *dataset.warnings):
        assert_one_line(line)


def spelled(counter: Counter) -> Counter:
    """Without zeros, the names in one Unicode form."""
    names = Counter()
    for (name, kind), n in counter.items():
        names[unicodedata.normalize("NFC", name), kind] += n
    return +names


def check_sentence(message: str, case: Case):
    assert_one_line(message)
    assert message.endswith((".", ")")), message
    concrete = (str(case.root), case.root.name, "config.", "line ")
    assert any(word in message for word in concrete), message


def assert_one_line(text: str):
    bad = [c for c in text if unicodedata.category(c) in ("Cc", "Zl", "Zp", "Cs")]
    assert not bad, repr(text)


def check_main(case: Case, place: Path):
    """The command line says it in one line, too."""
    arguments = [
        f"--config=configs/{case.config}.py:smoke",
        f"--config.data.root={case.root}",
        f"--config.data.max_broken={case.max_broken}",
        f"--config.data.validation_share={SHARE}",
        f"--config.data.test_share={SHARE}",
        f"--workdir={place / 'run'}",
        "--dry_run=plan",
    ]
    with contextlib.redirect_stderr(io.StringIO()) as err:
        status = main(arguments)
    error = err.getvalue()
    assert status == 1, error
    assert error.startswith("error: ") and error.endswith("\n"), error
    assert_one_line(error.removesuffix("\n"))
