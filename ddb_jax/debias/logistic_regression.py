"""Penalised multinomial logistic regression on fixed features, and the linear head that it gives.

The objective is scikit-learn's, the solver a proximal gradient method that runs on any device.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

PENALTIES = ("l1", "l2")
POWER_ITERATIONS = 50
# Power iteration nears the largest eigenvalue from below.
EIGENVALUE_MARGIN = 1.1
SMALLEST_SHARE = 1e-9

# TPUs and some GPUs multiply float32 with too few bits for the requested tolerance.
_matmul = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


class Head(NamedTuple):
    """A linear classifier: logits = features @ kernel + bias.

    Attributes:
        kernel: float32 [F, K].
        bias: float32 [K].
    """

    kernel: jax.Array
    bias: jax.Array


def head_logits(head: Head, features: jax.Array) -> jax.Array:
    """Logits float32 [N, K] of features float [N, F], in full float32 precision."""
    return _matmul(jnp.asarray(features, jnp.float32), head.kernel) + head.bias


def fit_logistic_regression(
    features: jax.Array,
    labels: jax.Array,
    num_classes: int,
    *,
    c: jax.Array | float,
    penalty: str,
    example_weight: jax.Array | None = None,
    num_steps: int = 10_000,
    tolerance: float = 1e-6,
) -> Head:
    """Minimises penalty(kernel) + c * sum_i example_weight_i * CE_i; the bias is not penalised.

    The penalty is sum |w| ("l1") or sum w^2 / 2 ("l2") over the kernel of all K >= 2 softmax
    columns. With two classes and "l1" the solution's difference of columns is that of
    scikit-learn's binomial fit, though how it is split between the two is arbitrary; with "l2" it
    is that of the binomial fit with 2 c, because half of the difference stands in each column.

    Accelerated proximal gradient descent (FISTA, Beck and Teboulle 2009) with gradient restart
    (O'Donoghue and Candes 2015), on centred features, which leaves kernel and objective alone and
    separates them from the bias; the bias is carried back at the end. It starts from the best
    constant prediction, so a class without weighted examples only gets a low bias.
    Features of about the same scale converge in fewest steps. May be called under jit, and under
    vmap over `c`, `example_weight`, and features with labels.

    Args:
        features: float [N, F]; computed in float32.
        labels: int [N] in 0..K-1.
        num_classes: K.
        c: Inverse strength of the penalty, positive.
        penalty: "l1" or "l2".
        example_weight: float [N], not negative; None is 1 for all. A subsample is weights 0 and 1.
            With all weights 0 the kernel is 0.
        num_steps: Steps at most.
        tolerance: Stops where no entry of the proximal gradient of the objective per unit of
            c * total weight, the features taken to unit variance on average, is larger.

    Raises:
        ValueError: Unknown penalty, fewer than two classes, no example, or c not positive.
    """
    if penalty not in PENALTIES:
        raise ValueError(f"penalty is {penalty!r}; it must be one of {PENALTIES}.")
    if num_classes < 2:
        raise ValueError(f"num_classes is {num_classes}; logistic regression needs at least 2.")
    if len(features) == 0:
        raise ValueError("Logistic regression needs at least one example, and got none.")
    if isinstance(c, int | float) and not c > 0:
        raise ValueError(f"c of the logistic regression is {c}; it must be positive.")
    if example_weight is None:
        example_weight = jnp.ones(len(features), jnp.float32)
    return _solve(features, labels, c, example_weight, tolerance, num_classes, penalty, num_steps)


class _Progress(NamedTuple):
    head: Head
    extrapolated: Head
    momentum: jax.Array
    step: jax.Array
    violation: jax.Array


@functools.partial(jax.jit, static_argnames=("num_classes", "penalty", "num_steps"))
def _solve(
    features: jax.Array,
    labels: jax.Array,
    c: jax.Array,
    example_weight: jax.Array,
    tolerance: jax.Array,
    num_classes: int,
    penalty: str,
    num_steps: int,
) -> Head:
    x = jnp.asarray(features, jnp.float32)
    target = jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)
    tiny = jnp.finfo(jnp.float32).tiny
    total = jnp.sum(example_weight)
    share = jnp.asarray(example_weight / jnp.maximum(total, tiny), jnp.float32)
    strength = 1.0 / jnp.maximum(c * total, tiny)  # of the penalty beside the weighted mean CE
    mean = _matmul(share, x)
    variance = jnp.maximum(_matmul(share, jnp.square(x)) - jnp.square(mean), 0.0)

    # Centring is done on the products, so that x is stored once however many fits run under vmap.
    def centred(kernel: jax.Array) -> jax.Array:
        return _matmul(x, kernel) - _matmul(mean, kernel)

    def centred_transposed(residual: jax.Array) -> jax.Array:
        return _matmul(x.T, residual) - jnp.multiply.outer(mean, jnp.sum(residual, axis=0))

    # Softmax cross-entropy curves by at most 1/2 (Boehning 1992), and centred features make the
    # bound on the Hessian block-diagonal: kernel and bias may have steps of their own.
    largest = _largest_eigenvalue(lambda v: centred_transposed(share * centred(v)), x.shape[1])
    largest = EIGENVALUE_MARGIN * largest
    steps = Head(2.0 / jnp.maximum(largest, tiny), jnp.float32(2.0))
    units = Head(jnp.sqrt(jnp.maximum(jnp.mean(variance), tiny)), jnp.float32(1.0))

    def proximal_step(head: Head) -> Head:
        probability = jax.nn.softmax(centred(head.kernel) + head.bias)
        residual = share[:, None] * (probability - target)
        kernel = head.kernel - steps.kernel * centred_transposed(residual)
        bias = head.bias - steps.bias * jnp.sum(residual, axis=0)
        if penalty == "l1":
            shrunk = jnp.maximum(jnp.abs(kernel) - steps.kernel * strength, 0.0)
            return Head(jnp.sign(kernel) * shrunk, bias)
        return Head(kernel / (1.0 + steps.kernel * strength), bias)

    def advance(old: _Progress) -> _Progress:
        head = proximal_step(old.extrapolated)
        gradient = Head(
            *((a - b) / s for a, b, s in zip(old.extrapolated, head, steps, strict=True))
        )
        change = Head(*(a - b for a, b in zip(head, old.head, strict=True)))
        uphill = sum(jnp.sum(g * d) for g, d in zip(gradient, change, strict=True)) > 0
        momentum = jnp.where(uphill, 1.0, (1.0 + jnp.sqrt(1.0 + 4.0 * old.momentum**2)) / 2.0)
        factor = jnp.where(uphill, 0.0, (old.momentum - 1.0) / momentum)
        return _Progress(
            head=head,
            extrapolated=Head(*(a + factor * d for a, d in zip(head, change, strict=True))),
            momentum=momentum,
            step=old.step + 1,
            violation=jnp.maximum(
                *(jnp.max(jnp.abs(g)) / u for g, u in zip(gradient, units, strict=True))
            ),
        )

    start = Head(
        jnp.zeros((x.shape[1], num_classes), jnp.float32),
        jnp.log(jnp.maximum(_matmul(share, target), SMALLEST_SHARE)),
    )
    progress = jax.lax.while_loop(
        lambda p: (p.step < num_steps) & (p.violation > tolerance),
        advance,
        _Progress(start, start, jnp.float32(1.0), jnp.int32(0), jnp.float32(jnp.inf)),
    )
    kernel, bias = progress.head
    return Head(kernel, bias - _matmul(mean, kernel))


def _largest_eigenvalue(product: Callable[[jax.Array], jax.Array], size: int) -> jax.Array:
    """Of a positive semi-definite matrix, given by its product with a vector of `size`."""
    tiny = jnp.finfo(jnp.float32).tiny

    def iterate(_: int, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        image = product(carry[0])
        norm = jnp.linalg.norm(image)
        return image / jnp.maximum(norm, tiny), norm

    vector = jax.random.normal(jax.random.key(0), (size,))
    start = (vector / jnp.linalg.norm(vector), jnp.float32(0.0))
    return jax.lax.fori_loop(0, POWER_ITERATIONS, iterate, start)[1]
