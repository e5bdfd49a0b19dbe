"""A shard of the cache whose record is damaged is made again, with the same content."""

import json

import numpy as np
import pytest

from ddb_jax.data.images import cache
from ddb_jax.data.images.cache import divide
from ddb_jax.data.images.decode import DecodedImage
from ddb_jax.data.images.shard_record import Originals, Read

PATHS = ("a", "b", "c")
BROKEN = {"b": "no image"}


HISTOGRAM = [4, *[0] * 255] * 3


def read(path):
    if path == "b":
        return Read(ValueError("no image"))
    pixels = np.zeros((2, 2, 3), np.uint8)
    return Read(DecodedImage(pixels, HISTOGRAM, "", 2, 2, "RGB", False, -1, -1))


def fill(shards):
    records = cache.fill(shards, Originals(read), grey_bits=16, title="t", num_threads=1)
    return {path: reason for record in records for path, reason in record.broken.items()}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"7", b"null", b"{}", b"\xff\x00", b'{"broken": {}}', b'{"bytes": 1}',
        b'{"bytes": null, "broken": {}, "sha256": ""}',
    ],
)  # fmt: skip
def test_a_damaged_record(content, tmp_path):
    shards = divide(tmp_path, PATHS, 12)
    assert fill(shards) == BROKEN
    whole = json.loads(shards[0].record_file.read_text())
    shards[0].record_file.write_bytes(content)
    assert shards[0].record() is None
    assert fill(shards) == BROKEN
    assert json.loads(shards[0].record_file.read_text()) == whole


def test_a_record_whose_list_of_broken_images_is_none(tmp_path):
    shards = divide(tmp_path, PATHS, 12)
    fill(shards)
    known = json.loads(shards[0].record_file.read_text())
    shards[0].record_file.write_text(json.dumps(known | {"broken": 3}))
    assert shards[0].record() is None
