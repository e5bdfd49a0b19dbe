"""What the tests of Hugging Face sets share: images as files, and a folder with metadata.csv."""

import io

import numpy as np
import pytest
from PIL import Image

from ddb_jax.data.sets.huggingface import open_huggingface

LABELS = {"train": [0, 2, 0, 2, 2], "test": [2, 0]}
PLACES = {"train": ["sea", "land", "sea", "land", None], "test": ["sea", "land"]}
NAMES = ["cow", "horse", "camel"]  # no image shows a horse
COLUMNS = {"label_column": "animal", "bias_column": "place"}


def pixels(split, row):
    rng = np.random.default_rng([len(split), row])
    return rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "png")
    return buffer.getvalue()


def decoded(content):
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)


def refused(root, **settings):
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        open_huggingface(root, **settings)
    assert "\n" not in str(error.value) and str(root) in str(error.value)
    return str(error.value)


def write_folder(root):
    """An image folder with a metadata.csv in every split, as the hub's documentation shows it."""
    for split, labels in LABELS.items():
        for row in range(len(labels)):
            file = root / split / "images" / f"{row}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(png(pixels(split, row)))
        lines = [
            f"images/{row}.png,{NAMES[label]},{place or ''}"
            for row, (label, place) in enumerate(zip(labels, PLACES[split], strict=True))
        ]
        (root / split / "metadata.csv").write_text("file_name,animal,place\n" + "\n".join(lines))
