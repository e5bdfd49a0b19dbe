"""A model as a folder: the same weights come back, under the names that PyTorch knows."""

import json

import jax
import numpy as np
import pytest

from ddb_jax.predict.model_folder import (
    FORMAT,
    RECORD,
    WEIGHTS,
    ModelRecord,
    read_record,
    read_variables,
    write_model,
)
from ddb_jax.runtime.errors import UserError


def make_record(network, kind="classifier", width=64, stem="imagenet", **changes):
    fields = {
        "format": FORMAT,
        "dataset": "pets",
        "method": "ddb_i",
        "seed": 0,
        "kind": kind,
        "network": {
            "network": network, "width": width, "stem": stem, "norm": "batch",
            "dtype": "float32", "remat": False,
        },
        "class_names": ("cat", "dog", "hen"),
        "decoding": {"image_size": 64, "resize": "squash", "background": "white", "grey_bits": 16},
        "input_size": 64,
        "normalization": "imagenet",
        "selection": "average",
        "fingerprint": "f",
        "version": "0.1.0",
    }  # fmt: skip
    return ModelRecord(**{**fields, **changes})


def random_variables(record):
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), record.shapes()
    )


@pytest.mark.parametrize(
    "record",
    [
        make_record("resnet18"),
        make_record("efficientnet_lite0"),
        make_record("resnet8", width=8, stem="cifar"),
        make_record("mlp", width=8),
        make_record("mlp", kind="disentangled", width=8),
        make_record("resnet8", kind="projected", width=8),
    ],
    ids=lambda record: f"{record.network['network']} {record.kind}",
)
def test_what_was_written_is_read(record, tmp_path):
    variables = random_variables(record)
    write_model(tmp_path / "model", record, variables, "a card")
    assert read_record(tmp_path / "model") == record
    read = read_variables(tmp_path / "model", record)
    assert jax.tree.structure(read) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, read, variables)
    assert (tmp_path / "model" / "README.md").read_text() == "a card"


def test_the_names_and_shapes_are_torchvisions(tmp_path):
    """Some of torchvision's resnet18, from its documentation."""
    safetensors = pytest.importorskip("safetensors.numpy")
    record = make_record("resnet18")
    variables = random_variables(record)
    write_model(tmp_path, record, variables, "")
    tensors = safetensors.load_file(tmp_path / WEIGHTS)
    assert tensors["conv1.weight"].shape == (64, 3, 7, 7)
    assert tensors["layer2.0.downsample.0.weight"].shape == (128, 64, 1, 1)
    assert tensors["layer4.1.bn2.running_var"].shape == (512,)
    assert tensors["fc.weight"].shape == (3, 512) and tensors["fc.bias"].shape == (3,)
    kernel = variables["params"]["stem_conv"]["kernel"]  # HWIO
    np.testing.assert_array_equal(tensors["conv1.weight"][5, 2, 1, 3], kernel[1, 3, 2, 5])
    # Torchvision's file has 122, of which 20 are counters of batches.
    assert len(tensors) == 102


@pytest.mark.parity
def test_pytorch_loads_it_and_answers_the_same(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file
    from torch_reference import ResNet

    record = make_record("resnet18")
    variables = random_variables(record)
    # Variances are positive, and small weights keep the logits near 1.
    variables = jax.tree.map(lambda leaf: np.abs(leaf) * 0.05, variables)
    write_model(tmp_path, record, variables, "")
    theirs = ResNet([2, 2, 2, 2], bottleneck=False, num_classes=3)
    theirs.load_state_dict(load_file(tmp_path / WEIGHTS))
    x = np.random.default_rng(1).normal(size=(2, 64, 64, 3)).astype(np.float32)
    with torch.no_grad():
        expected = theirs.eval()(torch.from_numpy(x.transpose(0, 3, 1, 2)))[0].numpy()
    found, _ = record.build().apply(read_variables(tmp_path, record), x, train=False)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: (f / RECORD).unlink(), "holds no model.json: give the work directory of a"),
        (lambda f: (f / RECORD).write_text("{"), "damaged"),
        (lambda f: (f / RECORD).write_text('{"format": 1}'), "is damaged"),
        (
            lambda f: (f / RECORD).write_text('{"format": 9, "version": "7.0"}'),
            "written by ddb_jax 7.0 in format 9, and this one reads format 1",
        ),
        (lambda f: (f / WEIGHTS).unlink(), "cannot be read .it is missing."),
        (lambda f: (f / WEIGHTS).write_bytes(b"<html>"), "cannot be read"),
        (
            lambda f: (f / RECORD).write_text(
                (f / RECORD).read_text().replace('"width": 8', '"width": 9')
            ),
            "is not of the network that model.json describes",
        ),
        (
            lambda f: (f / RECORD).write_text(
                (f / RECORD).read_text().replace('"hen"', '"a", "b"')
            ),
            "is not of the network that model.json describes",
        ),
    ],
)  # fmt: skip
def test_a_damaged_folder_gets_one_sentence(damage, says, tmp_path):
    record = make_record("mlp", width=8)
    write_model(tmp_path, record, random_variables(record), "")
    json.loads((tmp_path / RECORD).read_text())
    damage(tmp_path)
    with pytest.raises(UserError, match=says) as error:
        read_variables(tmp_path, read_record(tmp_path))
    assert "\n" not in str(error.value)
