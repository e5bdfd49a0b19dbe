"""CLIP's text encoder against NumPy, and against the transformers library where it is installed."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from ddb_jax.text_to_image.clip_text import CLIPTextEncoder, from_config, rename_unprefixed
from ddb_jax.text_to_image.published_params import (
    load_published_params,
    published_names,
    save_params,
)

TINY = {
    "vocab_size": 50,
    "hidden_size": 12,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "max_position_embeddings": 9,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
SD_1_5 = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
}
SD_2_1 = SD_1_5 | {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
}


def filled_params(config, seed=0):
    """Parameters with every leaf random, biases and scales too."""
    rng = np.random.default_rng(seed)
    flat = {}
    for path, leaf in flatten_dict(abstract_params(config)).items():
        values = rng.standard_normal(leaf.shape)
        if path[-1] == "kernel":
            values /= math.sqrt(leaf.shape[0])
        flat[path] = ((path[-1] == "scale") + 0.5 * values).astype(np.float32)
    return unflatten_dict(flat)


def abstract_params(config):
    ids = jnp.zeros((1, 2), jnp.int32)
    encoder = from_config(config)
    return jax.eval_shape(lambda: encoder.init(jax.random.key(0), ids))["params"]


def numpy_encoder(params, ids, heads, eps, activation):
    """The encoder for one text [T], head by head and token by token, in float64."""
    params = jax.tree.map(lambda leaf: leaf.astype(np.float64), params["text_model"])

    def norm(p, x):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * p["scale"] + p["bias"]

    def dense(p, x):
        return x @ p["kernel"] + p["bias"]

    embeddings = params["embeddings"]
    x = embeddings["token_embedding"]["embedding"][ids]
    x = x + embeddings["position_embedding"]["embedding"][: len(ids)]
    for i in range(len(params["encoder"])):
        p = params["encoder"][f"layers_{i}"]
        h = norm(p["layer_norm1"], x)
        q, k, v = (dense(p["self_attn"][f"{n}_proj"], h) for n in "qkv")
        attended = np.zeros_like(x)
        size = x.shape[1] // heads
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            for t in range(len(ids)):
                weights = np.exp(k[: t + 1, part] @ q[t, part] / math.sqrt(size))
                attended[t, part] = weights / weights.sum() @ v[: t + 1, part]
        x = x + dense(p["self_attn"]["out_proj"], attended)
        h = activation(dense(p["mlp"]["fc1"], norm(p["layer_norm2"], x)))
        x = x + dense(p["mlp"]["fc2"], h)
    return norm(params["final_layer_norm"], x)


ACTIVATIONS = {
    "quick_gelu": lambda x: x / (1 + np.exp(-1.702 * x)),
    "gelu": lambda x: x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2,
}


def relative_error(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.linalg.norm(a - b) / np.linalg.norm(b)


@pytest.mark.parametrize("hidden_act", ["quick_gelu", "gelu"])
def test_hidden_states_are_those_of_numpy(hidden_act):
    config = TINY | {"hidden_act": hidden_act}
    params = filled_params(config)
    ids = np.random.default_rng(1).integers(0, 50, (2, 7)).astype(np.int32)

    states = jax.jit(from_config(config).apply)({"params": params}, ids)

    assert states.shape == (2, 7, 12) and states.dtype == jnp.float32
    for text, state in zip(ids, states, strict=True):
        expected = numpy_encoder(params, text, 3, 1e-5, ACTIVATIONS[hidden_act])
        assert relative_error(state, expected) < 1e-5


def test_half_precision_returns_float32_from_float32_parameters():
    params = filled_params(TINY)
    ids = np.arange(9, dtype=np.int32)[None]
    encoder = from_config(TINY, dtype=jnp.bfloat16)

    initial = jax.eval_shape(lambda: encoder.init(jax.random.key(0), ids))
    assert {leaf.dtype for leaf in jax.tree.leaves(initial)} == {np.dtype("float32")}
    states = jax.jit(encoder.apply)({"params": params}, ids)
    assert states.dtype == jnp.float32
    expected = numpy_encoder(params, ids[0], 3, 1e-5, ACTIVATIONS["quick_gelu"])
    error = relative_error(states[0], expected)
    # bfloat16 keeps 8 bits: worse than float32, and not by more than it must be.
    assert 1e-5 < error < 5e-2


@pytest.mark.parametrize(
    ("config", "parameters"), [(SD_1_5, 123_060_480), (SD_2_1, 340_387_840)], ids=["1.5", "2.1"]
)
def test_published_sizes(config, parameters):
    """The counts of the published text encoders."""
    leaves = jax.tree.leaves(abstract_params(config))
    assert sum(math.prod(leaf.shape) for leaf in leaves) == parameters


def test_a_config_that_does_not_say_has_the_defaults_of_the_transformers_library():
    encoder = from_config({"architectures": ["CLIPTextModel"], "name": "a remark"})
    assert encoder == CLIPTextEncoder()
    assert (encoder.hidden_size, encoder.num_attention_heads) == (512, 8)


def test_refusals():
    with pytest.raises(ValueError, match="hidden_act 'relu' is not supported; quick_gelu, gelu"):
        from_config(TINY | {"hidden_act": "relu"})
    with pytest.raises(ValueError, match="use_attention_mask"):
        from_config(TINY | {"use_attention_mask": True})
    with pytest.raises(ValueError, match="num_attention_heads = 5 does not divide hidden_size"):
        abstract_params(TINY | {"num_attention_heads": 5})
    encoder = from_config(TINY)
    with pytest.raises(ValueError, match="10 tokens are more than max_position_embeddings = 9"):
        encoder.init(jax.random.key(0), jnp.zeros((1, 10), jnp.int32))


def test_names_of_the_transformers_library_since_5_get_their_prefix():
    names = ["final_layer_norm.bias", "text_model.encoder.layers.0.mlp.fc1.weight"]
    assert rename_unprefixed(names) == {
        names[0]: "text_model.final_layer_norm.bias",
        names[1]: names[1],
    }


@pytest.fixture(scope="module")
def transformers():
    pytest.importorskip("torch", reason="compares with the transformers library")
    return pytest.importorskip("transformers", exc_type=ImportError)


def torch_encoder(transformers, config):
    """The library's own encoder; its special tokens must lie in the vocabulary."""
    return transformers.CLIPTextModel(
        transformers.CLIPTextConfig(**config, bos_token_id=1, eos_token_id=2, pad_token_id=2)
    )


@pytest.mark.parity
@pytest.mark.parametrize("shape", ["1.x", "2.x"])
def test_parity_with_transformers(transformers, shape, tmp_path):
    import torch

    config = TINY | {"max_position_embeddings": 77}
    if shape == "2.x":
        config |= {"hidden_act": "gelu", "num_hidden_layers": 3, "num_attention_heads": 4}
    torch.manual_seed(0)
    theirs = torch_encoder(transformers, config).eval()
    with torch.no_grad():
        for tensor in theirs.parameters():
            tensor += 0.3 * torch.randn(tensor.shape)
    theirs.save_pretrained(tmp_path / "theirs")
    params = load_published_params(
        tmp_path / "theirs", abstract_params(config), rename=rename_unprefixed
    )
    ids = np.random.default_rng(1).integers(0, 50, (2, 77)).astype(np.int32)
    with torch.no_grad():
        expected = theirs(torch.tensor(ids, dtype=torch.long)).last_hidden_state.numpy()

    states = jax.jit(from_config(config).apply)({"params": params}, ids)
    assert relative_error(states, expected) < 1e-4

    # What we write, under the names of the published files, their library reads.
    theirs.config.save_pretrained(tmp_path / "ours")
    save_params(tmp_path / "ours" / "model.safetensors", params)
    reread = transformers.CLIPTextModel.from_pretrained(tmp_path / "ours").state_dict()
    for name, tensor in theirs.state_dict().items():
        np.testing.assert_array_equal(reread[name], tensor)


@pytest.mark.parity
@pytest.mark.parametrize("config", [SD_1_5, SD_2_1], ids=["1.5", "2.1"])
def test_published_names_and_shapes(transformers, config):
    import torch

    with torch.device("meta"):
        theirs = torch_encoder(transformers, config).state_dict()
    today = rename_unprefixed(theirs)
    shapes = {
        today[name]: tuple(tensor.shape)
        for name, tensor in theirs.items()
        if not name.endswith("position_ids")
    }
    assert published_names(abstract_params(config)) == shapes
    assert "text_model.encoder.layers.0.self_attn.q_proj.weight" in shapes
