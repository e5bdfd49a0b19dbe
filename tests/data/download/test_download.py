"""Whole data sets from a server on this machine: unpacked, counted, and the command line."""

import gzip
import hashlib
import io
import logging
import os
import re
import zipfile
from pathlib import Path

import pytest
from file_server import CONTENT, SHA256, serving

from ddb_jax.data.download import __main__ as download
from ddb_jax.data.download.__main__ import obtain
from ddb_jax.data.download.origins import BY_HAND, ORIGINS, Origin, RemoteFile

DATA = Path(os.environ.get("DDB_JAX_DATA", Path(__file__).parents[4] / "shared" / "data"))


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


def test_later_downloads_are_compared_with_the_first(tmp_path):
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
    assert "run the same command to resume" in capsys.readouterr().err
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
