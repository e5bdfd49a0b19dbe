"""torchvision's tensors in our networks: names, mismatches, parity with PyTorch, photographs.

Tests that compare with PyTorch skip without it; tests on real weights and photographs skip without
the folder of data (DDB_JAX_DATA).
"""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from PIL import Image, ImageOps
from test_resnet import fill, filled_variables, torch_name

from ddb_jax.models.classifiers import make_classifier
from ddb_jax.models.pretrained import (
    PRETRAINED,
    load_pretrained,
    read_state_dict,
    torchvision_name,
)

DATA = Path(os.environ.get("DDB_JAX_DATA", Path(__file__).parents[3] / "shared" / "data"))


def shapes_of(name, num_classes, **options):
    model = make_classifier(name, num_classes, **options)
    x = jnp.zeros((1, 64, 64, 3))
    return jax.eval_shape(lambda: model.init(jax.random.key(0), x, train=False))


def torch_tensors(name, variables):
    """A full state dict for these variables, of zeros."""
    tensors = {}
    for path, leaf in flatten_dict(variables).items():
        axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[len(leaf.shape)]
        shape = tuple(leaf.shape[a] for a in axes)
        tensors[torchvision_name(name, path)] = np.zeros(shape, np.float16)
    return tensors


@pytest.fixture(scope="module")
def resnet18():
    return shapes_of("resnet18", 5)


def test_every_tensor_has_its_place(resnet18, tmp_path):
    expected = filled_variables(make_classifier("resnet18", 5), (1, 64, 64, 3))
    tensors = {"module.bn1.num_batches_tracked": np.array(9)}  # and DataParallel's prefix
    for path, leaf in flatten_dict(expected).items():
        axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[leaf.ndim]
        name = torch_name(path)
        value = fill(name, tuple(leaf.shape[a] for a in axes))
        tensors[f"module.{name}"] = value.astype(np.float32)
    np.savez(tmp_path / "w.npz", **tensors)
    variables, notes = load_pretrained("resnet18", resnet18, tmp_path / "w.npz")
    read, expected = flatten_dict(variables, sep="/"), flatten_dict(expected, sep="/")
    assert set(read) == set(expected)
    for key, value in expected.items():
        assert (read[key].dtype, read[key].shape) == (value.dtype, value.shape), key
        np.testing.assert_array_equal(read[key], value, key)
    # 20 convolutions, 20 norms of four tensors, a head of two.
    assert notes == (f"read 102 tensors of {tmp_path / 'w.npz'}",)


def test_names_of_the_bottleneck_and_of_densenet():
    resnet = flatten_dict(shapes_of("resnet50", 5))
    assert [torchvision_name("resnet50", p) for p in resnet] == [torch_name(p) for p in resnet]
    names = {torchvision_name("densenet121", p) for p in flatten_dict(shapes_of("densenet121", 5))}
    # 120 convolutions, 121 norms of four tensors, a head of two.
    assert len(names) == 120 + 4 * 121 + 2
    assert {
        "features.conv0.weight",
        "features.norm0.running_mean",
        "features.denseblock3.denselayer24.norm2.running_var",
        "features.denseblock3.denselayer24.conv1.weight",
        "features.transition3.norm.bias",
        "features.transition3.conv.weight",
        "features.norm5.weight",
        "classifier.bias",
    } < names


def test_old_names_of_densenet(tmp_path):
    variables = shapes_of("densenet121", 5)
    tensors = torch_tensors("densenet121", variables)
    tensors["features.denseblock2.denselayer10.conv2.weight"][3, 2, 1, 0] = 8
    old = {}
    for name, value in tensors.items():
        for kind in ("norm", "conv"):
            if "denselayer" in name:
                name = name.replace(f".{kind}1.", f".{kind}.1.").replace(
                    f".{kind}2.", f".{kind}.2."
                )
        old[name] = value
    assert "features.denseblock2.denselayer10.conv.2.weight" in old
    np.savez(tmp_path / "w.npz", **old)
    read, _ = load_pretrained("densenet121", variables, tmp_path / "w.npz")
    kernel = read["params"]["block_1_layer_9"]["conv_2"]["kernel"]
    assert kernel.dtype == np.float32
    assert kernel[1, 0, 2, 3] == 8  # [kh, kw, I, O]
    assert kernel.sum() == 8


def test_a_head_of_other_classes_keeps_its_weights(resnet18, tmp_path):
    np.savez(tmp_path / "w.npz", **torch_tensors("resnet18", shapes_of("resnet18", 1000)))
    head = {"kernel": np.full((512, 5), 0.5), "bias": np.full(5, 2.0)}
    variables = {**resnet18, "params": {**resnet18["params"], "head": head}}
    read, notes = load_pretrained("resnet18", variables, tmp_path / "w.npz")
    assert read["params"]["head"] == head
    assert not any(leaf.any() for leaf in jax.tree.leaves(read["batch_stats"]))
    assert notes == (
        f"read 100 tensors of {tmp_path / 'w.npz'}",
        "the head has 5 classes and the file 1,000: it keeps its fresh weights",
    )


def test_every_mismatch_is_listed(resnet18, tmp_path):
    tensors = torch_tensors("resnet18", resnet18)
    for i in range(2):
        del tensors[f"layer1.{i}.bn1.bias"]
    for name in "abcd":
        tensors[name] = np.zeros(1, np.float32)
    tensors["conv1.weight"] = np.zeros((64, 3, 3, 3), np.float32)
    tensors["fc.bias"] = np.zeros(4, np.float32)  # fc.weight is of 5 classes
    np.savez(tmp_path / "w.npz", **tensors)
    with pytest.raises(ValueError) as error:
        load_pretrained("resnet18", resnet18, tmp_path / "w.npz")
    message = str(error.value)
    assert "2 missing (layer1.0.bn1.bias, layer1.1.bn1.bias)" in message
    assert "4 unexpected (a, b, c, ...)" in message
    assert "2 mis-shaped" in message
    assert "conv1.weight is (64, 3, 3, 3), not (64, 3, 7, 7)" in message
    assert "fc.bias is (4,), not (5,)" in message


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"stem": "cifar"}, r"1 mis-shaped \(conv1.weight is \(64, 3, 7, 7\), not \(64, 3, 3, 3\)"),
        ({"norm": "group"}, "40 unexpected"),  # the running means and variances of 20 norms
        ({"width": 32}, "101 mis-shaped"),  # all but the bias of the head
    ],
)
def test_options_that_have_no_pretrained_weights(options, found, resnet18, tmp_path):
    tensors = torch_tensors("resnet18", resnet18)
    np.savez(tmp_path / "w.npz", **tensors)
    variables = shapes_of("resnet18", 5, **options)
    with pytest.raises(ValueError, match=f"{found}.* need stem='imagenet', norm='batch' and width"):
        load_pretrained("resnet18", variables, tmp_path / "w.npz")


def test_missing_files_and_networks_say_where_weights_are(resnet18, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"w\.pth.*resnet18-f37072fd\.pth.*densenet121-a"):
        read_state_dict(tmp_path / "w.pth")
    url = "https://download.pytorch.org/models/resnet18-f37072fd.pth"
    with pytest.raises(FileNotFoundError, match=f"w.npz of weights for resnet18; .* {url}"):
        load_pretrained("resnet18", resnet18, tmp_path / "w.npz")
    with pytest.raises(ValueError, match="no pretrained weights for 'mlp'; there are for resnet18"):
        load_pretrained("mlp", {}, tmp_path / "w.npz")


def relative_error(a, b):
    return np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(np.asarray(b)).max()


@pytest.mark.parity
@pytest.mark.parametrize("name", PRETRAINED)
def test_parity_with_pytorch(name, tmp_path):
    """Logits, features and running statistics within 1e-5 of PyTorch's, on random weights."""
    torch = pytest.importorskip("torch")
    import torch_reference

    network = torch_reference.make(name, 7)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    variables, _ = load_pretrained(name, shapes_of(name, 7), tmp_path / "w.pth")
    x = np.random.default_rng(0).normal(size=(8, 64, 64, 3)).astype(np.float32)
    model = make_classifier(name, 7)
    errors = {}
    for train in (False, True):
        with torch.no_grad():
            expected = network.train(train)(torch.from_numpy(x.transpose(0, 3, 1, 2)))
        apply = jax.jit(
            lambda v, train=train: model.apply(v, x, train=train, mutable=["batch_stats"])
        )
        results, updates = apply(variables)
        for kind, ours, theirs in zip(("logits", "features"), results, expected, strict=True):
            errors[kind, train] = relative_error(ours, theirs)
    torch.save(network.state_dict(), tmp_path / "updated.pth")
    updated, _ = load_pretrained(name, variables, tmp_path / "updated.pth")
    expected = flatten_dict(updated["batch_stats"])
    for path, value in flatten_dict(updates["batch_stats"]).items():
        errors[path] = relative_error(value, expected[path])
        before = flatten_dict(variables["batch_stats"])[path]
        assert relative_error(before, expected[path]) > 1e-3  # the update is visible
    assert max(errors.values()) <= 1e-5, {k: e for k, e in errors.items() if e > 1e-5}


# Photographs of BAR's test split, and ImageNet classes that fit: in the class list's order,
# 416 balance beam, 602 horizontal bar, 702 parallel bars, 733 pole, 842 swimming trunks;
# 450 bobsled, 665 moped, 751 racer, 802 snowmobile, 817 sports car;
# 672 mountain tent, 795 ski, 970 alp, 972 cliff, 976 promontory.
SENSIBLE = {
    "climbing": ((326, 328, 330), {672, 795, 970, 972, 976}),
    "diving": ((522, 523, 524), {416, 602, 702, 733, 842}),
    "pole vaulting": ((280, 281, 282), {416, 602, 702, 733}),
    "racing": ((339, 340, 341), {450, 665, 751, 802, 817}),
}
WEIGHTS = DATA / "weights" / "resnet_pqf"


def photograph(path):
    """As torchvision evaluates: short side 256, the central 224 pixels, ImageNet's mean and std."""
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    scale = 256 / min(image.size)
    image = image.resize([round(side * scale) for side in image.size], Image.Resampling.BILINEAR)
    left, top = ((side - 224) // 2 for side in image.size)
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32) / 255
    return (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]


@pytest.mark.skipif(not WEIGHTS.is_dir(), reason=f"no ImageNet weights in {WEIGHTS}")
@pytest.mark.skipif(not (DATA / "bar").is_dir(), reason=f"no photographs in {DATA / 'bar'}")
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("resnet18", "resnet18_imagenet_pqf_unfused.npz"),
        ("resnet50", "resnet50_large_imagenet_pqf_unfused.npz"),
    ],
)
def test_real_weights_know_photographs(name, file):
    photographs, sensible = [], []
    for action, (numbers, classes) in SENSIBLE.items():
        for number in numbers:
            photographs.append(photograph(DATA / "bar" / "test" / f"{action}_{number}.jpg"))
            sensible.append(classes)
    x = np.stack(photographs).astype(np.float32)
    variables, _ = load_pretrained(name, shapes_of(name, 1000), WEIGHTS / file)
    model = make_classifier(name, 1000)
    logits, _ = jax.jit(lambda v: model.apply(v, x, train=False))(variables)
    first = np.asarray(logits).argmax(1)
    # A class drawn at random of the 1,000 would fit one photograph in 200.
    fitting = sum(int(c) in classes for c, classes in zip(first, sensible, strict=True))
    assert fitting >= 10, first
