"""Parts of an unfinished stage that were damaged since: they are made again, and it is said."""

import json

import numpy as np
import pytest

from ddb_jax.runtime.files import save_array
from ddb_jax.stages.common.sampled_set import _finite_path, _is_whole
from ddb_jax.stages.generated.caption import _texts_so_far


def test_captions_so_far(tmp_path):
    path = tmp_path / "captions_so_far.json"
    assert _texts_so_far(path, 3) == []
    path.write_text(json.dumps([["a"], ["b"]]))
    assert _texts_so_far(path, 3) == [["a"], ["b"]]
    assert _texts_so_far(path, 1) == [["a"]]


@pytest.mark.parametrize("content", [b"", b'[["a"], [', b"{}", b'"a"', b"\xff"])
def test_damaged_captions_so_far(content, tmp_path, caplog):
    path = tmp_path / "captions_so_far.json"
    path.write_bytes(content)
    assert _texts_so_far(path, 3) == []
    assert f"{path} is damaged (it " in caplog.text
    assert "all images are captioned" in caplog.text


def test_a_shard_is_whole_with_its_verdicts(tmp_path, caplog):
    shard = tmp_path / "images-00000-of-00001.arrayrecord"
    assert not _is_whole(shard)
    shard.write_bytes(b"x")
    save_array(_finite_path(shard), np.array([True, False]))
    assert _is_whole(shard)
    assert not caplog.records


@pytest.mark.parametrize("content", [None, b"", b"\x93NUMPY\x01\x00v\x00", b"text"])
def test_a_shard_without_its_verdicts_is_drawn_again(content, tmp_path, caplog):
    shard = tmp_path / "images-00000-of-00001.arrayrecord"
    shard.write_bytes(b"x")
    if content is not None:
        _finite_path(shard).write_bytes(content)
    assert not _is_whole(shard)
    assert f"the images of {shard} are drawn again" in caplog.text
