"""State dicts in every format; damaged files are named, and pickles that do more are refused.

The comparison with PyTorch skips without it.
"""

import base64
import io
import json
import os
import pickle
import struct
import zipfile
import zlib

import jax.numpy as jnp
import numpy as np
import pytest

from ddb_jax.models.pretrained import read_state_dict
from ddb_jax.models.state_dict import StateDictUnpickler

# PyTorch 2.13's torch.save, in its zip format and in that before PyTorch 1.6, of
#   weight = arange(6.).reshape(2, 3).t(), tail = the last two elements of the same storage,
#   half = [1.5, -2] in float16, brain = [0.5, 3] in bfloat16, parameter = Parameter([7.]),
#   count = 3 (int64, no axes).
TORCH_ZIP = (
    "eNqlVc9v01Ycf3ESJ3VHf43RUlgZv1MoqX/kJ2xrZ00WkpEoQUgRl8xNTGzNjft1Xlptp0pTGdtpoB44IY5c2HW7TPAv"
    "cADtwAFp0qaJA/8C79mtsR9KC6mV5xc77/Pj67zvx0t6MoVQNoveO8bQBDK8pmWvmfMtAxv51e8dTR1BN2PHBtdsuo5j"
    "NrHtdrrCVa9lembrW7uJBUCzNUjk6jwhWzfttoWBa2KXUOYbPWw7XaHhmcs922k1sNnpul5jTRYgmcvVMwTRJSuNtgmp"
    "ACJojmvg68FNAdL1BFkjAl9Pkrm52oOMzmPIXtORntS52zCkJ/TkbRB+saiLYQyf1OBAnZSKsGE7MGIRHStlpS3e8pGj"
    "1/SUzm3CmJ7YhPEANYHh0xoc9FGW4dyCzwLUtqPL5FZo6JBvSIJJQsdhmKJGCN1hSjcd0B3BcLQGn9fTZOGyZ9gdmInx"
    "qX6JUinkPOZzyvBFwHl8m/ME5TwZcJ7CcLoGZ+pDZOGq4RkrJjY9ONvnMYcrBMjtPABfQ4FZopHAcI5qEPrz9DQXaFzA"
    "kK/B/B3/QvwZpBrIfhFNt9fBoMSKuOJ22mEBBZ+8AMWAvETIZ2cD0jKGSg2qvfySnslWx7YOfMMhRMdS3w05iS6GGzJ/"
    "y/VWDNxYM70u2XiaWmL25YceEtX/483Ln6hTOvrrT6PyO/3t7dkwHLvdWTE7WFOVQSyUCtTAwjr8T2pH3K4GxtFCaGD5"
    "B2y6tNk09dKApfuHY2PsmNTD5lf/HKatyu/qYQR9HUuFeVFTL+7DQMC6sUBOi+RDxgYZDxepo8nf/rs7RX6Y2sPRXNyR"
    "pKm5D3ZEynlKtUrPn2/RPk/tobUY15I19cv9PP6baGHRr/VU98WdAfSVfeujV77+dyv/Dg2gX9ivfnKbmXr49e/Hr6lo"
    "dlcPo+hS6CFs//KgJhSBKj970L6xd//NIPldAPjld03PJgnwo0Hffg27pan5jzQiisWiVBWlSlGRRaVYFcuVslgtV8SK"
    "WKoUyopckiWFTNTlXzO/38gRHznfZYKaDX1GI3TsPefse5xFRwNwMoa8y6F+ocuSRENsOh5cSbRLcrI80SAaj/Hci/CE"
    "AcjCo6kxEoMfSiEmu1hsNAXi2EcsVmKx0Q6OYw+mGazMYqPdF8dusViFxUa7htHlGWyBxUb3/WgMez+C7fN/R7fjTAw8"
    "kUF7NMqSzvNzO22VvBAih5n5CRfMf2Z2YoL3v60LwXXwxk7zAWbYXx+sfQvMAWzX"
)
TORCH_LEGACY = (
    "eNp1k0tv00AQx/1KSg0t5U15tjwdHiFxHMfhQCNUVUimQM3FF2S5zhIbGTtjr4tAqpRLS+EzcODIx+CjcOUjIHFg1jaB"
    "CGN5197x7P83MzueCB/l8OenjR8rr748W25OhM3vIs67wCn2Esdx4ySmsReHzg5J0iCOgEcHewG/hAGlIXFINAzcCIQD"
    "W0YjfTsmThq8IymIuyApdg2NqR8nFGqmYIu4CiIKdVOyJaYRRyOYM6UsQ6aHmJB4FCmp/DQZkoQM1wOPysA1LOAVu447"
    "3pBg5FMQPBonnt90MhqEqewkZDsLwqFDSZTGibOjyiAqij3H6OjpjghIxRZ5I4xd+rwwylCzF9Gnr7X1Vk9rq71Oq6tD"
    "PQ/UG2cYW/0JhUNbJmeKprAP8yZvivsgf/BZTIcpHLFgIU+FukEIiz5SfcmvVD3qF2pLW6ZkCntwzOT34HihdILCSQtO"
    "5Uq+G76E04VSGfMjNE1DPvNHXO9qhtHv6gacRXEBxZdZqCh+jomfL8QvULhowaX8LLYTN4jg8oz6w7wkbX1KWJkh9HW1"
    "ZbRgtSRcKQlXGeFaQbhO4YYFN+151jFu4r4mlCSg/OeQph4yNP4tGCN2tF5XhVtI5JF4mxERdodNdwtik8I9C1oH+aL9"
    "HlQLOnmCXpxhg2kzCT7GNpsm151FqaqhGaCXqB6iGo0CYVDoW3CfteYL9jtUVJ2v0hKqchGrSipVtUmNNAWuvB5wX/ny"
    "VSyfv9cc920w9VsbDOrc39dkDacB3jgmOD4PfgFTwfq2"
)
SAVED = {
    "weight": np.array([[0, 3], [1, 4], [2, 5]], np.float32),
    "tail": np.array([4, 5], np.float32),
    "half": np.array([1.5, -2], np.float32),
    "brain": np.array([0.5, 3], np.float32),
    "parameter": np.array([7], np.float32),
    "count": np.array(3, np.int64),
}


def assert_same(read, expected):
    assert set(read) == set(expected)
    for name, value in expected.items():
        assert (read[name].dtype, read[name].shape) == (value.dtype, value.shape), name
        np.testing.assert_array_equal(read[name], value, name)


def write(path, data):
    path.write_bytes(data)
    return path


def pth(blob):
    return zlib.decompress(base64.b64decode(blob))


def safetensors(tensors):
    """The bytes of a file: name -> (dtype, shape, data)."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, (dtype, shape, raw) in tensors.items():
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        data += raw
    header = json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + data


@pytest.mark.parametrize("blob", [TORCH_ZIP, TORCH_LEGACY], ids=["zip", "legacy"])
def test_reads_what_pytorch_wrote(blob, tmp_path):
    assert_same(read_state_dict(write(tmp_path / "w.pth", pth(blob))), SAVED)


def test_reads_npz_and_safetensors(tmp_path):
    half, brain = np.array([1.5, -2], np.float16), np.array([0.5, 3], jnp.bfloat16)
    expected = {
        "half": half.astype(np.float32),
        "brain": np.array([0.5, 3], np.float32),
        "matrix": np.array([[1, 2, 3], [4, 5, 6]], np.float32),
        "count": np.array(3),
    }
    np.savez(
        tmp_path / "w.npz", half=half, brain=brain, matrix=expected["matrix"], count=np.array(3)
    )
    assert_same(read_state_dict(tmp_path / "w.npz"), expected)

    data = safetensors(
        {
            "half": ("F16", [2], b"\x00\x3e\x00\xc0"),
            "brain": ("BF16", [2], b"\x00\x3f\x40\x40"),
            "matrix": ("F32", [2, 3], struct.pack("<6f", 1, 2, 3, 4, 5, 6)),
            "count": ("I64", [], struct.pack("<q", 3)),
        }
    )
    assert_same(read_state_dict(write(tmp_path / "w.safetensors", data)), expected)


@pytest.mark.parametrize(
    "state",
    [b"(I01\nI00\nNt", b"(cIGNORED\nI01\nI00\nNt"],
    ids=["tensor as the argument", "tensor in the state"],
)
def test_parameters_of_the_oldest_files(state):
    # Protocol 0: Parameter(7), then its state; or Parameter() with (7, ...) of five as the state.
    call = b"(I7\ntR"
    if b"IGNORED" in state:
        call, state = b"(tR", b"(I7\nI00\nNI01\nI00\nt"
    pickled = b"ctorch.nn.parameter\nParameter\n" + call + state + b"b."
    assert StateDictUnpickler(io.BytesIO(pickled), None).load().data == 7


class Evil:
    """Calls a function when unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("packed", ["zip", "legacy"])
@pytest.mark.parametrize(
    ("function", "name"),
    [(os.system, "system"), (eval, "eval"), (np.load, "numpy.load")],
    ids=["system", "eval", "load"],
)
def test_a_pickle_that_calls_anything_else_is_refused_and_not_run(packed, function, name, tmp_path):
    marker = tmp_path / "marker"
    argument = {
        os.system: f"touch {marker}",
        eval: f"open({str(marker)!r}, 'w').close()",
        np.load: str(marker),
    }[function]
    pickled = pickle.dumps({"fc.weight": Evil(function, argument)}, protocol=2)
    data = zip_bytes("archive/data.pkl", pickled) if packed == "zip" else pickled
    path = write(tmp_path / "w.pth", data)
    with pytest.raises(ValueError, match=rf"w\.pth is refused: its pickle asks for .*{name}, "):
        read_state_dict(path)
    assert not marker.exists()
    if function is not np.load:
        pickle.loads(pickled)  # the attack is real: the standard unpickler runs it
        assert marker.exists()


def test_tensors_cannot_look_outside_their_storage():
    rebuild = StateDictUnpickler(io.BytesIO(), None).rebuild_tensor
    storage = np.arange(4, dtype=np.float32)
    np.testing.assert_array_equal(rebuild(storage, 1, (3,), (1,), False, {}), [1, 2, 3])
    for offset, shape, strides in (
        (2, (3,), (1,)),  # past the end
        (0, (3,), (2,)),
        (0, (2,), (-1,)),  # before the start
        (-1, (2,), (1,)),
        (0, (10**15,), (0,)),  # one element, repeated until the memory is full
    ):
        with pytest.raises((ValueError, TypeError)):
            rebuild(storage, offset, shape, strides)


def npz_bytes(**tensors):
    file = io.BytesIO()
    np.savez(file, **tensors)
    return file.getvalue()


def zip_bytes(name, data):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, data)
    return file.getvalue()


WHOLE = {
    "zip.pth": lambda: pth(TORCH_ZIP),
    "legacy.pth": lambda: pth(TORCH_LEGACY),
    "w.npz": lambda: npz_bytes(a=np.arange(100.0), b=np.arange(100.0)),
    "w.safetensors": lambda: safetensors({"a": ("F32", [100], bytes(400))}),
}


@pytest.mark.parametrize("name", WHOLE)
def test_truncated_files_are_named(name, tmp_path):
    data = WHOLE[name]()
    read_state_dict(write(tmp_path / name, data))
    for length in (1, 7, 60, len(data) // 2, len(data) - 1):
        with pytest.raises(ValueError, match=rf"{name} is damaged or not a \.\w+ file: .+") as e:
            read_state_dict(write(tmp_path / name, data[:length]))
        assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("w.npz", npz_bytes(a=np.array([{}])), "Object arrays cannot be loaded"),
        ("w.safetensors", safetensors({"a": ("F32", [3], bytes(8))}), "invalid shape"),
        ("w.safetensors", safetensors({"a": ("F32", [-2], bytes(8))}), "invalid value: .*-2"),
        ("w.safetensors", safetensors({"a": ("F9", [2], bytes(8))}), "unknown variant `F9`"),
        ("w.safetensors", struct.pack("<Q", 2**60) + b"{}", "header too large"),
        ("w.pth", pickle.dumps({"a": 1}), "does not begin as a file of torch.save"),
        ("w.pth", npz_bytes(a=np.arange(3)), "without a data.pkl"),
        ("w.pth", zip_bytes("archive/data.pkl", pickle.dumps([1])), "it holds a list, not a state"),
        ("w.pth", zip_bytes("archive/data.pkl", pickle.dumps({"a": 1})), "'a' is not a tensor"),
        ("w.npz", npz_bytes(a=np.array("text")), "entry 'a' is not a tensor"),
        ("w.h5", b"", r"read from \.pth, \.pt, \.safetensors, \.npz files"),
    ],
)
def test_other_content_is_named(name, data, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read_state_dict(write(tmp_path / name, data))


@pytest.mark.parity
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("wrapper", [None, "state_dict"])
def test_reads_what_this_pytorch_writes(legacy, wrapper, tmp_path):
    torch = pytest.importorskip("torch")
    tensors = {
        "a": torch.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1)[1:],
        "b": torch.nn.Parameter(torch.tensor([0.1, 1e30])),
        "c": torch.tensor([[-1.5]], dtype=torch.bfloat16),
        "d": torch.tensor(4),
        "e": torch.zeros(0, 3),
    }
    saved = {wrapper: tensors, "epoch": 3} if wrapper else tensors
    torch.save(saved, tmp_path / "w.pt", _use_new_zipfile_serialization=not legacy)
    expected = {
        k: v.detach().float().numpy() if v.is_floating_point() else v.numpy()
        for k, v in tensors.items()
    }
    assert_same(read_state_dict(tmp_path / "w.pt"), expected)
