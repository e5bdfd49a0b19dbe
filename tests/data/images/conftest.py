"""A listing of small images, and its loading."""

import numpy as np
import pytest
from decoded_listing import PATHS, SIZE, SPLITS, pixels
from PIL import Image

from ddb_jax.data.images import cache as image_cache
from ddb_jax.data.images import prepare
from ddb_jax.data.images.decode import Rules
from ddb_jax.data.listing import Files, Listing


@pytest.fixture
def listing(tmp_path):
    root = tmp_path / "images"
    for path in PATHS:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(path)).save(root / path)
    splits = {
        split: Files(paths, np.arange(len(paths)) % 2, np.arange(len(paths)) % 3 - 1)
        for split, paths in SPLITS.items()
    }
    return Listing("toy", root, splits, ("no", "yes"), ("left", "right"), notes=("a note.",))


@pytest.fixture
def load(listing, tmp_path, monkeypatch):
    """load_listing of three images a shard; `load.decoded` counts the calls of decode_image."""
    monkeypatch.setattr(image_cache, "SHARD_IMAGES", 3)
    decode = prepare.decode_image

    def counted(*args):
        load.decoded += 1
        return decode(*args)

    monkeypatch.setattr(prepare, "decode_image", counted)

    def load(listing=listing, **options):
        load.decoded = 0
        rules = Rules(
            **{
                name: options.pop(name, value)
                for name, value in (
                    ("image_size", SIZE),
                    ("resize", "none"),
                    ("background", "white"),
                )
            }
        )
        return prepare.load_listing(
            listing,
            **{"rules": rules, "num_threads": 2, "cache_dir": tmp_path / "cache", **options},
        )

    return load
