"""UrbanCars: urban and country cars, whose background and co-occurring object predict the class.

Two biases at once (Li et al., "A Whac-A-Mole Dilemma", CVPR 2023; code
facebookresearch/Whac-A-Mole, which also makes the images).
"""

from pathlib import Path

from ddb_jax.data.images.files import files_of, find_images
from ddb_jax.data.images.left_out import with_left_out
from ddb_jax.data.listing import Listing

CLASSES = ("urban", "country")

# Bias by (background, co-occurring object), each a class; an image whose two biases both go with
# its class is aligned, every other one is conflicting.
BIAS = {(0, 0): 0, (1, 1): 1, (0, 1): 2, (1, 0): 3}
BIAS_NAMES = tuple(f"{CLASSES[b]} background, {CLASSES[o]} object" for b, o in BIAS)
BIAS_ATTRIBUTES = {
    "background": tuple(background for background, _ in BIAS),
    "co_occurring_object": tuple(item for _, item in BIAS),
}

FOLDERS = {
    "train": "bg-0.95_co_occur_obj-0.95/train",
    "validation": "bg-0.5_co_occur_obj-0.5/val",
    "test": "bg-0.5_co_occur_obj-0.5/test",
}

# Of a class: 4,000 training images, 0.95 * 0.95 of them with both biases; 500 of each other split.
PUBLISHED_COUNTS = {
    "train": {
        "total": 8_000,
        "aligned": 7_220,
        "conflicting": 780,
        "urban": 4_000,
        "country": 4_000,
    },
    "validation": {"total": 1_000, "urban": 500, "country": 500},
    "test": {"total": 1_000, "urban": 500, "country": 500},
}


def list_urbancars(root: Path) -> Listing:
    """List the images of the eight folders `obj-<o>_bg-<b>_co_occur_obj-<c>` of each split.

    Masks, `*_mask.png`, are no images of the set.

    Args:
        root: Folder with bg-0.95_co_occur_obj-0.95/ and bg-0.5_co_occur_obj-0.5/.

    Raises:
        FileNotFoundError: A folder is missing.
        ValueError: A folder has no images.
    """
    root = Path(root)
    splits, others = {}, []
    for split, folder in FOLDERS.items():
        rows = []
        for label, car in enumerate(CLASSES):
            for (background, item), bias in BIAS.items():
                group = f"obj-{car}_bg-{CLASSES[background]}_co_occur_obj-{CLASSES[item]}"
                found, left_out = find_images(root, f"{folder}/{group}")
                images = [path for path in found if not path.endswith("_mask.png")]
                if not images:
                    raise ValueError(f"{root / folder / group} has no images: make the set again.")
                rows += [(path, label, bias) for path in images]
                others += left_out
        splits[split] = files_of(rows)
    listing = Listing(
        "urbancars",
        root,
        splits,
        CLASSES,
        BIAS_NAMES,
        bias_attributes=BIAS_ATTRIBUTES,
        published_counts=PUBLISHED_COUNTS,
    )
    return with_left_out(listing, others)
