"""Images named in a CSV file with columns path, label and, where known, split and bias.

    python -m ddb_jax.main --config=configs/csv.py --config.data.root=FILE.csv

The file is UTF-8, separated by commas. Paths are relative to it; labels are names or integers;
split is train, val or test. A bias that is empty, or says "nan", "unknown" or the like, is unknown;
so is -1, unless all are -1 or 1. A label of that kind is refused: give a class that means it
another name. Without bias labels leave the oracles out, as here. Sizes and presets are those of
configs/folder.py.
"""

from ml_collections import ConfigDict

from ddb_jax.configs import folder


def get_config(preset: str = "") -> ConfigDict:
    """The settings of configs/folder.py, read from a CSV file."""
    c = folder.get_config(preset)
    c.name = c.name.replace("folder", "csv")
    c.data.name = "csv"
    return c
