"""Any prepared tensorflow-datasets set of labelled images, read without TensorFlow.

    pip install -e '.[tfds]'
    python -m ddb_jax.main --config=configs/tfds.py --config.data.root=~/tensorflow_datasets \
        --config.data.tfds_name=cifar10

The set must have been prepared with file_format="array_record", which needs TensorFlow once:
`tfds build cifar10 --file_format=array_record`. Sizes and presets are those of configs/folder.py.
"""

from ml_collections import ConfigDict

from ddb_jax.configs import folder


def get_config(preset: str = "") -> ConfigDict:
    """The settings of configs/folder.py, read from a tfds folder."""
    c = folder.get_config(preset)
    c.name = c.name.replace("folder", "tfds")
    c.data.name = "tfds"
    c.data.tfds_name = ""  # "cifar10", or "name/config:1.0.0"
    c.data.train_split = "train"
    c.data.validation_split = ""  # "" takes validation_share of train
    c.data.test_split = "test"  # "" takes test_share of train
    c.data.image_key = "image"
    c.data.label_key = "label"
    c.data.bias_key = ""  # of the bias label, where there is one
    return c
