"""Waterbirds: birds of CUB on land or water backgrounds (Sagawa et al., ICLR 2020).

Its metadata.csv is that of the code kohpangwei/group_DRO.
"""

from pathlib import Path

from ddb_jax.data.images.files import check_classes, files_of
from ddb_jax.data.listing import Listing
from ddb_jax.data.table_file import image_files, read_table

CLASSES = ("landbird", "waterbird")
BACKGROUNDS = ("land", "water")
SPLITS = {"0": "train", "1": "validation", "2": "test"}

# Of every class and background, in the order landbird on land, on water, waterbird on land, ...
TRAIN_GROUPS = (3_498, 184, 56, 1_057)
TEST_GROUPS = (2_255, 2_255, 642, 642)
VALIDATION_TOTAL = 1_199


def list_waterbirds(root: Path) -> Listing:
    """List the images that metadata.csv names, by its columns img_filename, y, place and split.

    Label y: 0 landbird, 1 waterbird. Bias place: 0 land, 1 water. The labels are the published
    ones, with the species that are known to be on the wrong side.

    Args:
        root: The folder waterbird_complete95_forest2water2.

    Raises:
        FileNotFoundError: There is no metadata.csv, or an image is missing.
        ValueError: A column is missing, an image comes twice, or a value is not one of these.
    """
    root = Path(root)
    path = root / "metadata.csv"
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no metadata.csv in {root}: give the folder"
            " waterbird_complete95_forest2water2."
        )
    rows = {split: [] for split in SPLITS.values()}
    table = read_table(path, ("img_filename", "y", "place", "split"))
    images = image_files(path, table, "img_filename", "download the set again.")
    for (line, row), image in zip(table, images, strict=True):
        for column, allowed in (("y", "01"), ("place", "01"), ("split", "012")):
            if row[column] not in tuple(allowed):
                raise ValueError(
                    f"line {line} of {path} has {column} {row[column]!r}: it must be"
                    f" {', '.join(allowed[:-1])} or {allowed[-1]}."
                )
        rows[SPLITS[row["split"]]].append((image, int(row["y"]), int(row["place"])))
    return check_classes(
        Listing(
            "waterbirds",
            root,
            {split: files_of(of_split) for split, of_split in rows.items()},
            CLASSES,
            BACKGROUNDS,
            published_counts={
                "train": _counts(*TRAIN_GROUPS),
                "validation": {"total": VALIDATION_TOTAL},
                "test": _counts(*TEST_GROUPS),
            },
        )
    )


def _counts(land_land: int, land_water: int, water_land: int, water_water: int) -> dict[str, int]:
    """Published counts from those of the groups, bird first."""
    return {
        "total": land_land + land_water + water_land + water_water,
        "aligned": land_land + water_water,
        "conflicting": land_water + water_land,
        "landbird": land_land + land_water,
        "waterbird": water_land + water_water,
    }
