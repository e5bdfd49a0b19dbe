"""Reading what the synthesis stage wrote, as the stages after it do."""

from pathlib import Path

from ddb_jax.data.image_records import load_records
from ddb_jax.data.source import ArraySource
from ddb_jax.training.errors import UserError
from ddb_jax.training.files import read_json


def load_synthetic(folder: Path, image_shape: tuple[int, int, int]) -> ArraySource:
    """All synthetic images, in memory; their label is the class they were drawn for.

    Raises:
        UserError: A shard is missing or damaged.
    """
    shards = read_json(folder / "manifest.json")["shards"]
    try:
        return load_records([folder / name for name in shards], image_shape)
    except (OSError, ValueError) as error:
        raise UserError(f"{error}; remove {folder} to draw the images again.") from error
