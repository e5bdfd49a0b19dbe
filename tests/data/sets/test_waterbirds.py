import pytest
from image_tree import make_tree, table

from ddb_jax.data.sets.waterbirds import list_waterbirds

HEADER = "img_id,img_filename,y,split,place,place_filename\n"
ROWS = (
    "1,002.Laysan/b.jpg,1,0,1,/o/ocean/1.jpg\n"
    "2,001.Albatross/a.jpg,1,0,0,/b/bamboo_forest/2.jpg\n"
    "3,099.Oven/c.jpg,0,0,0,/b/bamboo_forest/3.jpg\n"
    "4,099.Oven/d.jpg,0,1,1,/o/ocean/4.jpg\n"
    "5,099.Oven/e.jpg,0,2,0,/b/bamboo_forest/5.jpg\n"
)


@pytest.fixture
def root(tmp_path):
    make_tree(tmp_path, [row.split(",")[1] for row in ROWS.splitlines()])
    (tmp_path / "metadata.csv").write_text(HEADER + ROWS)
    return tmp_path


def test_metadata(root):
    listing = list_waterbirds(root)
    assert listing.name == "waterbirds"
    assert listing.class_names == ("landbird", "waterbird")
    assert listing.bias_names == ("land", "water")
    assert table(listing.splits["train"]) == [
        ("001.Albatross/a.jpg", 1, 0),
        ("002.Laysan/b.jpg", 1, 1),
        ("099.Oven/c.jpg", 0, 0),
    ]
    assert table(listing.splits["validation"]) == [("099.Oven/d.jpg", 0, 1)]
    assert table(listing.splits["test"]) == [("099.Oven/e.jpg", 0, 0)]


def test_published_counts(root):
    # Worked out from the groups of the paper: 3,498 + 184 landbirds, 56 + 1,057 waterbirds.
    assert list_waterbirds(root).published_counts == {
        "train": {
            "total": 4_795,
            "aligned": 4_555,
            "conflicting": 240,
            "landbird": 3_682,
            "waterbird": 1_113,
        },
        "validation": {"total": 1_199},
        "test": {
            "total": 5_794,
            "aligned": 2_897,
            "conflicting": 2_897,
            "landbird": 4_510,
            "waterbird": 1_284,
        },
    }


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ("place,", "background,", ValueError, r"metadata\.csv has no column place"),
        ("b.jpg,1,0,1", "b.jpg,2,0,1", ValueError, "line 2 .* has y '2': it must be 0 or 1"),
        ("b.jpg,1,0,1", "b.jpg,1,3,1", ValueError, "has split '3': it must be 0, 1 or 2"),
        ("b.jpg,1,0,1", "b.jpg,1,0,", ValueError, "has place '': it must be 0 or 1"),
        ("b.jpg", "x.jpg", FileNotFoundError, "line 2 .* names 002.Laysan/x.jpg, which is not"),
        ("d.jpg,0,1,1", "d.jpg,0,0,1", ValueError, "has no validation image of waterbirds"),
        ("c.jpg,0,0,0", "c.jpg,1,0,0", ValueError, "no training image of class landbird"),
    ],
)
def test_bad_metadata_is_refused(root, old, new, error, message):
    path = root / "metadata.csv"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(error, match=message) as raised:
        list_waterbirds(root)
    assert str(root) in str(raised.value) and "\n" not in str(raised.value)


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no metadata\.csv in .*forest2water2"):
        list_waterbirds(tmp_path)
