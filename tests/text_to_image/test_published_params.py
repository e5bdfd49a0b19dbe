"""Parameters from published tensors and back: names, order of axes, precision, refusals."""

import re

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict

from ddb_jax.text_to_image.published_params import (
    load_published_params,
    published_name,
    published_names,
    save_params,
)

# Names as diffusers and transformers publish them -> our paths.
NAMES = {
    "down_blocks.0.resnets.1.conv1.weight": "down_blocks_0 resnets_1 conv1 kernel",
    "time_embedding.linear_1.bias": "time_embedding linear_1 bias",
    "conv_norm_out.weight": "conv_norm_out scale",
    "mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0.weight": (
        "mid_block attentions_0 transformer_blocks_0 attn1 to_out_0 kernel"
    ),
    "up_blocks.3.attentions.10.transformer_blocks.0.ff.net.0.proj.weight": (
        "up_blocks_3 attentions_10 transformer_blocks_0 ff net_0 proj kernel"
    ),
    "down_blocks.1.attentions.0.transformer_blocks.0.ff.net.2.weight": (
        "down_blocks_1 attentions_0 transformer_blocks_0 ff net_2 kernel"
    ),
    "text_model.encoder.layers.11.layer_norm1.weight": (
        "text_model encoder layers_11 layer_norm1 scale"
    ),
    "text_model.embeddings.token_embedding.weight": (
        "text_model embeddings token_embedding embedding"
    ),
    "blocks.2.0.fc.weight": "blocks_2_0 fc kernel",
}


@pytest.mark.parametrize("name", NAMES)
def test_names(name):
    assert published_name(NAMES[name].split()) == name


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


ABSTRACT = {
    "conv_in": {"kernel": shape(3, 2, 4, 5), "bias": shape(5)},
    "layers_0": {"fc1": {"kernel": shape(4, 6)}, "norm": {"scale": shape(4), "bias": shape(4)}},
    "tokens": {"embedding": shape(7, 4)},
}
PUBLISHED = {
    "conv_in.weight": (5, 4, 3, 2),
    "conv_in.bias": (5,),
    "layers.0.fc1.weight": (6, 4),
    "layers.0.norm.weight": (4,),
    "layers.0.norm.bias": (4,),
    "tokens.weight": (7, 4),
}


def published_tensors(seed=0):
    rng = np.random.default_rng(seed)
    return {n: rng.standard_normal(s).astype(np.float32) for n, s in PUBLISHED.items()}


def test_published_shapes():
    assert published_names(ABSTRACT) == PUBLISHED


@pytest.fixture
def files():
    """The library that writes and reads safetensors as NumPy arrays."""
    return safetensors.numpy


def check(params, tensors, dtype=np.float32):
    """Every element where the forward pass of PyTorch, in its own order of axes, has it."""
    assert jax.tree.map(lambda leaf: leaf.shape, params) == jax.tree.map(
        lambda leaf: leaf.shape, ABSTRACT
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(dtype)}
    conv, weight = params["conv_in"]["kernel"], tensors["conv_in.weight"]
    for h, w, i, o in np.ndindex(conv.shape):
        assert conv[h, w, i, o] == weight[o, i, h, w]
    fc = params["layers_0"]["fc1"]["kernel"]
    for i, o in np.ndindex(fc.shape):
        assert fc[i, o] == tensors["layers.0.fc1.weight"][o, i]
    np.testing.assert_array_equal(params["conv_in"]["bias"], tensors["conv_in.bias"])
    norm = params["layers_0"]["norm"]
    np.testing.assert_array_equal(norm["scale"], tensors["layers.0.norm.weight"])
    np.testing.assert_array_equal(norm["bias"], tensors["layers.0.norm.bias"])
    np.testing.assert_array_equal(params["tokens"]["embedding"], tensors["tokens.weight"])


def test_load_from_a_folder_a_file_and_shards(files, tmp_path):
    tensors = published_tensors()
    whole = tmp_path / "whole" / "diffusion_pytorch_model.safetensors"
    whole.parent.mkdir()
    files.save_file(tensors, whole)
    check(load_published_params(whole.parent, ABSTRACT), tensors)
    check(load_published_params(str(whole), ABSTRACT), tensors)

    halves = [tmp_path / f"model-{i}.safetensors" for i in range(2)]
    for i, path in enumerate(halves):
        files.save_file({n: tensors[n] for n in list(tensors)[i::2]}, path)
    check(load_published_params(halves, ABSTRACT), tensors)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_is_widened(files, tmp_path, dtype):
    tensors = {name: tensor.astype(dtype) for name, tensor in published_tensors().items()}
    files.save_file(tensors, tmp_path / "model.fp16.safetensors")
    wide = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
    check(load_published_params(tmp_path, ABSTRACT), wide)
    check(load_published_params(tmp_path, ABSTRACT, dtype), tensors, dtype)


def test_constants_of_old_files_are_ignored(files, tmp_path):
    tensors = published_tensors()
    constants = {"text_model.embeddings.position_ids": np.arange(7)[None]}
    files.save_file(tensors | constants, tmp_path / "model.safetensors")
    check(load_published_params(tmp_path, ABSTRACT), tensors)


def test_rename(files, tmp_path):
    tensors = published_tensors()
    files.save_file({f"old.{n}": t for n, t in tensors.items()}, tmp_path / "model.safetensors")

    def rename(names):
        return {name: name.removeprefix("old.") for name in names}

    check(load_published_params(tmp_path, ABSTRACT, rename=rename), tensors)


def test_what_does_not_fit_is_said_at_once(files, tmp_path):
    tensors = published_tensors()
    del tensors["tokens.weight"], tensors["conv_in.bias"]
    tensors |= {"layers.1.fc1.weight": np.zeros(2), "layers.0.norm.bias": np.zeros(5)}
    files.save_file(tensors, tmp_path / "model.safetensors")
    message = (
        "of the tensors 2 missing (conv_in.bias, tokens.weight), "
        "1 left over (layers.1.fc1.weight), "
        "1 of another shape (layers.0.norm.bias is [5], not [4])"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        load_published_params(tmp_path, ABSTRACT)


def test_long_lists_are_cut(files, tmp_path):
    files.save_file({"x": np.zeros(2)}, tmp_path / "model.safetensors")
    cut = "6 missing (conv_in.bias, conv_in.weight, layers.0.fc1.weight, ...), 1 left over (x)"
    with pytest.raises(ValueError, match=re.escape(cut)):
        load_published_params(tmp_path, ABSTRACT)


def test_files_that_cannot_be_read(files, tmp_path):
    with pytest.raises(ValueError, match="safetensors cannot be read as safetensors"):
        load_published_params(tmp_path, ABSTRACT)
    # What a clone without git-lfs leaves.
    pointer = tmp_path / "model.safetensors"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ValueError, match="is a git-lfs pointer, not the content: run `git lfs"):
        load_published_params(pointer, ABSTRACT)


def test_save_writes_published_names_and_axes(files, tmp_path):
    rng = np.random.default_rng(3)
    params = jax.tree.map(lambda s: jnp.asarray(rng.standard_normal(s.shape)), ABSTRACT)
    path = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    save_params(path, params)

    tensors = files.load_file(path)
    assert {name: tensor.shape for name, tensor in tensors.items()} == PUBLISHED
    check(jax.tree.map(np.asarray, params), tensors)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    reread = flatten_dict(load_published_params(path.parent, ABSTRACT))
    for key, leaf in flatten_dict(params).items():
        np.testing.assert_array_equal(reread[key], leaf)
