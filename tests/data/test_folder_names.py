"""Which folders are splits, and which are made by systems."""

import pytest

from ddb_jax.data.folder_names import is_system, split_folders


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("TRAIN", "Test"),
        ("Training", "Testing"),
        ("training_set", "test_set"),
        ("TrainSet", "TestSet"),
        ("Training Set", "Testing Set"),
        ("trainset", "testset"),
        ("train-images", "test-images"),
        ("images_train", "images_test"),
        ("img_train", "img_test"),
        ("train_data", "evaluation"),
        ("train2017", "test2017"),
        ("trainval", "holdout"),
        ("seg_train", "seg_test"),
        ("asl_alphabet_train", "asl_alphabet_test"),
        ("ILSVRC2012_img_train", "ILSVRC2012_img_test"),
        ("tr", "te"),
        ("train ", " test"),
        ("\uff54\uff52\uff41\uff49\uff4e", "\uff54\uff45\uff53\uff54"),  # full width
    ],
)
def test_usual_names_of_splits(train, test):
    assert split_folders([test, train]) == {"train": [train], "test": [test]}


@pytest.mark.parametrize(
    "name", ["val", "Valid", "VALIDATION", "dev", "val_images", "validation_set", "development"]
)
def test_usual_names_of_validation(name):
    assert split_folders([name, "train"]) == {"train": ["train"], "validation": [name]}


def test_eval_is_validation_only_beside_test():
    assert split_folders(["eval", "train"])["test"] == ["eval"]
    found = split_folders(["eval", "test", "train"])
    assert found == {"train": ["train"], "validation": ["eval"], "test": ["test"]}
    found = split_folders(["eval", "test", "train", "val"])
    assert found == {"train": ["train"], "validation": ["val"], "test": ["eval", "test"]}


@pytest.mark.parametrize(
    "folders",
    [
        ["bullet_train", "bus", "car"],
        ["test_strip", "test_tube", "flask"],
        ["tr", "de", "en"],
        ["cat", "dog"],
        ["trainer", "tester"],
        ["invalid", "contested"],
    ],
)
def test_names_of_classes_are_no_splits(folders):
    assert split_folders(folders) == {}


def test_splits_of_several_things_are_refused():
    with pytest.raises(ValueError, match="cats_train, cats_test, dogs_train, dogs_test, which"):
        split_folders(["cats_test", "cats_train", "dogs_test", "dogs_train"])


@pytest.mark.parametrize(
    "name",
    ["@eaDir", "#recycle", "@Recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found",
     ".ipynb_checkpoints", "__MACOSX", ".AppleDouble", "__pycache__", ".@__thumb", ".git"],
)  # fmt: skip
def test_folders_that_systems_make(name):
    assert is_system(name, folder=True) and not is_system("recycled", folder=True)


def test_files_that_systems_make():
    assert is_system("Thumbs.db", folder=False) and is_system("desktop.ini", folder=False)
    assert is_system("003.png:Zone.Identifier", folder=False)
    assert not is_system("cat.png", folder=False) and not is_system("data.db", folder=False)
