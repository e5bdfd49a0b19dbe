"""ImageNet-9: nine groups of ImageNet classes to learn, tested on ImageNet-A.

The protocol is that of ReBias (Bahng et al., ICML 2020; code clovaai/rebias). It picks 42 classes
by their number in ImageNet: 151 207 234 235 254, 281-285, 30-32, 33-37, 89 90 94 96 97, 372-375
378, 393-397, 118-121, 306-310. Here they are picked by the WordNet ids of these numbers, which are
also the 42 that it maps in ImageNet-A. ImageNet-A (Hendrycks et al., CVPR 2021) as published has
only 21 of them, and no crab.
"""

import os
from pathlib import Path

from ddb_jax.data.images.files import (
    files_of,
    find_images,
    subfolders,
)
from ddb_jax.data.images.left_out import with_left_out
from ddb_jax.data.listing import Listing

WORDNET_IDS = {
    "dog": ("n02085620", "n02099601", "n02106550", "n02106662", "n02110958"),
    "cat": ("n02123045", "n02123159", "n02123394", "n02123597", "n02124075"),
    "frog": ("n01641577", "n01644373", "n01644900"),
    "turtle": ("n01664065", "n01665541", "n01667114", "n01667778", "n01669191"),
    "bird": ("n01819313", "n01820546", "n01833805", "n01843383", "n01847000"),
    "monkey": ("n02486410", "n02487347", "n02488291", "n02488702", "n02492035"),
    "fish": ("n02607072", "n02640242", "n02641379", "n02643566", "n02655020"),
    "crab": ("n01978287", "n01978455", "n01980166", "n01981276"),
    "insect": ("n02174001", "n02177972", "n02190166", "n02206856", "n02219486"),
}
CLASSES = tuple(WORDNET_IDS)
LABELS = {wnid: label for label, ids in enumerate(WORDNET_IDS.values()) for wnid in ids}
# ImageNet has 50 validation images of every class.
VALIDATION_COUNTS = {c: 50 * len(ids) for c, ids in WORDNET_IDS.items()}


def list_imagenet9(imagenet_root: Path, imagenet_a_root: Path) -> Listing:
    """List the 42 classes: train and validation from ImageNet, test from ImageNet-A.

    Bias labels do not exist.

    Args:
        imagenet_root: Folder with `train/<WordNet id>/*`, and perhaps `val/<WordNet id>/*`; ids
            other than the 42 are not read.
        imagenet_a_root: Folder with `<WordNet id>/*`; some of the 42 may be missing.

    Raises:
        FileNotFoundError: A folder is missing.
        ValueError: A folder of ImageNet has no images, or ImageNet-A none of the 42.
    """
    imagenet, imagenet_a = (Path(os.path.abspath(p)) for p in (imagenet_root, imagenet_a_root))
    root = Path(os.path.commonpath((imagenet, imagenet_a)))
    folders = {"train": imagenet / "train", "validation": imagenet / "val", "test": imagenet_a}
    if "val" not in subfolders(imagenet):
        del folders["validation"]
    splits, others = {}, []
    for split, folder in folders.items():
        ids = sorted(set(LABELS) & set(subfolders(folder)))
        if split != "test" and len(ids) < len(LABELS):
            missing = sorted(set(LABELS) - set(ids))
            raise FileNotFoundError(
                f"{folder} has {len(ids)} of the {len(LABELS)} folders that are needed, not for"
                f" example {missing[0]}: sort ImageNet's images into one folder per WordNet id."
            )
        if not ids:
            raise ValueError(
                f"{folder} has none of the {len(LABELS)} folders of ImageNet-9: give the folder of"
                " ImageNet-A."
            )
        rows = []
        for wnid in ids:
            images, left_out = find_images(root, (folder / wnid).relative_to(root).as_posix())
            if not images:
                raise ValueError(f"{folder / wnid} has no images: unpack its archive again.")
            rows += [(path, LABELS[wnid], -1) for path in images]
            others += left_out
        splits[split] = files_of(rows)
    # ids is ImageNet-A's, which comes last.
    absent = [c for label, c in enumerate(CLASSES) if label not in splits["test"].labels]
    note = f"The folder of ImageNet-A has {len(ids)} of the {len(LABELS)} folders of ImageNet-9"
    note += f", and no image of class {', '.join(absent)}." if absent else "."
    published = {"validation": {"total": sum(VALIDATION_COUNTS.values()), **VALIDATION_COUNTS}}
    listing = Listing(
        "imagenet9",
        root,
        splits,
        CLASSES,
        notes=(note,),
        published_counts=published if "validation" in splits else {},
    )
    return with_left_out(listing, others)
