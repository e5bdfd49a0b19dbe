"""Eight grey images of three classes, and the folders of the stages that caption them."""

import csv

import numpy as np
from ml_collections import ConfigDict

from ddb_jax.configs import generated_images
from ddb_jax.data.source import ArraySource, Dataset
from ddb_jax.runtime.stop import StopFlag
from ddb_jax.stages.context import Context
from ddb_jax.training.mesh import make_mesh

CLASSES = ("cat", "dog", "owl")
LABELS = np.array([0, 0, 0, 1, 1, 1, 2, 2])
LOSSES = np.array([0.5, 2.0, 1.0, 3.0, 0.25, 9.0, 4.0, 4.0])
PATHS = tuple(f"img/{i}.png" for i in range(8))
# Grey values, image by image.
GREY = np.array([10, 30, 50, 90, 130, 170, 210, 250])


def make_context(tmp_path):
    """The context of a stage; its inputs are empty folders."""
    images = np.broadcast_to(GREY[:, None, None, None], (8, 4, 4, 3)).astype(np.uint8)
    source = ArraySource(images, LABELS, np.full(8, -1), PATHS)
    dataset = Dataset("set", source, source, source, CLASSES)
    config = ConfigDict()
    generated_images.add_sections(config)
    config.extraction.k = 2
    config.captions.per_image = 2
    folders = {name: tmp_path / name for name in ("train_biased", "extract", "caption", "out")}
    for folder in folders.values():
        folder.mkdir()
    out = folders.pop("out")
    mesh = make_mesh(1)
    return Context(config, dataset, mesh, StopFlag(), "stage", 0, out, folders)


def extracted(context, indices):
    """The folder of an extract stage that took these images."""
    rows = [f"{i},{PATHS[i]},{LABELS[i]},1.5" for i in indices]
    text = "\n".join(["index,path,label,loss", *rows, ""])
    (context.inputs["extract"] / "extracted.csv").write_text(text)


def rows_of(path):
    with path.open(newline="") as file:
        return [tuple(row) for row in csv.reader(file)]


def captions_of(context):
    return rows_of(context.folder / "captions.csv")
