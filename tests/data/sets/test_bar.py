import os
from pathlib import Path

import numpy as np
import pytest
from image_tree import make_tree, table

from ddb_jax.data.sets.bar import list_bar

DATA = Path(os.environ.get("DDB_JAX_DATA", Path(__file__).parents[4] / "shared" / "data"))
ACTIONS = ("climbing", "diving", "fishing", "pole vaulting", "racing", "throwing")


def test_original_files(tmp_path):
    make_tree(tmp_path, [f"train/{action}_{i}.jpg" for action in ACTIONS for i in (0, 10, 9)])
    make_tree(tmp_path, ["test/pole vaulting_11.jpg", "metadata.json", "train/Thumbs.db"])
    listing = list_bar(tmp_path)
    assert listing.name == "bar" and listing.class_names == ACTIONS and listing.bias_names == ()
    assert sorted(listing.splits) == ["test", "train"]
    assert table(listing.splits["train"])[9:12] == [
        ("train/pole vaulting_0.jpg", 3, -1),
        ("train/pole vaulting_10.jpg", 3, -1),
        ("train/pole vaulting_9.jpg", 3, -1),
    ]
    assert table(listing.splits["test"]) == [("test/pole vaulting_11.jpg", 3, -1)]
    assert listing.notes[1].endswith("were left out: 1, for example train/Thumbs.db.")


def test_tree_takes_the_bias_of_training_images_from_the_folder(tmp_path):
    make_tree(
        tmp_path,
        [
            *(f"train/align/{i}/{i}_{i}_9.png" for i in range(6)),
            *("train/conflict/1pct/0/a_0_0.png", "train/conflict/1pct/5/b_5_5.png"),
            *("train/conflict/5pct/2/c_2_2.png", "valid/4/d_4_1.png"),
            *("test/3/e_3_3.png", "test/3/f_3_2.png"),
        ],
    )
    listing = list_bar(tmp_path, pct="1pct")
    assert listing.class_names == ACTIONS and listing.bias_is_marker
    assert listing.bias_names[:2] == ("rock wall", "underwater")
    # The places are those of the classes in the original's README, which vaults into the sky.
    assert listing.bias_names[3] == "sky" and listing.bias_names[5] == "playing field"
    assert table(listing.splits["train"]) == [
        *((f"train/align/{i}/{i}_{i}_9.png", i, i) for i in range(6)),
        ("train/conflict/1pct/0/a_0_0.png", 0, 1),
        ("train/conflict/1pct/5/b_5_5.png", 5, 0),
    ]
    assert table(listing.splits["validation"]) == [("valid/4/d_4_1.png", 4, 5)]
    assert table(listing.splits["test"]) == [("test/3/e_3_3.png", 3, 3), ("test/3/f_3_2.png", 3, 4)]
    assert listing.published_counts == {
        "train": {"total": 1_775, "aligned": 1_761, "conflicting": 14},
        "test": {"total": 570},
    }
    assert "only marks it as conflicting" in listing.notes[0]
    other = list_bar(tmp_path, pct="5pct")
    assert ("train/conflict/5pct/2/c_2_2.png", 2, 3) in table(other.splits["train"])
    assert other.published_counts["train"]["conflicting"] == 85
    with pytest.raises(FileNotFoundError, match=r"pct is '' and .* has 1pct, 5pct"):
        list_bar(tmp_path)


def test_bad_folders_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no train/ in"):
        list_bar(tmp_path)
    make_tree(tmp_path, ["train/climbing_0.jpg"])
    with pytest.raises(FileNotFoundError, match="there is no test/ in"):
        list_bar(tmp_path)
    make_tree(tmp_path, ["test/climbing_1.jpg"])
    with pytest.raises(ValueError, match="the original BAR, which has no 1pct"):
        list_bar(tmp_path, pct="1pct")
    with pytest.raises(ValueError, match="no training image of class diving, fishing, pole"):
        list_bar(tmp_path)
    for path in ("train/swimming_3.jpg", "train/climbing.jpg", "train/climbing_x.jpg"):
        make_tree(tmp_path, [path])
        with pytest.raises(ValueError, match=f"{path} is not named <class>_<number>"):
            list_bar(tmp_path)
        (tmp_path / path).unlink()


@pytest.mark.skipif(not (DATA / "bar").is_dir(), reason="BAR is not there; see DDB_JAX_DATA")
def test_the_published_set():
    listing = list_bar(DATA / "bar")
    train, test = listing.splits["train"], listing.splits["test"]
    assert np.bincount(train.labels).tolist() == [326, 520, 163, 279, 336, 317]
    assert np.bincount(test.labels).tolist() == [105, 159, 42, 131, 132, 85]
    assert len(train.paths) == 1_941 and len(test.paths) == 654
    for split, files in listing.splits.items():
        assert listing.published_counts[split] == {
            "total": len(files.paths),
            **{c: int(np.sum(files.labels == i)) for i, c in enumerate(ACTIONS)},
        }
