"""A set is written here byte by byte as TensorFlow Datasets lays one out, without TensorFlow.

Records are tf.train.Example in protobuf's wire format: a field is (number << 3 | 2), the length and
the bytes; Example.features = 1, Features.feature = 1, an entry's key = 1 and value = 2, and a
Feature holds bytes_list = 1 or int64_list = 3, whose values are field 1.
"""

import io
import json
import sys

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from ddb_jax.data.sets.tfds_images import open_tfds

pytest.importorskip("tensorflow_datasets")

FEATURES = "tensorflow_datasets.core.features."
LABELS = {"train": [0, 2, 1, 1, 0], "test": [2, 300]}
PLACES = {"train": [0, 1, 1, 0, 1], "test": [0, 0]}
SHARDS = {"train": [3, 2], "test": [2]}


def varint(number):
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def example(features):
    entries = b""
    for key, value in features.items():
        is_bytes = isinstance(value, bytes)
        values = field(1, field(1, value)) if is_bytes else field(3, field(1, varint(value)))
        entries += field(1, field(1, key.encode()) + field(2, values))
    return field(1, entries)


def pixels(split, position):
    rng = np.random.default_rng([len(split), position])
    return rng.integers(0, 256, (4, 5 + position, 3), dtype=np.uint8)


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "png")
    return buffer.getvalue()


def class_label(num_classes):
    return {
        "pythonClassName": FEATURES + "class_label_feature.ClassLabel",
        "classLabel": {"numClasses": str(num_classes)},
    }


def image_feature(dtype="uint8"):
    return {
        "pythonClassName": FEATURES + "image_feature.Image",
        "image": {
            "shape": {"dimensions": ["-1", "-1", "3"]},
            "dtype": dtype,
            "encodingFormat": "png",
        },
    }


def write_set(root, features=None, file_format="array_record", drop=()):
    """A prepared set `pets` 1.0.0; returns its folder."""
    folder = root / "pets" / "1.0.0"
    folder.mkdir(parents=True)
    features = features or {
        "image": image_feature(),
        "label": class_label(301),
        "place": class_label(2),
        "note": {"pythonClassName": FEATURES + "text_feature.Text", "text": {}},
    }
    (folder / "features.json").write_text(
        json.dumps(
            {
                "pythonClassName": FEATURES + "features_dict.FeaturesDict",
                "featuresDict": {"features": features},
            }
        )
    )
    (folder / "label.labels.txt").write_text("".join(f"kind {i}\n" for i in range(301)))
    (folder / "place.labels.txt").write_text("indoors\noutdoors\n")
    for split, sizes in SHARDS.items():
        for shard in range(len(sizes)):
            file = f"pets-{split}.{file_format}-{shard:05d}-of-{len(sizes):05d}"
            writer = ArrayRecordWriter(str(folder / file), "group_size:1")
            for position in range(sum(sizes[:shard]), sum(sizes[: shard + 1])):
                values = {
                    "image": png(pixels(split, position)),
                    "label": LABELS[split][position],
                    "place": PLACES[split][position],
                    "note": b"anything",
                }
                writer.write(example({k: v for k, v in values.items() if k not in drop}))
            writer.close()
    info = {
        "name": "pets",
        "version": "1.0.0",
        "fileFormat": file_format,
        "splits": [
            {
                "name": split,
                "shardLengths": [str(size) for size in sizes],
                "numBytes": "1",
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            }
            for split, sizes in SHARDS.items()
        ],
    }
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("tfds")
    write_set(root)
    return str(root)


def test_reads_labels_bias_and_encoded_images(prepared):
    pets = open_tfds("pets", prepared, ("train", "", "test"), bias_key="place")
    assert pets.name == "pets/1.0.0"
    assert len(pets.class_names) == 301 and pets.class_names[2] == "kind 2"
    assert pets.bias_names == ("indoors", "outdoors")
    assert set(pets.splits) == {"train", "test"}
    for name, split in pets.splits.items():
        assert split.labels.dtype == split.bias.dtype == np.int32
        assert split.labels.tolist() == LABELS[name]
        assert split.bias.tolist() == PLACES[name]
        assert len(set(split.ids)) == len(LABELS[name])
        for position in range(len(LABELS[name])):
            with Image.open(io.BytesIO(split.image(position))) as image:
                np.testing.assert_array_equal(np.asarray(image), pixels(name, position))
    assert pets.splits["train"].ids[3] == "pets/1.0.0/train/0000003"
    assert "tensorflow" not in sys.modules


def test_slices_and_no_bias(prepared):
    pets = open_tfds("pets:1.0.0", prepared, ("train[:60%]", "train[60%:]", "test"))
    labels = {name: split.labels.tolist() for name, split in pets.splits.items()}
    assert labels == {"train": [0, 2, 1], "validation": [1, 0], "test": [2, 300]}
    assert pets.splits["validation"].bias.tolist() == [-1, -1]
    assert pets.bias_names == ()
    assert pets.splits["validation"].image(0) == png(pixels("train", 3))
    whole = open_tfds("pets", prepared, ("train", "", "test"))
    assert pets.content_key != whole.content_key


def test_content_key_follows_the_files(tmp_path):
    folder = write_set(tmp_path)

    def key():
        return open_tfds("pets", str(tmp_path), ("train", "", "test")).content_key

    first = key()
    assert key() == first
    (folder / "label.labels.txt").write_text("".join(f"sort {i}\n" for i in range(301)) + "\n")
    assert key() != first


@pytest.mark.parametrize(
    ("name", "splits", "keys", "message"),
    [
        ("cats", ("train", "", "test"), {}, "no prepared tfds set 'cats' in .*tfds build cats"),
        ("pets:2.0.0", ("train", "", "test"), {}, "no prepared tfds set 'pets:2.0.0'"),
        ("no name", ("train", "", "test"), {}, "no prepared tfds set 'no name'"),
        ("pets", ("train", "", "dev"), {}, "no split 'dev', there is train, test"),
        ("pets", ("train[", "", "test"), {}, r"no split 'train\['"),
        ("pets", ("", "", "test"), {}, "names of a train and of a test split"),
        ("pets", ("train", "", "test"), {"label_key": "kind"}, r"no ClassLabel named 'kind'"),
        ("pets", ("train", "", "test"), {"bias_key": "note"}, r"named 'note' .*note \(Text\)"),
        ("pets", ("train", "", "test"), {"image_key": "label"}, r"no Image named 'label'"),
    ],
)
def test_bad_requests_are_one_sentence(prepared, name, splits, keys, message):
    with pytest.raises(ValueError, match=message) as error:
        open_tfds(name, prepared, splits, **keys)
    assert "\n" not in str(error.value)


def test_other_image_types_are_refused(tmp_path):
    write_set(tmp_path, {"image": image_feature("uint16"), "label": class_label(301)})
    with pytest.raises(ValueError, match="uint16, not uint8"):
        open_tfds("pets", str(tmp_path), ("train", "", "test"))


def test_tfrecord_is_refused_with_the_remedy(tmp_path):
    write_set(tmp_path, file_format="tfrecord")
    with pytest.raises(ValueError, match=r"tfrecord, .*tfds convert_format .*array_record"):
        open_tfds("pets", str(tmp_path), ("train", "", "test"))


def test_missing_damaged_and_incomplete_files(tmp_path):
    folder = write_set(tmp_path)
    shard = folder / "pets-test.array_record-00000-of-00001"
    whole = shard.read_bytes()
    flipped = bytearray(whole)
    flipped[2**16 + 60] ^= 255  # inside the first chunk of data
    for content in (None, b"", bytes(flipped), whole[: 2**16]):
        shard.unlink()
        if content is not None:
            shard.write_bytes(content)
        with pytest.raises(ValueError, match=r"record 0 of pets/1\.0\.0/test has no label that"):
            open_tfds("pets", str(tmp_path), ("train", "", "test"))
        shard.touch()
    write_set(tmp_path / "other", drop=("label",))
    with pytest.raises(ValueError, match="train has no label that can be read"):
        open_tfds("pets", str(tmp_path / "other"), ("train", "", "test"))


def test_without_the_package(prepared, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ValueError, match=r"pip install -e '.\[tfds\]'"):
        open_tfds("pets", prepared, ("train", "", "test"))
