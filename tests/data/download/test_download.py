"""Downloads from a server on this machine that resumes, ignores Range, drops lines or refuses."""

import contextlib
import fcntl
import gzip
import hashlib
import http.server
import io
import logging
import os
import re
import threading
import zipfile
from pathlib import Path

import pytest

from ddb_jax.data.download import __main__ as download
from ddb_jax.data.download.__main__ import obtain
from ddb_jax.data.download.fetch import fetch, file_digest
from ddb_jax.data.download.origins import BY_HAND, ORIGINS, Origin, RemoteFile

DATA = Path(os.environ.get("DDB_JAX_DATA", Path(__file__).parents[4] / "shared" / "data"))
CONTENT = bytes(range(256)) * 4000  # 1,024,000 bytes
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()


@contextlib.contextmanager
def serving(files, *, ranges=True, announce=True, chunked=False, drops=(), status=200):
    """A server of `files` by name; yields its address and the Range of every request it got.

    Args:
        ranges: Whether it answers to Range.
        announce: Whether it sends Content-Length.
        chunked: Whether it sends 100,000 bytes a chunk, as servers do that do not know the length.
        drops: After how many bytes the first, second ... answer breaks off.
        status: What it answers instead of 200.
    """
    requests, drops = [], list(drops)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1" if chunked else "HTTP/1.0"

        def do_GET(self):
            asked = self.headers.get("Range")
            requests.append(asked)
            content = files.get(self.path.lstrip("/"))
            if content is None or status != 200:
                return self.send_error(404 if status == 200 else status)
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and ranges else 0
            if start and start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.end_headers()
                return None
            self.send_response(206 if start else 200)
            if start:
                self.send_header(
                    "Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"
                )
            if chunked:
                self.send_header("Transfer-Encoding", "chunked")
            elif announce:
                self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            body = content[start:]
            end = drops.pop(0) if drops else len(body)
            if not chunked:
                self.wfile.write(body[:end])
                return None
            for i in range(0, end, 100_000):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece := body[i : i + 100_000]), piece))
            self.wfile.write(b"0\r\n\r\n" if end == len(body) else b"")
            self.close_connection = True
            return None

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", requests
        finally:
            server.shutdown()
            thread.join()


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


# -- whole data sets -------------------------------------------------------------------------------


def zipped(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


PETS = zipped({f"pets-1/train/{i}.jpg": b"%d" % i for i in range(3)} | {"pets-1/readme": b""})
PETS_ORIGIN = Origin(
    files=(RemoteFile("https://unused.example/p", "pets.zip", None, 0),),
    about="Pets.",
    inner="pets-1",
    at_least={"train/*.jpg": 3},
)


def test_obtains_and_unpacks(tmp_path):
    with serving({"pets.zip": PETS}) as (address, requests):
        folder = obtain("pets", PETS_ORIGIN, tmp_path, mirror=address + "/")
        assert folder == tmp_path / "pets"
        assert obtain("pets", PETS_ORIGIN, tmp_path, mirror=address) == folder
    assert requests == [None]
    assert sorted(path.name for path in folder.rglob("*.jpg")) == ["0.jpg", "1.jpg", "2.jpg"]
    record = (tmp_path / "downloads" / "pets.zip.sha256").read_text()
    assert record == f"{hashlib.sha256(PETS).hexdigest()}  pets.zip\n"  # as sha256sum -c reads it


def test_later_downloads_are_held_to_the_first(tmp_path):
    with serving({"pets.zip": PETS}) as (address, _):
        obtain("pets", PETS_ORIGIN, tmp_path, mirror=address)
    (tmp_path / "pets").rename(tmp_path / "old")
    (tmp_path / "downloads" / "pets.zip").unlink()
    changed = zipped({f"pets-1/train/{i}.jpg": b"" for i in range(3)})
    with serving({"pets.zip": changed}) as (address, _):
        with pytest.raises(ValueError, match=r"kept in .*pets\.zip\.sha256 is"):
            obtain("pets", PETS_ORIGIN, tmp_path, mirror=address)
    assert not (tmp_path / "pets").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PETS[:-40], r"damaged .*; remove .*pets\.zip to download it again\.$"),
        (zipped({"pets-1/train/0.jpg": b""}), r"1 files train/\*\.jpg where .* 3; remove "),
        (zipped({"pets-1/../../x": b""}), "would lie outside its folder; remove "),
    ],
)
def test_a_bad_archive_becomes_no_data_set(tmp_path, content, message):
    with serving({"pets.zip": content}) as (address, _):
        with pytest.raises(ValueError, match=message):
            obtain("pets", PETS_ORIGIN, tmp_path, mirror=address)
    assert os.listdir(tmp_path) == ["downloads"]
    assert os.listdir(tmp_path / "downloads") == ["pets.zip"]  # and no digest is kept


def test_a_folder_that_lacks_files_is_not_taken_for_the_data_set(tmp_path):
    (tmp_path / "pets" / "train").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"0 files train.*move it out of the way"):
        obtain("pets", PETS_ORIGIN, tmp_path, mirror="http://127.0.0.1:9")


@pytest.fixture
def log():
    """Gives the log back its handlers after `main` has set its own."""
    logger = logging.getLogger("ddb_jax")
    before = logger.handlers, logger.propagate, logger.level
    yield
    logger.handlers, logger.propagate, logger.level = before


def test_command_line(tmp_path, monkeypatch, capsys, log):
    monkeypatch.setitem(ORIGINS, "pets", PETS_ORIGIN)
    with serving({"pets.zip": PETS}) as (address, requests):
        arguments = ["pets", f"--root={tmp_path}", f"--mirror={address}"]
        assert download.main(arguments) == 0
        assert f"ready: --config.data.root={tmp_path}/pets\n" in capsys.readouterr().out
        assert download.main(arguments) == 0
        assert "is there already" in capsys.readouterr().out
    assert len(requests) == 1
    with serving({}) as (address, _):
        assert download.main(["cifar10", f"--root={tmp_path}", f"--mirror={address}"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "404" in error and error.count("\n") == 1


def test_command_line_refuses(capsys, log, tmp_path):
    assert download.main(["cat_pictures"]) == 1
    assert "there is no data set 'cat_pictures'" in capsys.readouterr().err
    assert download.main([]) == 1
    assert "there is mnist, " in capsys.readouterr().err
    assert download.main(["mnist", "--mirror=/some/folder"]) == 1
    assert "must begin with http" in capsys.readouterr().err
    (tmp_path / "file").write_bytes(b"")
    assert download.main(["mnist", f"--root={tmp_path / 'file'}"]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_ctrl_c_keeps_the_part(tmp_path, monkeypatch, capsys, log):
    monkeypatch.setitem(ORIGINS, "pets", PETS_ORIGIN)
    (tmp_path / "downloads").mkdir()
    part = tmp_path / "downloads" / "pets.zip.part"
    part.write_bytes(PETS[:10])

    def interrupt(*arguments, **keywords):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("urllib.request.urlopen", interrupt)
        assert download.main(["pets", f"--root={tmp_path}"]) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert part.read_bytes() == PETS[:10]
    with serving({"pets.zip": PETS}) as (address, requests):
        assert download.main(["pets", f"--root={tmp_path}", f"--mirror={address}"]) == 0
    assert requests == ["bytes=10-"]


def test_lists_and_explains(capsys, log):
    assert download.main(["--list"]) == 0
    listed = {line.split()[0] for line in capsys.readouterr().out.splitlines()}
    assert listed == {
        *("mnist", "cifar10", "bar", "waterbirds"),
        *("bffhq", "dogs_and_cats", "bar_bias_ensemble", "cmnist", "ccifar10"),
        *("urbancars", "imagenet9"),
        *("resnet18", "resnet34", "resnet50", "densenet121"),
    }
    for name in BY_HAND:
        assert download.main([name]) == 1
        assert "https://" in capsys.readouterr().out


def test_the_tables_are_well_formed():
    for origin in ORIGINS.values():
        for file in origin.files:
            assert file.address.startswith("https://")
            assert "/" not in file.name
            checksum = r"md5:[0-9a-f]{32}|sha256:([0-9a-f]{8}|[0-9a-f]{64})"
            assert file.checksum is None or re.fullmatch(checksum, file.checksum)
        assert (origin.inner is None) == (not origin.at_least)
    assert not set(ORIGINS) & set(BY_HAND)


@pytest.mark.skipif(not (DATA / "mnist").exists(), reason=f"no MNIST in {DATA}")
def test_real_mnist(tmp_path):
    real = {path.name: path.read_bytes() for path in (DATA / "mnist").iterdir()}
    with serving(real) as (address, _):
        folder = obtain("mnist", ORIGINS["mnist"], tmp_path, mirror=address)
    for file in ORIGINS["mnist"].files:
        assert (folder / file.name).stat().st_size == file.num_bytes
    labels = gzip.decompress((folder / "train-labels-idx1-ubyte.gz").read_bytes())
    assert len(labels) == 8 + 60_000


@pytest.mark.skipif(not (DATA / "bar").exists(), reason=f"no BAR in {DATA}")
def test_real_bar_passes_the_count(tmp_path):
    origin = ORIGINS["bar"]
    names = [path.relative_to(DATA / "bar") for path in (DATA / "bar").rglob("*.*")]
    content = zipped({f"{origin.inner}/{name}": b"" for name in names})
    with serving({origin.files[0].name: content}) as (address, _):
        folder = obtain("bar", origin, tmp_path, mirror=address)
    assert len(list(folder.glob("train/*"))) == 1941
    assert len(list(folder.glob("test/*"))) == 654


def test_weights_are_checked_by_the_digits_in_their_name_and_lie_in_one_folder(
    tmp_path, monkeypatch, capsys
):
    origin = ORIGINS["resnet18"]
    assert origin.files[0].checksum == "sha256:f37072fd"
    name = f"net-{SHA256[:8]}.pth"
    file = RemoteFile("", name, f"sha256:{SHA256[:8]}", 0)
    made = Origin((file,), "about", folder="weights", config_field="classifier.weights")
    monkeypatch.setitem(ORIGINS, "net", made)
    with serving({name: CONTENT}) as (address, _):
        arguments = ["net", "--root", str(tmp_path), "--mirror", address]
        assert download.main(arguments) == 0
    assert (
        f"ready: --config.classifier.weights={tmp_path}/weights/{name}" in capsys.readouterr().out
    )
    (tmp_path / "weights" / name).write_bytes(CONTENT[:-1])
    with serving({name: CONTENT}) as (address, _):
        assert download.main(["net", "--root", str(tmp_path), "--mirror", address]) == 1
    assert SHA256[:8] in capsys.readouterr().err
