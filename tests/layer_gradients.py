"""Values and gradients of two forms of a layer, compared."""

import jax
import numpy as np


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def plain_convolve(x, kernel, stride, padding):
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def value_and_gradients(function, x, kernel, weight):
    """function(x, kernel) and the gradients of its sum weighted by `weight`, in one program."""

    def run(x, kernel):
        y, pull = jax.vjp(function, x, kernel)
        return y, *pull(weight)

    return jax.jit(run)(x, kernel)


def assert_same_with_gradients(function, plain, x, kernel, tolerance=1e-4):
    weight = normal(*jax.eval_shape(plain, x, kernel).shape, seed=2)
    results = (value_and_gradients(f, x, kernel, weight) for f in (function, plain))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance)
