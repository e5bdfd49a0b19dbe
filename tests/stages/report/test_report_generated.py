"""What the report shows of generated images and of two classifiers, on folders made by hand."""

import base64
import functools
import io
import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ddb_jax.configs import digits_diffubias
from ddb_jax.data.images.records import write_shard
from ddb_jax.data.source import ArraySource, Dataset
from ddb_jax.runtime.files import write_json
from ddb_jax.runtime.stop import StopFlag
from ddb_jax.stages.common.networks import build_classifier, init_variables
from ddb_jax.stages.context import Context
from ddb_jax.stages.report.generated import SIDE, generated_section
from ddb_jax.stages.report.looks import _choose, looks_section
from ddb_jax.training.checkpoint import save_weights
from ddb_jax.training.mesh import make_mesh

NAMES = ("cat", "dog", "elk")
COUNTS = {"drawn": 0, "not_finite": 0, "copies": 0, "expected": 0, "denied": 0, "kept": 0}
STAND_IN = "It is a stand-in, and says nothing about photographs."


def flat_images(values, side=4):
    """One grey image for each value."""
    return np.tile(np.array(values, np.uint8)[:, None, None, None], (1, side, side, 3))


@pytest.fixture
def context(tmp_path):
    """A data set of nine images, three of a class, of grey values 0, 10, ...; no stage is done."""
    labels = np.arange(9) % 3
    bias = (labels + np.array([0] * 6 + [1] * 3)) % 3
    source = ArraySource(flat_images(10 * np.arange(9)), labels, bias)
    dataset = Dataset("pets", source, source, source, NAMES, ("red", "$green", "blue"))
    config = digits_diffubias.get_config()
    config.methods = ("erm", "diffubias")
    config.classifier.image_size = 4
    stage = Context(
        config,
        dataset,
        make_mesh(1),
        StopFlag(),
        "report",
        0,
        tmp_path / "report",
        {},
        generator_dataset=dataset,
    )

    def folder(name):
        stage.inputs[name] = tmp_path / name
        stage.inputs[name].mkdir(parents=True)
        return stage.inputs[name]

    return stage, folder


def add_checked(folder, name, kept):
    checked = folder(f"seed_0/check_generated/{name}")
    counts = {**COUNTS, "drawn": 8, "copies": 1, "denied": 8 - 1 - len(kept), "kept": len(kept)}
    cat = {**COUNTS, "drawn": 4, "kept": 4}
    write_json(checked / "gate.json", {"all": counts, "classes": {"cat": cat}})
    rows = "".join(f"{i},{number}\n" for i, number in enumerate(kept))
    (checked / "kept.csv").write_text(f"number,drawn\n{rows}")
    Image.new("RGB", (5, 6)).save(checked / "kept.png")


def add_drawn(folder, name):
    """Images 0 to 7 of grey values 100, 101, ...; source 4 of class dog has two captions."""
    drawn = folder(f"seed_0/draw/{name}")
    labels = np.array([0, 1, 0, 1, 0, 1, 0, 2])
    write_shard(drawn / "a.arrayrecord", flat_images(100 + np.arange(8)), labels, np.arange(8))
    write_json(drawn / "manifest.json", {"shards": ["a.arrayrecord"], "image_shape": [4, 4, 3]})
    prompts = [
        (0, 3, "a cat"), (1, 4, "a <b>dog</b>"), (0, 6, "two cats"), (1, 4, "one dog"),
        (0, 3, "a cat"), (1, 4, "a <b>dog</b>"), (0, 6, "two cats"), (2, -1, "an elk"),
    ]  # fmt: skip
    rows = "".join(f'{i},{y},{k},"{text}"\n' for i, (y, k, text) in enumerate(prompts))
    (drawn / "prompts.csv").write_text(f"number,label,index,caption\n{rows}")


def cells(html):
    """Rows of cells of the table that shows captions."""
    table = html[html.index("<th>training image</th>") :].split("</table>")[0]
    body = table.split("<tbody>")[1]
    return [re.findall("<td>(.*?)</td>", row) for row in body.split("</tr>") if "<td>" in row]


def tiles(cell):
    """Grey value in the middle of each picture of a strip, and whether it has a frame."""
    data = base64.b64decode(re.search('base64,([^"]+)"', cell)[1])
    strip = np.asarray(Image.open(io.BytesIO(data)))
    found = [strip[:, i : i + SIDE] for i in range(0, strip.shape[1], SIDE + 4)]
    # A frame is red: its channels differ.
    return [(int(tile[SIDE // 2, SIDE // 2, 0]), bool(np.ptp(tile[0, 0]))) for tile in found]


def test_the_sheet_shows_sources_captions_and_what_was_drawn_from_them(context):
    stage, folder = context
    add_drawn(folder, "diffubias")
    add_checked(folder, "diffubias", kept=[0, 1, 2, 3, 5, 7])
    html = "".join(generated_section(stage))
    rows = cells(html)
    assert [row[0] for row in rows] == ["cat", "cat", "dog", "elk"]
    assert [row[2] for row in rows] == [
        "a cat", "two cats", "a &lt;b&gt;dog&lt;/b&gt;<br>one dog", "an elk",
    ]  # fmt: skip
    assert [tiles(row[1]) for row in rows[:3]] == [[(30, False)], [(60, False)], [(40, False)]]
    assert rows[3][1] == ""  # nobody knows what its caption describes
    assert [tiles(row[3]) for row in rows] == [
        [(100, False), (104, True)],
        [(102, False), (106, True)],
        [(101, False), (103, False), (105, False)],
        [(107, False)],
    ]
    counts = ("DiffuBias", "0", "8", "0", "1", "0", "1", "6")
    assert "".join(f"<td>{cell}</td>" for cell in counts) in html
    assert "<td>cat</td><td>4</td><td>0</td>" in html
    # One sheet of those kept; none of those dropped was written.
    assert "trained on, by class" in html and "by class and reason" not in html


def test_many_sources_are_chosen_from_the_classes_in_turn(context):
    stage, folder = context
    add_drawn(folder, "diffubias")
    rows = [f"{i % 8},{0 if i < 20 else 1},-1,caption {i}\n" for i in range(30)]
    path = stage.inputs["seed_0/draw/diffubias"] / "prompts.csv"
    path.write_text("number,label,index,caption\n" + "".join(rows))
    add_checked(folder, "diffubias", kept=[0])
    shown = [row[2] for row in cells("".join(generated_section(stage)))]
    assert shown == [f"caption {i}" for i in (0, 1, 2, 3, 20, 21, 22, 23)]


def test_the_stand_in_is_called_one_and_a_given_model_is_not(context):
    stage, folder = context
    add_drawn(folder, "diffubias")
    add_checked(folder, "diffubias", kept=[0])
    assert STAND_IN in generated_section(stage)[0]
    for field, value in (
        ("text_to_image.folder", "/models/sd"),
        ("captioned.csv", "own.csv"),
        ("train_text_to_image.start_from", "/models/sd"),
    ):
        config = stage.config.copy_and_resolve_references()
        config.update_from_flattened_dict({field: value})
        assert STAND_IN not in "".join(generated_section(replace(stage, config=config)))


def test_steered_images_have_counts_and_sheets_alone(context):
    stage, folder = context
    assert generated_section(stage) == []
    add_checked(folder, "steered", kept=[2, 3])
    html = "".join(generated_section(stage))
    assert "steered synthesis" in html and "where the bias amplifier takes" in html
    assert "captions" not in html and STAND_IN not in html


def test_the_text_filter_is_shown_with_a_few_of_the_dropped_captions(context):
    stage, folder = context
    add_checked(folder, "steered", kept=[0])
    filtered = folder("seed_0/filter_captions")
    (filtered / "words.csv").write_text("word,count\ncat,4\nfur,3\n")
    lines = ["0,a cat,1,contains cat", "1,fur,1,contains fur"]
    lines += [f"1,<i>{i}</i>,0,contains none" for i in range(25)]
    (filtered / "filter.csv").write_text("\n".join(["label,caption,kept,why", *lines]))
    html = "".join(generated_section(stage))
    assert "kept 2 of 27 captions, those with one of the 2 most frequent words" in html
    assert "<td>cat</td><td>4</td>" in html and "<td>fur</td><td>3</td>" in html
    for name, kept, dropped in (("cat", 1, 0), ("dog", 1, 25), ("elk", 0, 0)):
        assert f"<td>{name}</td><td>{kept}</td><td>{dropped}</td>" in html
    assert html.count("contains none") == 20 and "&lt;i&gt;19&lt;/i&gt;" in html
    assert "<i>" not in html


@functools.cache
def fresh_variables(model):
    key = jax.random.key(0, impl="unsafe_rbg")  # compiles faster
    return jax.jit(lambda: init_variables(model, key, 4))()


def add_classifier(stage, folder, name, answer):
    """A network whose head prefers one class, whatever the image."""
    variables = fresh_variables(build_classifier(stage.config.classifier, 3))
    head = {**variables["params"]["head"], "bias": jnp.zeros(3).at[answer].set(100.0)}
    where = folder(name)
    save_weights(where / "weights", {**variables, "params": {**variables["params"], "head": head}})
    write_json(where / "selection.json", {"network": "classifier"})


@pytest.mark.parametrize("network", ["resnet8", "mlp"])
def test_two_classifiers_are_compared(network, context):
    stage, folder = context
    stage.config.classifier.network, stage.config.classifier.width = network, 4
    add_classifier(stage, folder, "seed_0/train_biased", answer=0)
    add_classifier(stage, folder, "seed_0/train_classifier/erm", answer=2)
    assert looks_section(stage) == []  # nothing is debiased
    add_classifier(stage, folder, "seed_0/train_classifier/ddb_ii", answer=2)
    add_classifier(stage, folder, "seed_0/train_classifier/diffubias", answer=1)
    saliency, embedding = looks_section(stage)
    assert "t-SNE" in embedding and "base64" in embedding and "of 9 test images" in embedding
    if network == "mlp":
        assert "(mlp) does not." in saliency and "base64" not in saliency
    else:
        assert "biased classifier (GCE) gets wrong and DiffuBias right, 3 of 3" in saliency
        assert "base64" in saliency


def test_nothing_is_won(context):
    stage, folder = context
    stage.config.classifier.network, stage.config.classifier.width = "mlp", 4
    add_classifier(stage, folder, "seed_0/train_classifier/erm", answer=2)
    add_classifier(stage, folder, "seed_0/train_classifier/ddb_i", answer=2)
    assert "There is no test image that ERM gets wrong and DDB-I right" in looks_section(stage)[0]


def test_conflicting_images_come_first_and_classes_take_turns():
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 0, 1, 2])
    bias = np.array([0, 1, 2, 1, 0, 2, 2, 1, 2, -1])
    source = ArraySource(flat_images(labels), labels, bias)
    # Conflicting: 1, 2, 7 of class 0, and 4, 8 of class 1; aligned: 0, 3, 5, 6; unknown: 9.
    assert _choose(np.arange(10), source).tolist() == [1, 4, 2, 8, 7, 0, 3, 5]
    assert _choose(np.array([9, 6, 2]), source).tolist() == [2, 6, 9]
