"""Images of a set that TensorFlow Datasets has prepared, read without TensorFlow.

Needs `pip install -e '.[tfds]'` and the set in a format with random access, which is not tfds'
default: `tfds build NAME --file_format=array_record` (this, once, needs TensorFlow too).
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class TfdsSplit:
    """One split; image files stay encoded.

    Attributes:
        labels: int32 [N].
        bias: int32 [N], -1 where no bias was asked for.
        ids: "<name>/<split>/<position>" of every image.
        image: The PNG or JPEG file of the image at a position; from any number of threads.
    """

    labels: np.ndarray
    bias: np.ndarray
    ids: tuple[str, ...]
    image: Callable[[int], bytes]


@dataclass(frozen=True)
class TfdsImages:
    """A prepared image-classification set.

    Attributes:
        name: Name and version.
        class_names: Name of every label.
        bias_names: Name of every bias value; empty where none was asked for.
        splits: "train", "test", and "validation" where one was asked for.
        content_key: Hash of what decides the images of the splits: names, sizes and times of the
            set's files, which splits were asked for, and which feature.
    """

    name: str
    class_names: tuple[str, ...]
    bias_names: tuple[str, ...]
    splits: Mapping[str, TfdsSplit]
    content_key: str


def open_tfds(
    name: str,
    data_dir: str,
    splits: tuple[str, str, str],
    *,
    image_key: str = "image",
    label_key: str = "label",
    bias_key: str = "",
) -> TfdsImages:
    """Open a prepared set; reads every record once, for its label.

    Args:
        name: As tfds has it: "mnist", "name/config", "name:1.0.0".
        data_dir: Folder of prepared sets.
        splits: Names of train, validation ("" for none) and test; slices such as "train[:90%]" too.
        image_key: Feature of the image, 8 bits a channel.
        label_key: Feature of the class, a ClassLabel.
        bias_key: Feature of the bias, a ClassLabel; "" for none.

    Raises:
        ValueError: tensorflow-datasets is not installed, the set is not there, has another format,
            lacks a split or a feature, or a file of it is missing or damaged.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ValueError(
            f"tfds sets need tensorflow-datasets ({error}); pip install -e '.[tfds]'."
        ) from error

    builder = _builder(tfds, name, data_dir)
    features = builder.info.features
    features = dict(features) if isinstance(features, tfds.features.FeaturesDict) else {}
    keys = [key for key in (image_key, label_key, bias_key) if key]
    kinds = [tfds.features.Image, tfds.features.ClassLabel, tfds.features.ClassLabel]
    for key, kind in zip(keys, kinds, strict=False):
        if not isinstance(features.get(key), kind):
            there = ", ".join(f"{k} ({type(f).__name__})" for k, f in features.items())
            raise ValueError(
                f"the tfds set {name} has no {kind.__name__} named {key!r} and is not read as image"
                f" classification; its features are {there}."
            )
    if features[image_key].np_dtype != np.uint8:
        raise ValueError(
            f"the images of the tfds set {name} are {features[image_key].np_dtype}, not uint8."
        )
    if not all((splits[0], splits[2])):
        raise ValueError(f"the tfds set {name} needs the names of a train and of a test split.")
    full_name = builder.info.full_name
    return TfdsImages(
        name=full_name,
        class_names=tuple(features[label_key].names),
        bias_names=tuple(features[bias_key].names) if bias_key else (),
        splits={
            role: _split(tfds, builder, split, full_name, keys)
            for role, split in zip(SPLITS, splits, strict=True)
            if split
        },
        content_key=_content_key(Path(builder.data_dir), (image_key, *splits)),
    )


def _builder(tfds: Any, name: str, data_dir: str) -> Any:
    """tfds' reader of a prepared set, which does not need the code that made the set."""
    try:
        return tfds.core.read_only_builder.builder_from_files(name, data_dir=data_dir)
    except (tfds.core.DatasetNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            f"there is no prepared tfds set {name!r} in {data_dir} (one that has configs is named"
            f" NAME/CONFIG); prepare it with `tfds build {name} --data_dir={data_dir}"
            " --file_format=array_record`, which needs TensorFlow."
        ) from error


def _split(tfds: Any, builder: Any, split: str, full_name: str, keys: Sequence[str]) -> TfdsSplit:
    image_key, *label_keys = keys
    try:
        # tfds would decode every feature, some of them with TensorFlow: the protobuf is enough.
        records = builder.as_data_source(
            split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )
    except NotImplementedError as error:
        raise ValueError(
            f"the tfds set {full_name} is prepared as {builder.info.file_format.value}, which has"
            " no random access; convert it with `tfds convert_format --dataset_version_dir="
            f"{builder.data_dir} --out_file_format=array_record`, which needs TensorFlow."
        ) from error
    except ValueError as error:
        there = ", ".join(builder.info.splits)
        raise ValueError(
            f"the tfds set {full_name} has no split {split!r}, there is {there}"
            f" ({str(error).splitlines()[0]})."
        ) from error

    def value(position: int, key: str, kind: str) -> Any:
        try:
            example = tfds.proto.tf_example_pb2.Example.FromString(records[position])
            return getattr(example.features.feature[key], kind).value[0]
        except Exception as error:  # of protobuf, or of ArrayRecord's C++ in several types
            raise ValueError(
                f"record {position} of {full_name}/{split} has no {key} that can be read ({error});"
                " prepare the set again."
            ) from error

    def image(position: int) -> bytes:
        return value(position, image_key, "bytes_list")

    codes = np.full((len(records), 2), -1, np.int32)  # label and bias
    for i in range(len(records)):
        for column, key in enumerate(label_keys):
            codes[i, column] = value(i, key, "int64_list")
    ids = tuple(f"{full_name}/{split}/{i:07d}" for i in range(len(records)))
    return TfdsSplit(codes[:, 0], codes[:, 1], ids, image)


def _content_key(folder: Path, asked: Sequence[str]) -> str:
    stats = [(path.name, path.stat()) for path in sorted(folder.iterdir())]
    files = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    return hashlib.sha256(repr((files, *asked)).encode()).hexdigest()[:16]
