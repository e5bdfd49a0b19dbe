"""One file from a server that resumes, ignores Range, drops lines or refuses."""

import fcntl
import hashlib
import os

import pytest
from file_server import CONTENT, SHA256, serving

from ddb_jax.data.download.fetch import fetch, file_digest
from ddb_jax.data.download.origins import RemoteFile

MD5 = hashlib.md5(CONTENT).hexdigest()


def get(address, target, checksum=None, waits=(0.0, 0.0)):
    file = RemoteFile(f"{address}/a.bin", "a.bin", checksum, 0)
    fetch(file, file.address, target, waits=waits, timeout=5.0)


@pytest.mark.parametrize("checksum", [None, f"md5:{MD5}", f"sha256:{SHA256}"])
def test_fetches(tmp_path, checksum):
    target = tmp_path / "new" / "a.bin"
    with serving({"a.bin": CONTENT}) as (address, requests):
        get(address, target, checksum)
        assert target.read_bytes() == CONTENT
        get(address, target, checksum)
    assert requests == [None]  # what is there and right is not fetched again
    assert os.listdir(target.parent) == ["a.bin"]


def test_resumes(tmp_path):
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:300_001])
    with serving({"a.bin": CONTENT}) as (address, requests):
        get(address, tmp_path / "a.bin", f"md5:{MD5}")
    assert requests == ["bytes=300001-"]
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_goes_on_after_dropped_lines(tmp_path):
    drops = (400_000, 0, 100_000)  # the second answer brings nothing
    with serving({"a.bin": CONTENT}, drops=drops) as (address, requests):
        get(address, tmp_path / "a.bin", f"md5:{MD5}")
    assert requests == [None, "bytes=400000-", "bytes=400000-", "bytes=500000-"]
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("announce", [True, False])
def test_starts_over_where_range_is_ignored(tmp_path, announce):
    (tmp_path / "a.bin.part").write_bytes(b"x" * 300_001)
    with serving({"a.bin": CONTENT}, ranges=False, announce=announce) as (address, requests):
        get(address, tmp_path / "a.bin")
    assert requests == ["bytes=300001-"]
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_chunked_answer_that_breaks_off_is_noticed(tmp_path):
    with serving({"a.bin": CONTENT}, chunked=True, drops=[300_000]) as (address, requests):
        get(address, tmp_path / "a.bin")
    assert requests == [None, "bytes=300000-"]
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_part_that_is_whole_or_too_long(tmp_path):
    for part, expected in (
        (CONTENT, [f"bytes={len(CONTENT)}-"]),
        (CONTENT + b"x", [f"bytes={len(CONTENT) + 1}-", None]),
    ):
        (tmp_path / "a.bin.part").write_bytes(part)
        with serving({"a.bin": CONTENT}) as (address, requests):
            get(address, tmp_path / "a.bin", f"sha256:{SHA256}")
        assert requests == expected
        assert (tmp_path / "a.bin").read_bytes() == CONTENT
        (tmp_path / "a.bin").unlink()


def test_gives_up_and_keeps_what_came(tmp_path):
    with serving({"a.bin": CONTENT}, drops=[1000, 0, 0, 0]) as (address, requests):
        with pytest.raises(ValueError, match=r"ended after 1,000 of 1,024,000 bytes") as error:
            get(address, tmp_path / "a.bin")
    assert f"put the file at {tmp_path / 'a.bin'}" in str(error.value)
    assert len(requests) == 4  # one that brought something, three that did not
    assert os.listdir(tmp_path) == ["a.bin.part"]
    assert (tmp_path / "a.bin.part").read_bytes() == CONTENT[:1000]


def test_a_server_that_always_drops_at_the_same_byte_ends(tmp_path):
    with serving({"a.bin": CONTENT}, ranges=False, drops=[1000] * 9) as (address, requests):
        with pytest.raises(ValueError, match="ended after"):
            get(address, tmp_path / "a.bin")
    assert len(requests) == 4


@pytest.mark.parametrize(("status", "attempts"), [(404, 1), (403, 1), (503, 3), (429, 3)])
def test_refusals(tmp_path, status, attempts):
    with serving({"a.bin": CONTENT}, status=status) as (address, requests):
        with pytest.raises(ValueError, match=f"the server answers {status}") as error:
            get(address, tmp_path / "a.bin")
    assert len(requests) == attempts
    assert address in str(error.value) and str(tmp_path / "a.bin") in str(error.value)
    assert os.listdir(tmp_path) == []


def test_no_server(tmp_path):
    with serving({}) as (address, _):
        pass
    with pytest.raises(ValueError, match=r"Connection refused.*put the file at"):
        get(address, tmp_path / "a.bin", waits=())
    assert os.listdir(tmp_path) == []


def test_wrong_checksum(tmp_path):
    with serving({"a.bin": CONTENT}) as (address, _):
        with pytest.raises(ValueError, match="removed") as error:
            get(address, tmp_path / "a.bin", "md5:" + "0" * 32)
        assert MD5 in str(error.value) and "0" * 32 in str(error.value)
        assert os.listdir(tmp_path) == []
        (tmp_path / "a.bin").write_bytes(b"by hand")
        with pytest.raises(ValueError, match="remove the file"):
            get(address, tmp_path / "a.bin", f"md5:{MD5}")
        assert (tmp_path / "a.bin").read_bytes() == b"by hand"


def test_one_download_at_a_time(tmp_path):
    with (tmp_path / "a.bin.part").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with serving({"a.bin": CONTENT}) as (address, _):
            with pytest.raises(ValueError, match="another process is downloading"):
                get(address, tmp_path / "a.bin")


def test_file_digest(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # the test vectors of RFC 1321 and FIPS 180-2
    assert file_digest(tmp_path / "abc", "md5") == "900150983cd24fb0d6963f7d28e17f72"
    assert file_digest(tmp_path / "abc", "sha256") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
