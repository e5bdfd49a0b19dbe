"""A shard of the cache whose verdict is damaged is made again, with the same content."""

import json

import numpy as np
import pytest

from ddb_jax.data.images.cache import divide, fill

PATHS = ("a", "b", "c")
BROKEN = {"b": "no image"}


def decode(path):
    if path == "b":
        return ValueError("no image")
    return np.full((2, 2, 3), ord(path), np.uint8)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"7", b"null", b"{}", b"\xff\x00", b'{"broken": {}}', b'{"bytes": 1}',
        b'{"bytes": null, "broken": {}, "sha256": ""}',
    ],
)  # fmt: skip
def test_a_damaged_verdict(content, tmp_path):
    shards = divide(tmp_path, PATHS, 12)
    assert fill(shards, decode, title="t", num_threads=1) == BROKEN
    whole = json.loads(shards[0].verdict_file.read_text())
    shards[0].verdict_file.write_bytes(content)
    assert shards[0].verdict() is None
    assert fill(shards, decode, title="t", num_threads=1) == BROKEN
    assert json.loads(shards[0].verdict_file.read_text()) == whole


def test_a_verdict_whose_list_of_broken_images_is_none(tmp_path):
    shards = divide(tmp_path, PATHS, 12)
    fill(shards, decode, title="t", num_threads=1)
    known = json.loads(shards[0].verdict_file.read_text())
    shards[0].verdict_file.write_text(json.dumps(known | {"broken": 3}))
    assert shards[0].verdict() is None
