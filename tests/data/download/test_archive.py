"""Archives are made by hand here, the hostile ones too."""

import io
import os
import stat
import tarfile
import zipfile

import pytest

from ddb_jax.data.download.archive import unpack

FILES = {"set/train/a.txt": b"alpha", "set/test/b.txt": b"beta" * 1000, "set/c d.txt": b""}


def make_tar(path, members):
    """`members`: TarInfo or name, with its bytes."""
    with tarfile.open(path, "w:gz") as tar:
        for info, data in members:
            if isinstance(info, str):
                info = tarfile.TarInfo(info)
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def make_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for info, data in members:
            archive.writestr(info, data)
    return path


MAKE = {"data.tar.gz": make_tar, "data.tgz": make_tar, "data.zip": make_zip}


def left_behind(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", MAKE)
def test_unpacks(tmp_path, name):
    archive = MAKE[name](tmp_path / name, FILES.items())
    unpack(archive, tmp_path / "out")
    found = {
        str(path.relative_to(tmp_path / "out")): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert found == FILES
    assert left_behind(tmp_path) == [name, "out"]


@pytest.mark.parametrize("name", ["data.tar.gz", "data.zip"])
def test_takes_an_inner_folder(tmp_path, name):
    archive = MAKE[name](tmp_path / name, FILES.items())
    unpack(archive, tmp_path / "out", inner="set")
    assert left_behind(tmp_path / "out") == ["c d.txt", "test", "train"]
    assert left_behind(tmp_path) == [name, "out"]
    with pytest.raises(ValueError, match="has no folder other"):
        unpack(archive, tmp_path / "again", inner="other")
    assert left_behind(tmp_path) == [name, "out"]


@pytest.mark.parametrize("name", ["data.tar.gz", "data.zip"])
@pytest.mark.parametrize(
    "member", ["/etc/passwd", "../evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:\\evil.txt"]
)
def test_names_outside_are_refused(tmp_path, name, member):
    (tmp_path / "in").mkdir()
    archive = MAKE[name](tmp_path / "in" / name, [("good.txt", b"1"), (member, b"2")])
    with pytest.raises(ValueError, match="would lie outside its folder"):
        unpack(archive, tmp_path / "in" / "out")
    assert left_behind(tmp_path) == ["in"]
    assert left_behind(tmp_path / "in") == [name]


def test_links_and_devices_are_refused(tmp_path):
    for kind, target in (
        (tarfile.SYMTYPE, "../.."),
        (tarfile.SYMTYPE, "good.txt"),
        (tarfile.LNKTYPE, "/etc/passwd"),
        (tarfile.CHRTYPE, ""),
        (tarfile.BLKTYPE, ""),
        (tarfile.FIFOTYPE, ""),
    ):
        info = tarfile.TarInfo("odd")
        info.type, info.linkname = kind, target
        archive = make_tar(tmp_path / "data.tar.gz", [("good.txt", b"1"), (info, b"")])
        with pytest.raises(ValueError, match="'odd' is a link or a device"):
            unpack(archive, tmp_path / "out")
    link = zipfile.ZipInfo("odd")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    archive = make_zip(tmp_path / "data.zip", [("good.txt", b"1"), (link, b"/etc/passwd")])
    with pytest.raises(ValueError, match="'odd' is a link or a device"):
        unpack(archive, tmp_path / "out")
    assert left_behind(tmp_path) == ["data.tar.gz", "data.zip"]


@pytest.mark.parametrize("name", ["data.tar.gz", "data.zip"])
def test_bombs_are_refused(tmp_path, name):
    members = [(f"{i}.bin", bytes(1000)) for i in range(3)]
    archive = MAKE[name](tmp_path / name, members)
    with pytest.raises(ValueError, match="more than 2,999 bytes"):
        unpack(archive, tmp_path / "out", max_bytes=2999)
    assert left_behind(tmp_path) == [name]
    unpack(archive, tmp_path / "out", max_bytes=3000)


@pytest.mark.parametrize("name", ["data.tar.gz", "data.zip"])
def test_damage_is_one_sentence(tmp_path, name):
    noise = os.urandom(200_000)
    whole = MAKE[name](tmp_path / name, [("a.bin", noise), ("b.bin", noise)]).read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 4] ^= 0xFF
    for content in (whole[: len(whole) // 2], whole[:-6], bytes(flipped), b"<html>no", b""):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="cut short, damaged or not an archive") as error:
            unpack(tmp_path / name, tmp_path / "out")
        assert "\n" not in str(error.value)
        assert left_behind(tmp_path) == [name]


def test_a_failed_check_leaves_nothing(tmp_path):
    archive = make_zip(tmp_path / "data.zip", FILES.items())

    def check(folder):
        assert (folder / "c d.txt").exists()
        raise ValueError("not enough files.")

    with pytest.raises(ValueError, match="not enough files"):
        unpack(archive, tmp_path / "out", inner="set", check=check)
    assert left_behind(tmp_path) == ["data.zip"]


def test_other_refusals(tmp_path):
    (tmp_path / "data.rar").write_bytes(b"")
    with pytest.raises(ValueError, match=r"not a \.tar\.gz, \.tgz or \.zip"):
        unpack(tmp_path / "data.rar", tmp_path / "out")
    (tmp_path / "out").mkdir()
    with pytest.raises(FileExistsError, match="out exists"):
        unpack(make_zip(tmp_path / "data.zip", []), tmp_path / "out")
