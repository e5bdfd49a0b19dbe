"""A set of labelled images in a format of the Hugging Face library datasets.

    pip install -e '.[huggingface]'
    python -m ddb_jax.main --config=configs/huggingface.py --config.data.root=FOLDER

FOLDER is what `save_to_disk` wrote, a folder of parquet files as on the hub, or an image folder
with metadata.csv (columns file_name, label, perhaps a bias and split), which needs no extra.
Labels are a ClassLabel, texts or whole numbers. Sizes and presets are those of configs/folder.py.
"""

from ml_collections import ConfigDict

from ddb_jax.configs import folder


def get_config(preset: str = "") -> ConfigDict:
    """The settings of configs/folder.py, read from a set of the library datasets."""
    c = folder.get_config(preset)
    c.name = c.name.replace("folder", "huggingface")
    c.data.name = "huggingface"
    c.data.image_column = "image"
    c.data.label_column = "label"
    c.data.bias_column = ""  # of the bias label, where there is one
    # "" is the split of a usual name (train, validation, val, test, ...); validation and test are
    # drawn from train where there is none.
    c.data.train_split = ""
    c.data.validation_split = ""
    c.data.test_split = ""
    return c
