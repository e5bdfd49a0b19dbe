"""Images named in a CSV file with columns path, label and, where known, split and bias.

    python -m ddb_jax.main --config=configs/csv.py --config.data.root=FILE.csv

Paths are relative to the file; labels are names or integers; split is train, val or test; an empty
bias is unknown. Without bias labels leave the oracles out, as here. Sizes and presets are those of
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
