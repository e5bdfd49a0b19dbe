"""Locks on open files: held, taken, or none where the file system has none."""

import errno

import pytest

from ddb_jax.data.download.fetch import fetch
from ddb_jax.data.download.origins import RemoteFile
from ddb_jax.runtime import lock, work_directory
from ddb_jax.runtime.lock import Lock, try_lock


@pytest.fixture
def without_locks(monkeypatch):
    """A file system as NFS mounted nolock."""

    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", flock)


def test_one_holds_it_until_the_file_is_closed(tmp_path, caplog):
    path = tmp_path / "a.lock"
    with path.open("a") as first, path.open("a") as second:
        assert try_lock(first, unprotected="x") is Lock.HELD
        assert try_lock(second, unprotected="x") is Lock.TAKEN
        first.close()
        assert try_lock(second, unprotected="x") is Lock.HELD
    assert not caplog.records


def test_without_locks_one_sentence_warns(tmp_path, without_locks, caplog):
    with (tmp_path / "a.lock").open("a") as file:
        assert try_lock(file, unprotected="two of them spoil it") is Lock.NONE
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.message == (
        f"warning: {tmp_path}/a.lock cannot be locked (No locks available): two of them spoil it"
    )


def test_a_work_directory_without_locks_is_used(tmp_path, without_locks, caplog):
    with work_directory.locked(tmp_path / "w"):
        assert (tmp_path / "w/.lock").exists()
    assert [r.message.partition("): ")[2] for r in caplog.records] == [
        "two runs in one work directory spoil it"
    ]


def test_a_download_without_locks_goes_on(tmp_path, without_locks, caplog):
    file = RemoteFile("http://127.0.0.1:1/a.bin", "a.bin", None, 1)
    with pytest.raises(ValueError, match="cannot be fetched"):  # nobody listens there
        fetch(file, file.address, tmp_path / "a.bin", waits=(), timeout=1.0)
    assert "a second download of it spoils it" in caplog.text
