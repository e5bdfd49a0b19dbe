"""Headers and 8-bit floats of safetensors files."""

import json
import re

import ml_dtypes
import numpy as np
import pytest

from ddb_jax.models.safetensors_file import open_tensors
from ddb_jax.models.state_dict import read_safetensors

# Numbers of both formats; 448 is the largest of e4m3, and 1.75 * 2^8.
VALUES = [1.0, -1.5, 448.0, 0.015625, 0.0, 2.0]
BYTES = {
    "F8_E4M3": bytes([0x38, 0xBC, 0x7E, 0x08, 0x00, 0x40]),
    "F8_E5M2": bytes([0x3C, 0xBE, 0x5F, 0x24, 0x00, 0x40]),
}


def safetensors(entries):
    """A file of (name, dtype, shape, bytes), by the format's description."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, dtype, shape, raw in entries:
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        data += raw
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize("dtype", BYTES)
def test_8_bit_floats_are_read(dtype, tmp_path):
    path = tmp_path / "w.safetensors"
    first = np.arange(3, dtype="<f4")
    path.write_bytes(
        safetensors([("a", "F32", [3], first.tobytes()), ("b", dtype, [2, 3], BYTES[dtype])])
    )
    with open_tensors(path) as tensors:
        assert tensors.names() == ["a", "b"]
        assert tensors.shape("b") == (2, 3)
        assert tensors.dtype("b") == dtype
        np.testing.assert_array_equal(tensors.read("a"), first)
        b = tensors.read("b")
    assert b.dtype == np.float32
    np.testing.assert_array_equal(b, np.reshape(VALUES, (2, 3)))


def test_every_8_bit_number_is_the_one_that_ml_dtypes_has(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(safetensors([("a", "F8_E4M3", [256], bytes(range(256)))]))
    with open_tensors(path) as tensors:
        a = tensors.read("a")
    expected = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    np.testing.assert_array_equal(a, expected)


def test_pretrained_weights_may_be_8_bit(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(safetensors([("a", "F8_E4M3", [6], BYTES["F8_E4M3"])]))
    with path.open("rb") as file:
        np.testing.assert_array_equal(read_safetensors(file)["a"], np.float32(VALUES))


WHOLE = safetensors([("a", "F32", [100], bytes(400))])
DAMAGED = {
    "cut": (WHOLE[:-1], f"is cut short: it has {len(WHOLE) - 1} of its {len(WHOLE)} bytes"),
    "cut_in_header": (WHOLE[:40], "is cut short at 40 bytes, inside its header: get it again"),
    "no_json": (b"\5" + bytes(7) + b"{abc}" + bytes(9), "cannot be read as safetensors ("),
    "text": (b"not found", "cannot be read as safetensors ("),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "is a git-lfs pointer, not the"),
    "zip": (b"PK\x03\x04" + bytes(30), "is a zip archive that is cut short: get it again"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damage_is_said(case, tmp_path):
    content, words = DAMAGED[case]
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{path} {words}")), open_tensors(path):
        pass


def test_an_unreadable_dtype_is_named(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(safetensors([("a", "F8_E8M0", [4], bytes(4))]))
    with (
        open_tensors(path) as tensors,
        pytest.raises(ValueError, match="holds a as F8_E8M0, which is not read"),
    ):
        tensors.read("a")
