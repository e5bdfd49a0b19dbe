"""Small files of a work directory that are damaged: named, and their stage is made again."""

import errno
import json
import shutil

import numpy as np
import pytest

from ddb_jax.run.refusals import refuse_changed
from ddb_jax.runtime import files, work_directory
from ddb_jax.runtime.files import DamagedFile

RECORD = {"fingerprint": "f", "config": {"a": 1}}
DAMAGE = {
    "empty": (b"", "it is empty"),
    "blank": (b"\n", "it is empty"),
    "cut": (b'{"fingerprint": "f", "con', "it is cut short or not JSON: Unterminated string"),
    "zeros": (bytes(40), "it is cut short or not JSON: Expecting value"),
    "binary": (b"\xff\xfe\x00\x80", "it is cut short or not JSON: "),
    "deep": (b"[" * 100_000, "it is cut short or not JSON: "),
    "text": (b'"f"', "it holds str"),
    "number": (b"7", "it holds int"),
    "null": (b"null", "it holds NoneType"),
    "nothing": (b"{}", "it holds nothing"),
    "list": (b"[1]", "it holds list"),
}
# Those that stages read back from one another, and the table of the report.
SMALL = (
    "done.json", "selection.json", "detection.json", "manifest.json", "gate.json", "metrics.json",
    "aligned_share.json",
)  # fmt: skip


@pytest.fixture
def stage(tmp_path):
    """A finished stage with each of the small files."""
    folder = tmp_path / "stage"
    work_directory.open_stage(folder, RECORD)
    partial = work_directory.partial_folder(folder)
    for name in SMALL[1:]:
        files.write_json(partial / name, {"a": 1})
    files.write_atomically(partial / "scores.csv", "a,b\n")
    files.save_array(partial / "features.npy", np.zeros(3))
    work_directory.close_stage(folder, RECORD)
    return folder


def test_a_whole_stage_is_done(stage, caplog):
    assert work_directory.is_done(stage, "f")
    assert not caplog.records


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_is_not_done(case, name, stage, caplog):
    content, words = DAMAGE[case]
    (stage / name).write_bytes(content)
    assert not work_directory.is_done(stage, "f")
    assert not work_directory.is_done(stage, "f")
    (record,) = caplog.records  # said once
    assert record.message.startswith(f"warning: {stage / name} is damaged ({words}")
    assert record.message.endswith("): its stage counts as not done")


@pytest.mark.parametrize("name", ["scores.csv", "features.npy"])
def test_an_empty_table_is_damaged(name, stage, caplog):
    (stage / name).write_bytes(b"")
    assert not work_directory.is_done(stage, "f")
    assert f"{stage / name} is damaged (it is empty)" in caplog.text


@pytest.mark.parametrize("case", DAMAGE)
def test_no_record_is_left_of_a_damaged_one(case, stage):
    (stage / "done.json").write_bytes(DAMAGE[case][0])
    assert work_directory.previous_record(stage) is None
    assert not work_directory.is_begun(stage, "f")


def test_a_damaged_stage_is_removed_and_made_again(stage, caplog):
    caplog.set_level("INFO")
    (stage / "selection.json").write_text("")
    partial = work_directory.open_stage(stage, RECORD)
    assert not stage.exists()
    assert f"removing {stage}, which is damaged" in caplog.messages
    work_directory.close_stage(stage, RECORD)
    assert not partial.exists()
    assert work_directory.is_done(stage, "f")


def test_a_stage_of_other_settings_is_not_called_damaged(stage, caplog):
    caplog.set_level("INFO")
    work_directory.open_stage(stage, {"fingerprint": "g"})
    assert f"removing {stage}, which other settings made" in caplog.messages


def test_a_damaged_start_is_begun_again(tmp_path, caplog):
    folder = tmp_path / "stage"
    partial = work_directory.open_stage(folder, RECORD)
    (partial / "started.json").write_text("")
    (partial / "rest").touch()
    assert work_directory.open_stage(folder, RECORD) == partial
    assert [path.name for path in partial.iterdir()] == ["started.json"]
    assert json.loads((partial / "started.json").read_text()) == RECORD
    assert f"{partial / 'started.json'} is damaged (it is empty)" in caplog.text


@pytest.mark.parametrize("content", ["", "{", "[]", "7"])
def test_a_damaged_config_of_the_run_before_refuses_nothing(content, tmp_path, caplog):
    (tmp_path / "config.json").write_text(content)
    refuse_changed(tmp_path, {}, [], {})
    assert f"{tmp_path / 'config.json'} is damaged" in caplog.text


def test_what_a_stage_reads_is_named_with_the_way_to_go_on(tmp_path):
    folder = tmp_path / "stage"
    folder.mkdir()
    for name, read in (
        ("a.json", files.read_json),
        ("a.csv", files.read_rows),
        ("a.npy", files.load_array),
    ):
        (folder / name).write_bytes(b"")
        with pytest.raises(DamagedFile) as error:
            read(folder / name)
        assert str(error.value).startswith(f"{folder / name} is damaged (it is ")
        assert str(error.value).endswith(f"): remove {folder} and run again, which makes it again.")


def test_a_failed_write_names_its_file(tmp_path):
    def write(local):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left") as error:
        files.write_through(tmp_path / "a.bin", write)
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(tmp_path / "a.bin"))
    assert list(tmp_path.iterdir()) == []


def test_the_captions_so_far_are_a_list(stage):
    files.write_json(stage / "captions_so_far.json", [["a cat"]])
    assert work_directory.is_done(stage, "f")
    (stage / "captions_so_far.json").write_text("{}")
    assert not work_directory.is_done(stage, "f")


def test_a_copied_stage_is_done(stage, tmp_path):
    shutil.copytree(stage, tmp_path / "copy")
    assert work_directory.is_done(tmp_path / "copy", "f")
