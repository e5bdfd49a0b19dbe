"""The data sets by name: one line each in `RECIPES`, `OPENED` or `ARRAYS`.

Those of RECIPES are image files, those of OPENED are read from files of many images, and those of
ARRAYS are made in memory.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ddb_jax.data.image_check import check_images
from ddb_jax.data.images.decode import Rules
from ddb_jax.data.images.prepare import load_listing
from ddb_jax.data.listing import Files, Listing, complete_splits
from ddb_jax.data.sets.align_conflict import list_align_conflict
from ddb_jax.data.sets.bar import list_bar
from ddb_jax.data.sets.ccifar10 import load_ccifar10
from ddb_jax.data.sets.cmnist import load_cmnist
from ddb_jax.data.sets.csv_table import list_csv
from ddb_jax.data.sets.digits import load_coloured_digits
from ddb_jax.data.sets.huggingface import open_huggingface
from ddb_jax.data.sets.image_folder import list_folder
from ddb_jax.data.sets.imagenet9 import list_imagenet9
from ddb_jax.data.sets.tfds_images import open_tfds
from ddb_jax.data.sets.urbancars import list_urbancars
from ddb_jax.data.sets.waterbirds import list_waterbirds
from ddb_jax.data.source import ArraySource, Dataset, check_dataset
from ddb_jax.runtime.stop import StopFlag


def _root(settings: Any) -> Path:
    return Path(settings.root).expanduser()


def _folder(settings: Any) -> Listing:
    root = _root(settings)
    return list_folder(
        root, name=root.resolve().name, folders_are_classes=settings.folders_are_classes
    )


def _csv(settings: Any) -> Listing:
    path = _root(settings)
    return list_csv(path, name=path.stem)


def _tree(settings: Any) -> Listing:
    return list_align_conflict(
        _root(settings), name=settings.name.removesuffix("_tree"), pct=settings.pct
    )


RECIPES: dict[str, Callable[[Any], Listing]] = {
    "folder": _folder,
    "csv": _csv,
    "bar": lambda s: list_bar(_root(s), pct=s.pct),
    "bffhq": _tree,
    "dogs_and_cats": _tree,
    "cmnist_tree": _tree,
    "ccifar10_tree": _tree,
    "waterbirds": lambda s: list_waterbirds(_root(s)),
    "urbancars": lambda s: list_urbancars(_root(s)),
    "imagenet9": lambda s: list_imagenet9(_root(s), Path(s.imagenet_a_root).expanduser()),
}


def _digits(settings: Any, image_size: int) -> Dataset:
    return load_coloured_digits(
        image_size=image_size,
        aligned_share=settings.aligned_share,
        colour_jitter=settings.colour_jitter,
        validation_share=settings.validation_share,
        test_share=settings.test_share,
        seed=settings.seed,
        reference_share=settings.reference_share,
    )


def _cmnist(settings: Any, image_size: int) -> Dataset:
    return load_cmnist(
        _root(settings),
        image_size,
        conflicting_share=settings.conflicting_share,
        counts=settings.counts,
        severity=settings.severity,
        seed=settings.seed,
    )


def _ccifar10(settings: Any, image_size: int) -> Dataset:
    return load_ccifar10(
        _root(settings),
        image_size,
        conflicting_share=settings.conflicting_share,
        counts=settings.counts,
        severity=settings.severity,
        validation_share=settings.validation_share,
        seed=settings.seed,
        cache_dir=cache_folder(settings),
    )


def _tfds(settings: Any) -> tuple[Listing, dict[str, Any]]:
    """The listing of a tfds set, and where `load_listing` finds its images, which are not files."""
    names = (settings.train_split, settings.validation_split, settings.test_split)
    images = open_tfds(
        settings.tfds_name,
        str(_root(settings)),
        names,
        image_key=settings.image_key,
        label_key=settings.label_key,
        bias_key=settings.bias_key,
    )
    places = {path: (part, i) for part in images.splits.values() for i, path in enumerate(part.ids)}

    def open_image(path: str) -> bytes:
        part, i = places[path]
        return part.image(i)

    listing = Listing(
        name=images.name.replace("/", "_").replace(":", "_"),
        root=_root(settings),
        splits={n: Files(p.ids, p.labels, p.bias) for n, p in images.splits.items()},
        class_names=images.class_names,
        bias_names=images.bias_names,
    )
    return listing, {"open_image": open_image, "content_key": images.content_key}


def _huggingface(settings: Any) -> tuple[Listing, dict[str, Any]]:
    """The listing, and where `load_listing` finds the images if they are not files."""
    images = open_huggingface(
        _root(settings),
        (settings.train_split, settings.validation_split, settings.test_split),
        image_column=settings.image_column,
        label_column=settings.label_column,
        bias_column=settings.bias_column,
    )
    if images.open_image is None:
        return images.listing, {}
    opened = {"open_image": images.open_image, "content_key": images.content_key}
    return images.listing, opened


# Recipes of images that may not be files: the listing, and arguments of `load_listing`.
OPENED: dict[str, Callable[[Any], tuple[Listing, dict[str, Any]]]] = {
    "tfds": _tfds,
    "huggingface": _huggingface,
}

ARRAYS: dict[str, Callable[[Any, int], Dataset]] = {
    "digits": _digits,
    "cmnist": _cmnist,
    "ccifar10": _ccifar10,
}

DATASETS = (*RECIPES, *ARRAYS, *OPENED)


def load_dataset(settings: Any, image_size: int, stop: StopFlag | None = None) -> Dataset:
    """Load and check the data set that `settings.name` names; images are decoded when first seen.

    Args:
        settings: The data section of the config, read by attribute.
        image_size: Side of the images in pixels.
        stop: Asked while images are decoded.

    Raises:
        FileNotFoundError: A file or folder is missing.
        ValueError: There is no such data set, its files are not as they should be, it fails
            `check_dataset`, or its images have a finding that is refused.
        Interrupted: `stop` was set.
    """
    dataset = open_dataset(settings, image_size, stop)
    refused = [finding.sentence for finding in dataset.findings if finding.refused]
    if refused:
        raise ValueError(" ".join([f"{dataset.name}: {refused[0]}", *refused[1:]]))
    return dataset


def open_dataset(settings: Any, image_size: int, stop: StopFlag | None = None) -> Dataset:
    """As `load_dataset`, but what is found in the images refuses nothing."""
    if settings.name not in DATASETS:
        raise ValueError(f"there is no data set {settings.name!r}, there is {', '.join(DATASETS)}.")
    if missing := missing_settings(settings):
        raise ValueError("; ".join(missing) + ".")
    if settings.name in ARRAYS:
        dataset = ARRAYS[settings.name](settings, image_size)
    else:
        opened: dict[str, Any] = {}
        if settings.name in OPENED:
            listing, opened = OPENED[settings.name](settings)
        else:
            listing = RECIPES[settings.name](settings)
        listing = complete_splits(
            listing, settings.validation_share, settings.test_share, settings.seed
        )
        dataset = load_listing(
            listing,
            rules=Rules(image_size, settings.resize, settings.background),
            cache_dir=cache_folder(settings),
            max_broken=settings.max_broken,
            num_threads=settings.num_threads,
            stop=stop,
            **opened,
        )
    check_dataset(dataset)
    findings = check_images(
        dataset, background=settings.background, allow_leaks=settings.allow_leaks
    )
    return replace(
        dataset,
        fingerprint=_fingerprint(dataset),
        findings=findings,
        warnings=(*dataset.warnings, *(f.sentence for f in findings if not f.refused)),
    )


def missing_settings(settings: Any) -> list[str]:
    """Error messages for fields of the data section that are empty but required."""
    missing = []
    if settings.name != "digits" and not settings.root:
        what = {
            "folder": "FOLDER, which holds one folder of images per class",
            "csv": "FILE.csv, a table of paths and labels",
            "tfds": "FOLDER, which holds the prepared sets",
            "huggingface": "FOLDER, of save_to_disk, parquet files or images with metadata.csv",
        }.get(settings.name, f"FOLDER, where {settings.name} is")
        missing.append(f"config.data.root is empty: give --config.data.root={what}")
    if settings.name == "tfds" and not settings.tfds_name:
        missing.append(
            "config.data.tfds_name is empty: give --config.data.tfds_name=NAME, as tfds has it"
        )
    return missing


def cache_folder(settings: Any) -> Path:
    """Where decoded images are kept: `settings.cache`, or the user's cache folder."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = Path(settings.cache).expanduser()
    return cache if settings.cache else home / "ddb_jax" / "data"


def _fingerprint(dataset: Dataset) -> str:
    """Hash of names, paths, labels, biases and pixels; prepared images already have theirs."""
    named = (dataset.class_names, dataset.bias_names, dataset.fingerprint)
    digest = hashlib.sha256(repr(named).encode())
    for source in dataset.splits.values():
        digest.update("\n".join(source.paths).encode(errors="surrogateescape"))
        digest.update(source.labels.tobytes() + source.bias.tobytes())
        if not dataset.fingerprint and isinstance(source, ArraySource):
            digest.update(source.images)
    return digest.hexdigest()[:16]
