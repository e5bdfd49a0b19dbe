"""Sets as the library datasets writes them; those of its own hand where it is installed."""

import gc
import json
import shutil

import numpy as np
import pytest
from huggingface_folder import (
    COLUMNS,
    LABELS,
    NAMES,
    PLACES,
    decoded,
    pixels,
    png,
    refused,
    write_folder,
)
from PIL import Image

from ddb_jax.checks.config import load_config
from ddb_jax.data.datasets import load_dataset
from ddb_jax.data.images.decode import Rules, decode_image
from ddb_jax.data.sets.huggingface import open_huggingface


def check_pets(found):
    """The set of LABELS and PLACES, whoever wrote it."""
    listing = found.listing
    assert listing.class_names == ("cow", "camel")
    assert listing.bias_names == ("sea", "land")  # the sea goes with cows, in train
    assert listing.splits["train"].labels.tolist() == [0, 1, 0, 1, 1]
    assert listing.splits["train"].bias.tolist() == [0, 1, 0, 1, -1]
    assert listing.splits["test"].labels.tolist() == [1, 0]
    assert listing.splits["test"].bias.tolist() == [0, 1]
    assert "has class horse: left out" in listing.notes[0]
    for split, labels in LABELS.items():
        for row in range(len(labels)):
            image = found.open_image(f"{split}/{row:07d}")
            np.testing.assert_array_equal(decoded(image), pixels(split, row))


# Written by the library.


@pytest.fixture(scope="module")
def pets():
    """The library's own set of every split."""
    datasets = pytest.importorskip("datasets", reason="reads what the library datasets writes")
    features = datasets.Features(
        image=datasets.Image(),
        animal=datasets.ClassLabel(names=NAMES),
        place=datasets.Value("string"),
    )
    return datasets.DatasetDict(
        {
            split: datasets.Dataset.from_dict(
                {
                    "image": [Image.fromarray(pixels(split, i)) for i in range(len(labels))],
                    "animal": labels,
                    "place": PLACES[split],
                },
                features=features,
            )
            for split, labels in LABELS.items()
        }
    )


def test_what_save_to_disk_wrote(pets, tmp_path):
    pets.save_to_disk(tmp_path / "pets", num_shards={"train": 2, "test": 1})
    check_pets(open_huggingface(tmp_path / "pets", **COLUMNS))


def test_one_saved_split_is_train_and_its_order_is_kept(pets, tmp_path):
    chosen = pets["train"].select([4, 0, 3, 2])  # as an index, which save_to_disk resolves
    chosen.save_to_disk(tmp_path / "pets")
    found = open_huggingface(tmp_path / "pets", label_column="animal")
    assert list(found.listing.splits) == ["train"]
    assert found.listing.splits["train"].labels.tolist() == [1, 0, 1, 0]
    assert found.listing.splits["train"].bias.tolist() == [-1] * 4
    np.testing.assert_array_equal(decoded(found.open_image("train/0000000")), pixels("train", 4))


def test_parquet_files_of_the_library(pets, tmp_path):
    (tmp_path / "data").mkdir()
    for shard in range(2):
        part = pets["train"].shard(2, shard, contiguous=True)
        part.to_parquet(tmp_path / f"data/train-0000{shard}-of-00002.parquet", batch_size=2)
    pets["test"].to_parquet(tmp_path / "data/test-00000-of-00001.parquet")
    check_pets(open_huggingface(tmp_path, **COLUMNS))


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the library leaves metadata.csv open
def test_image_folder_that_the_library_reads_alike(tmp_path):
    datasets = pytest.importorskip("datasets", reason="compares with the library datasets")
    write_folder(tmp_path / "set")
    theirs = datasets.load_dataset(
        "imagefolder", data_dir=str(tmp_path / "set"), cache_dir=str(tmp_path / "cache")
    )
    ours = open_huggingface(tmp_path / "set", label_column="animal").listing
    for split in ("train", "test"):
        names = [ours.class_names[i] for i in ours.splits[split].labels]
        assert sorted(names) == sorted(theirs[split]["animal"])
    gc.collect()


# Written here.


@pytest.fixture
def parquet():
    pytest.importorskip("pyarrow", reason="reads parquet files")
    from pyarrow import Table
    from pyarrow.parquet import write_table

    def write(path, **columns):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_table(Table.from_pydict(columns), path, row_group_size=2)
        return path

    return write


def rows(split="train", labels=("cow", "camel", "cow", "camel", "camel")):
    return {
        "image": [{"bytes": png(pixels(split, i)), "path": None} for i in range(len(labels))],
        "label": list(labels),
    }


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("train.parquet", "val.parquet"),
        ("train/0000.parquet", "validation/0000.parquet"),
        ("pets/train-00000-of-00001-0a1b.parquet", "pets/dev-00000-of-00001-0a1b.parquet"),
        ("Train/part.parquet", "Valid/part.parquet"),
        ("my_train_1.parquet", "my_val_1.parquet"),
    ],
)
def test_splits_by_the_names_of_parquet_files(parquet, tmp_path, train, val):
    parquet(tmp_path / train, **rows())
    parquet(tmp_path / val, **rows("val", ("camel", "cow")))
    found = open_huggingface(tmp_path)
    assert {n: s.labels.tolist() for n, s in found.listing.splits.items()} == {
        "train": [1, 0, 1, 0, 0],
        "validation": [0, 1],
    }
    assert found.listing.class_names == ("camel", "cow")
    image = found.open_image("train/0000004")  # in the third row group
    np.testing.assert_array_equal(decoded(image), pixels("train", 4))
    np.testing.assert_array_equal(decoded(found.open_image("validation/0000001")), pixels("val", 1))


def test_labels_are_read_as_in_a_csv_file(parquet, tmp_path):
    path = tmp_path / "train.parquet"
    parquet(path, **rows(labels=("cow", "nan", "cow", "camel", "N/A")))
    assert "row 1 of" in refused(tmp_path) and "row 4 of" in refused(tmp_path)
    parquet(path, **rows(labels=("cow", None, "cow", "camel", "cow")))
    assert f"row 1 of {path} of {tmp_path} has no label: fill it in" in refused(tmp_path)
    parquet(path, **rows(labels=("cow", "Cow", "cow", "camel", "cow")))
    assert "'Cow' (row 1 of" in refused(tmp_path) and "differ only in case" in refused(tmp_path)
    parquet(path, **rows(labels=(1.0, 0.0, 1.0, 0.0, 2.0)))
    assert open_huggingface(tmp_path).listing.splits["train"].labels.tolist() == [1, 0, 1, 0, 2]
    parquet(path, **rows(labels=(True, False, True, False, False)))
    assert open_huggingface(tmp_path).listing.class_names == ("False", "True")


def test_unlabelled_rows_of_a_class_label_are_refused(parquet, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    feature = {"_type": "ClassLabel", "names": NAMES}
    told = {"huggingface": json.dumps({"info": {"features": {"label": feature}}})}

    def write(labels):
        content = pyarrow.Table.from_pydict(rows(labels=labels)).replace_schema_metadata(told)
        pyarrow.parquet.write_table(content, tmp_path / "train.parquet")

    write((0, 2, -1, 2, 1))
    assert "row 2 of" in refused(tmp_path) and "has no label" in refused(tmp_path)
    write((0, 2, 3, 2, 1))
    assert "row 2 of" in refused(tmp_path) and "label 3, and 3 names" in refused(tmp_path)
    write((0, 2, 1, 2, 1))  # in the order of the names, which is not that of the alphabet
    found = open_huggingface(tmp_path).listing
    assert found.class_names == ("cow", "horse", "camel")
    assert found.splits["train"].labels.tolist() == [0, 2, 1, 2, 1]


def test_what_is_wrong_with_parquet_files(parquet, tmp_path):
    path = tmp_path / "train.parquet"
    columns = {**rows(), "box": [[1, 2]] * 5}
    parquet(path, **columns)
    assert "no column 'animal', it has image (struct" in refused(tmp_path, label_column="animal")
    assert "'box' of" in refused(tmp_path, label_column="box")
    assert "holds list" in refused(tmp_path, label_column="box")
    assert "holds int64 and not encoded images" in refused(
        parquet(tmp_path / "n/train.parquet", image=[1, 2], label=["a", "b"]).parent
    )
    assert "no split 'dev', there is train" in refused(tmp_path / "n", splits=("train", "dev", ""))
    assert "files of several sets, in ., n: give one" in refused(tmp_path)
    shutil.rmtree(tmp_path / "n")
    path.write_bytes(path.read_bytes()[:-100])
    assert "train.parquet cannot be read" in refused(tmp_path)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert "it is a git-lfs pointer; run `git lfs pull`" in refused(tmp_path)
    path.unlink()
    assert "holds no set" in refused(tmp_path)
    (tmp_path / "metadata.jsonl").write_text("{}")
    assert "metadata.jsonl is not read: write it as metadata.csv" in refused(tmp_path)
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train"]}')
    assert "is not a whole set of datasets' save_to_disk" in refused(tmp_path)
    assert "there is no folder" in refused(tmp_path / "absent")


def test_a_split_without_rows_and_arrays_as_images(parquet, tmp_path):
    path = parquet(tmp_path / "train.parquet", **rows())
    parquet(tmp_path / "test.parquet", image=[], label=[])
    assert "the test split of" in refused(tmp_path) and "has no rows" in refused(tmp_path)
    parquet(path, image=[[[1, 2], [3, 4]]] * 2, label=["a", "b"])
    assert "cast it to datasets.Image() and save the set again" in refused(tmp_path)
    (tmp_path / "state.json").write_text('{"_data_files": [], "_split": null}')
    assert "the train split of" in refused(tmp_path)


def test_rows_without_an_image_and_paths_of_images(parquet, tmp_path):
    (tmp_path / "a.png").write_bytes(png(pixels("a", 0)))
    parquet(
        tmp_path / "train.parquet",
        image=[{"bytes": None, "path": "a.png"}, {"bytes": None, "path": None}],
        label=["x", "y"],
    )
    found = open_huggingface(tmp_path)
    np.testing.assert_array_equal(decoded(found.open_image("train/0000000")), pixels("a", 0))
    with pytest.raises(ValueError, match="the row has no image"):
        found.open_image("train/0000001")


def test_without_pyarrow_the_command_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "train.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match=r"pip install -e '\.\[huggingface\]'"):
        open_huggingface(tmp_path)


def test_a_set_is_decoded(parquet, tmp_path):
    parquet(tmp_path / "set/train.parquet", **rows(labels=["cow", "camel"] * 20))
    config = load_config(
        "configs/huggingface.py:smoke",
        [f"--config.data.root={tmp_path / 'set'}", f"--config.data.cache={tmp_path / 'cache'}"],
    )
    dataset = load_dataset(config.data, 8)
    assert dataset.class_names == ("camel", "cow")
    assert sum(len(source) for source in dataset.splits.values()) == 40
    assert "has no test split" in " ".join(dataset.notes)
    first = dataset.train.paths[0]
    image = dataset.train.gather(np.array([0]))["image"][0]
    data = png(pixels("train", int(first[-7:])))
    expected = decode_image(data, Rules(8, config.data.resize)).pixels
    np.testing.assert_array_equal(image, expected)
