"""Reading CIFAR-10: the official batches byte by byte, the .npz, and pickles that are refused."""

import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from ddb_jax.data.sets.cifar10 import CLASS_NAMES, read_cifar10

REAL = (
    Path(os.environ.get("DDB_JAX_DATA", Path(__file__).parents[4] / "shared" / "data")) / "cifar10"
)
NAMES = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]


def pixels(number, seed):
    return np.random.default_rng(seed).integers(0, 256, (number, 3072), dtype=np.uint8)


def python2_batch(data, labels):
    """What Python 2's cPickle wrote: opcode by opcode, as the official files have it."""

    def string(text):
        return b"U" + bytes([len(text)]) + text  # SHORT_BINSTRING

    number = len(data)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n"
        + (b"cnumpy\nndarray\n" + b"K\x00\x85" + string(b"b") + b"\x87R")
        + (b"(K\x01" + b"K" + bytes([number]) + b"M\x00\x0c\x86")  # version; shape (number, 3072)
        + (b"cnumpy\ndtype\n" + string(b"u1") + b"K\x00K\x01\x87R")
        + (b"(K\x03" + string(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89")
        + (b"T" + struct.pack("<i", data.nbytes) + data.tobytes() + b"tb")
    )
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    name = string(b"batch_label") + string(b"training batch 1 of 5")
    content = string(b"data") + array + string(b"labels") + numbers + name
    return b"\x80\x02}(" + content + b"u."


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for i, name in enumerate(NAMES):
        (folder / name).write_bytes(python2_batch(pixels(2, i), [i, 9]))
    return tmp_path


def test_official_batches(root):
    found = read_cifar10(root)
    assert found["train_images"].shape == (10, 32, 32, 3)
    assert found["train_images"].dtype == np.uint8
    assert found["train_labels"].tolist() == [0, 9, 1, 9, 2, 9, 3, 9, 4, 9]
    assert found["test_labels"].tolist() == [5, 9]
    assert found["train_positions"].tolist() == list(range(10))
    assert found["class_names"] == CLASS_NAMES and CLASS_NAMES[6] == "frog"
    flat = pixels(2, 3)[1]  # second image of the fourth batch
    for channel, row, column in ((0, 0, 0), (1, 2, 3), (2, 31, 30)):
        value = flat[1024 * channel + 32 * row + column]
        assert found["train_images"][7, row, column, channel] == value
    inside = read_cifar10(root / "cifar-10-batches-py")
    np.testing.assert_array_equal(found["test_images"], inside["test_images"])


@pytest.mark.parametrize("protocol", [2, 4])
def test_batches_written_by_python_3(root, protocol):
    path = root / "cifar-10-batches-py" / "data_batch_1"
    content = {b"data": pixels(3, 9), b"labels": [1, 2, 3], b"filenames": [b"a.png"]}
    path.write_bytes(pickle.dumps(content, protocol))
    found = read_cifar10(root)
    assert found["train_labels"].tolist()[:3] == [1, 2, 3]
    expected = pixels(3, 9).reshape(3, 3, 32, 32).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(found["train_images"][:3], expected)


class Calls:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("function", "name"), [(os.mkdir, "mkdir"), (eval, "eval"), (np.load, "load"), (getattr, "")]
)
def test_pickles_that_name_a_function_are_refused_and_do_not_run(root, protocol, function, name):
    made = root / "made"
    arguments = {
        "mkdir": (str(made),),
        "eval": (f"__import__('os').mkdir({str(made)!r})",),
        "load": (str(made),),
        "": (made, "name"),
    }[name]
    content = {b"data": pixels(2, 0), b"labels": [0, 1], b"extra": Calls(function, *arguments)}
    path = root / "cifar-10-batches-py" / "data_batch_2"
    path.write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(ValueError, match=rf"data_batch_2 is refused: .*{name}"):
        read_cifar10(root)
    assert not made.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "damaged or no pickle"),
        (b"not a pickle", "damaged or no pickle"),
        (python2_batch(pixels(2, 0), [0, 1])[:-3000], "damaged or no pickle"),
        (pickle.dumps([1]), "no dictionary"),
        (pickle.dumps({b"labels": [1]}, 2), "no data or no labels"),
        (pickle.dumps({b"data": pixels(1, 0), b"fine_labels": [1]}, 2), "no data or no labels"),
        (pickle.dumps({b"data": pixels(2, 0)[:, :9], b"labels": [0, 1]}, 2), "is not a CIFAR-10"),
        (pickle.dumps({b"data": pixels(2, 0) / 2, b"labels": [0, 1]}, 2), "is not a CIFAR-10"),
        (pickle.dumps({b"data": pixels(2, 0), b"labels": [0, b"1"]}, 2), "is not a CIFAR-10"),
        (pickle.dumps({b"data": pixels(2, 0), b"labels": [0]}, 2), "10 train images but 9 train"),
        (pickle.dumps({b"data": pixels(2, 0), b"labels": [0, 10]}, 2), "not all 0 to 9"),
    ],
)
def test_damaged_or_other_pickles_are_refused(root, content, words):
    (root / "cifar-10-batches-py" / "data_batch_5").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        read_cifar10(root)


def test_missing_files(root, tmp_path_factory):
    (root / "cifar-10-batches-py" / "data_batch_3").unlink()
    with pytest.raises(FileNotFoundError, match=r"no data_batch_3 in .*data.download cifar10"):
        read_cifar10(root)
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(FileNotFoundError, match=r"no CIFAR-10 batches and no \.npz"):
        read_cifar10(empty)


def arrays(**changes):
    plain = {
        "train_images": pixels(4, 0).reshape(4, 32, 32, 3),
        "train_labels": np.array([3, 1, 4, 1], np.uint8),
        "test_images": pixels(2, 1).reshape(2, 32, 32, 3),
        "test_labels": np.array([5, 9], np.uint8),
    }
    return {name: value for name, value in {**plain, **changes}.items() if value is not None}


def test_npz_with_and_without_positions(tmp_path):
    path = tmp_path / "part.npz"
    np.savez(path, **arrays())
    found = read_cifar10(path)
    np.testing.assert_array_equal(found["train_images"], arrays()["train_images"])
    assert found["train_labels"].tolist() == [3, 1, 4, 1]
    assert found["train_positions"].tolist() == [0, 1, 2, 3]
    part = {
        "train_batch": np.array([1, 1, 2, 5], np.uint8),
        "train_index": np.array([0, 7, 7, 9999], np.uint16),
        "test_index": np.array([3, 2], np.uint16),
    }
    np.savez(path, **arrays(**part))
    found = read_cifar10(tmp_path)  # the folder serves as well
    assert found["train_positions"].tolist() == [0, 7, 10_007, 49_999]
    assert found["test_positions"].tolist() == [3, 2]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"test_labels": None}, "has no array test_labels"),
        ({"train_labels": np.array([3, 1, 4], np.uint8)}, "4 train images but 3 train labels"),
        ({"test_labels": np.array([3, 10], np.uint8)}, "test labels .* not all 0 to 9"),
        ({"test_images": np.zeros((2, 32, 32, 3))}, r"float64 \[2, 32, 32, 3\]"),
        ({"test_labels": np.array([None, 1])}, "cannot be read as an .npz of plain arrays"),
    ],
)
def test_wrong_npz_is_refused(tmp_path, changes, words):
    np.savez(tmp_path / "a.npz", **arrays(**changes))
    with pytest.raises(ValueError, match=words):
        read_cifar10(tmp_path)


def test_damaged_npz_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", **arrays())
    content = (tmp_path / "a.npz").read_bytes()
    np.save(tmp_path / "b.npy", np.arange(3))
    for damaged in (b"", b"x", content[: len(content) // 2], (tmp_path / "b.npy").read_bytes()):
        (tmp_path / "a.npz").write_bytes(damaged)
        with pytest.raises(ValueError, match="cannot be read"):
            read_cifar10(tmp_path)


@pytest.mark.skipif(not REAL.is_dir(), reason="CIFAR-10 is not here")
def test_real_images():
    found = read_cifar10(REAL)
    # CIFAR-10's first training images: a frog, two trucks, a deer, two automobiles.
    assert found["train_labels"][:6].tolist() == [6, 9, 9, 4, 1, 1]
    # Its channel means, of 1: 0.4914, 0.4822, 0.4465 over all 50,000.
    mean = found["train_images"].mean((0, 1, 2)) / 255
    assert np.abs(mean - [0.4914, 0.4822, 0.4465]).max() < 0.01
    assert len(np.unique(found["train_positions"])) == len(found["train_images"])
