"""What the tests of the text-to-image networks share: diffusers as a reference, parameters, jit."""

import json
import warnings
from functools import partial

import jax
import numpy as np
import pytest

from ddb_jax.text_to_image.published_params import load_published_params

# Networks of this size take far longer to compile than to run.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def import_diffusers():
    """The library, on one thread; the test is skipped where it cannot be used."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch where it is installed")
    try:
        with warnings.catch_warnings(action="ignore"):
            import diffusers
            from diffusers import AutoencoderKL, UNet2DConditionModel  # noqa: F401
    except (ImportError, RuntimeError) as error:  # a torchvision that does not fit, say
        pytest.skip(f"compares with diffusers where it can be used: {error}")
    torch.set_num_threads(1)
    return diffusers


def published_shapes(model):
    """Name -> shape of every tensor of a PyTorch model."""
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def save_randomised(model, folder):
    """Save a PyTorch model after changing every tensor; return its config with every default."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    model.eval().save_pretrained(folder)
    return json.loads((folder / "config.json").read_text())


def load_variables(folder, module, *arguments):
    """The variables of our `module` from the file that `save_randomised` wrote."""
    abstract = jax.eval_shape(module.init, jax.random.key(0), *arguments)["params"]
    return {"params": load_published_params(folder, abstract)}


def to_torch(x):
    """NumPy [B, H, W, C] -> PyTorch [B, C, H, W]."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def relative_error(ours, reference):
    """Largest difference from a PyTorch [B, C, H, W], relative to its largest magnitude."""
    reference = reference.detach().numpy().transpose(0, 2, 3, 1)
    assert ours.shape == reference.shape
    return np.abs(np.asarray(ours) - reference).max() / np.abs(reference).max()


def random_params(abstract):
    """Parameters near one for scales and near zero for the rest, of the shapes given."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        centre = 1.0 if path[-1].key == "scale" else 0.0
        return (centre + 0.2 * rng.normal(size=leaf.shape)).astype(leaf.dtype)

    return jax.tree.map_with_path(draw, abstract)
