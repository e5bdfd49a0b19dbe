"""predict answers as evaluate did, on any kind of image, and says what is wrong with the others."""

import csv

import numpy as np
import pytest
from PIL import Image
from runs import SHORT_RESNET, make_tiny_config

import ddb_jax
from ddb_jax.data.datasets import load_dataset
from ddb_jax.models import resnet
from ddb_jax.predict.__main__ import main
from ddb_jax.run.publish_model import recommended
from ddb_jax.runtime.errors import UserError


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(autouse=True)
def networks_of_the_run(monkeypatch):
    monkeypatch.setitem(resnet.RESNETS, "resnet8", SHORT_RESNET)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """The test images of the tiny run, as files."""
    folder = tmp_path_factory.mktemp("pictures")
    config = make_tiny_config()
    test = load_dataset(config.data, config.classifier.image_size).test
    for i in range(len(test)):
        Image.fromarray(test[i]["image"]).save(folder / f"{i:03d}.png")
    return folder


def test_the_figures_are_those_of_evaluate(finished_run, pictures, tmp_path, capsys):
    model = ddb_jax.load(finished_run)
    method = model.record.method
    assert method != "group_dro"  # an oracle is not recommended
    out = tmp_path / "answers.csv"
    assert main([f"--model={finished_run}", str(pictures), f"--out={out}"]) == 0
    answers = read(out)
    expected = read(finished_run / "seed_0/evaluate" / method / "predictions.csv")
    assert len(answers) == len(expected) > 300
    names = model.record.class_names
    for answer, row in zip(answers, expected, strict=True):
        assert answer["predicted"] == names[int(row["predicted"])]
        assert answer[f"probability of {names[int(row['label'])]}"] == row["probability"]
        assert answer["error"] == ""
    assert str(out) in capsys.readouterr().out


def test_another_method_and_a_copy_of_the_model(finished_run, pictures, tmp_path):
    files = sorted(pictures.iterdir())[:5]
    other = ddb_jax.load(finished_run, "group_dro")
    rows = read(finished_run / "seed_0/evaluate/group_dro/predictions.csv")[:5]
    found = other.predict(files)
    assert found.shape == (5, 10) and found.dtype == np.float32
    np.testing.assert_allclose(found.sum(1), 1.0, rtol=1e-5)
    assert found.argmax(1).tolist() == [int(row["predicted"]) for row in rows]
    with pytest.raises(UserError, match=r"no finished lff of seed_0; it has bias_bal.ddb of"):
        ddb_jax.load(finished_run, "lff")
    with pytest.raises(UserError, match="give the work directory, not its model/"):
        ddb_jax.load(finished_run / "model", "lff")
    with pytest.raises(UserError, match="there is no folder"):
        ddb_jax.load(tmp_path / "nothing")


def test_arrays_pictures_bytes_and_paths_are_one(finished_run, pictures):
    model = ddb_jax.load(finished_run)
    path = pictures / "000.png"
    with Image.open(path) as image:
        forms = [path, str(path), path.read_bytes(), np.asarray(image), image.copy()]
    found = model.predict(forms)
    np.testing.assert_array_equal(found, np.repeat(found[:1], 5, 0))
    assert model.predict([]).shape == (0, 10)
    with pytest.raises(ValueError, match=r"image 1 is float64 \[8, 8, 3\], and an array must be"):
        model.predict([path, np.zeros((8, 8, 3))])


def test_broken_files_have_their_reason_in_the_table(finished_run, pictures, tmp_path, capsys):
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "a.png").write_bytes((pictures / "000.png").read_bytes())
    (folder / "b.png").write_bytes(b"")
    (folder / "c.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    Image.new("L", (300, 40), 9).save(folder / "d.png")
    (tmp_path / "list.csv").write_text("path\nnew/a.png\nnew/d.png\n")
    out = tmp_path / "answers.csv"
    arguments = [f"--model={finished_run / 'model'}", f"--out={out}"]
    assert main([*arguments, str(folder), str(tmp_path / "list.csv")]) == 0
    rows = read(out)
    assert [row["path"].split("/")[-1] for row in rows] == ["a.png", "b.png", "c.jpg", "d.png"]
    assert [bool(row["error"]) for row in rows] == [False, True, True, False]
    assert "empty file" in rows[1]["error"] and "HEIC" in rows[2]["error"]
    assert "2 of 4 images cannot be used" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("model", "path", "says"),
    [
        ("run", "nowhere", "there is no file or folder"),
        ("run", "empty", "there is no image in"),
        ("run", "broken", "no image can be used, the first is"),
        ("empty", "pictures", "holds no model.json: give the work directory of a finished run"),
        ("nowhere", "pictures", "there is no folder"),
    ],
)
def test_what_is_missing_gets_one_sentence(
    model, path, says, finished_run, pictures, tmp_path, capsys
):
    for name in ("empty", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"")
    places = {"run": finished_run, "pictures": pictures}
    arguments = [f"--model={places.get(model, tmp_path / model)}"]
    arguments += [str(places.get(path, tmp_path / path)), f"--out={tmp_path / 'out.csv'}"]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and says in error
    assert not (tmp_path / "out.csv").exists()


def test_the_recommended_method():
    def chosen(rule, *score):
        return {"selection": rule, "score": list(score)}

    worst, average = "worst_pseudo_group", "average"
    found = {
        "erm": chosen(average, 0.99, 0.9),
        "jtt": chosen(worst, 0.5, 0.8),
        "ddb_i": chosen(worst, 0.5, 0.9),
        "ddb_ii": chosen(worst, 0.4, 0.95),
        "lff": chosen("last"),
    }
    method, reason = recommended(found, worst)
    assert (
        method == "ddb_i"
        and "the highest of 3 methods" in reason
        and "(50.0%; 90.0% on average" in reason
    )
    del found["ddb_i"], found["jtt"], found["ddb_ii"]
    assert recommended(found, worst)[0] == "erm"
    assert recommended({"lff": chosen("last")}, worst)[0] == "lff"


def test_the_card_says_what_it_is(finished_run):
    card = (finished_run / "model" / "README.md").read_text()
    for words in ("An image classifier (", "of 10 classes: 0, 1, 2", "Recommended: ", "| average"):
        assert words in card
