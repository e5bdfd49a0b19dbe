"""Floating-point operations of a network's pass, counted in its traced program."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import jaxprs_in_params


def forward_operations(model: Any, *inputs: jax.ShapeDtypeStruct, **options: Any) -> float:
    """Operations of one forward pass of a Flax module.

    Counted in the pass that makes the variables, which draws them without a matrix product. It
    takes one trace, of a second or so for a UNet; making and applying them would take two.
    """
    init = functools.partial(model.init_with_output, jax.random.key(0), **options)
    return count_operations(init, *inputs)


def count_operations(function: Callable, *arguments: Any) -> float:
    """Multiplications and additions of the matrix products and convolutions of one call.

    Counted in the traced program, since not every backend's compiler reports it (JAX's
    `cost_analysis` is None on GPU and TPU before compilation). Zero padding counts.
    """
    return _operations(jax.make_jaxpr(function)(*arguments).jaxpr)


def _operations(jaxpr: Any) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            result, right = equation.outvars[0].aval, equation.invars[1].aval
            if equation.primitive.name == "dot_general":
                (_, contracted), _ = equation.params["dimension_numbers"]
                per_output = math.prod(right.shape[i] for i in contracted)
            else:
                kernel = equation.params["dimension_numbers"].rhs_spec  # (out, in, space...)
                per_output = right.size // right.shape[kernel[0]]
            total += 2.0 * result.size * per_output
        for inner in jaxprs_in_params(equation.params):
            total += _operations(inner)
    return total
