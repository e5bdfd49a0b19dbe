"""The network that sees a few pixels: what it can and cannot know of an image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from ddb_jax.models.small_receptive_field import SmallReceptiveField

IMAGES = np.random.default_rng(0).normal(size=(3, 6, 6, 3)).astype(np.float32)


def shapes_of(model):
    return jax.eval_shape(lambda: model.init(jax.random.key(0), IMAGES, train=False))


def drawn(model):
    """Variables in -0.5..0.5, scales and variances in 0.5..1.5, without a compilation."""
    rng = np.random.default_rng(1)

    def fill(path, leaf):
        low = 0.5 if path[-1].key in ("scale", "var") else -0.5
        return rng.uniform(low, low + 1, leaf.shape).astype(np.float32)

    return jax.tree.map_with_path(fill, shapes_of(model))


def evaluate(model, variables):
    """Pooled features of images, by the running statistics."""
    return jax.jit(lambda x: model.apply(variables, x, train=False)[1])


def test_structure():
    found = flatten_dict(shapes_of(SmallReceptiveField(5, width=4, kernel=3)), sep="/")
    expected = {"params/head/kernel": (32, 5), "params/head/bias": (5,)}
    for i, (inputs, outputs, side) in enumerate([(3, 4, 3), (4, 8, 1), (8, 16, 1), (16, 32, 1)]):
        expected[f"params/conv_{i}/kernel"] = (side, side, inputs, outputs)
        for leaf in ("scale", "bias"):
            expected[f"params/norm_{i}/{leaf}"] = (outputs,)
        for leaf in ("mean", "var"):
            expected[f"batch_stats/norm_{i}/{leaf}"] = (outputs,)
    assert {name: leaf.shape for name, leaf in found.items()} == expected


def test_initial_weights():
    """He et al. (2015) by outputs, as in the ReBias code: a variance of 2 / 128 for the last."""
    init = SmallReceptiveField(2).init
    params = jax.jit(lambda key: init(key, IMAGES, train=False))(jax.random.key(0))["params"]
    np.testing.assert_allclose(np.std(params["conv_3"]["kernel"]), np.sqrt(2 / 128), rtol=0.05)


def test_equals_numpy_without_kernels_larger_than_a_pixel():
    model = SmallReceptiveField(2, width=2)
    variables = drawn(model)
    (logits, features), new = jax.jit(
        lambda v: model.apply(v, IMAGES, train=True, mutable=["batch_stats"])
    )(variables)
    params = jax.tree.map(np.float64, variables["params"])
    h = IMAGES.reshape(-1, 3).astype(np.float64)
    for i in range(4):
        h = h @ params[f"conv_{i}"]["kernel"][0, 0]
        old = variables["batch_stats"][f"norm_{i}"]
        for name, value in (("mean", h.mean(0)), ("var", h.var(0, ddof=1))):
            np.testing.assert_allclose(
                new["batch_stats"][f"norm_{i}"][name], 0.9 * old[name] + 0.1 * value, rtol=1e-4
            )
        h = (h - h.mean(0)) / np.sqrt(h.var(0) + 1e-5)
        h = np.maximum(h * params[f"norm_{i}"]["scale"] + params[f"norm_{i}"]["bias"], 0)
    pooled = h.reshape(3, 36, 16).mean(1)
    np.testing.assert_allclose(features, pooled, atol=1e-5)
    np.testing.assert_allclose(
        logits, pooled @ params["head"]["kernel"] + params["head"]["bias"], atol=1e-5
    )


def test_pixels_may_change_places():
    """A kernel of 1 sees the set of pixels and nothing of their order; a kernel of 3 does."""
    order = np.random.default_rng(1).permutation(36)
    shuffled = IMAGES.reshape(3, 36, 3)[:, order].reshape(IMAGES.shape)
    for kernel, alike in ((1, True), (3, False)):
        model = SmallReceptiveField(2, width=4, kernel=kernel)
        features = evaluate(model, drawn(model))
        assert np.allclose(features(IMAGES), features(shuffled), atol=1e-6) == alike


def test_pixels_that_no_patch_holds_both_add_up():
    """Two pixels' changes add up in the mean over patches unless some patch sees both of them."""
    model = SmallReceptiveField(2, width=8, kernel=3)
    features = evaluate(model, drawn(model))

    def joint_effect(*pixels):
        one, other, both = IMAGES.copy(), IMAGES.copy(), IMAGES.copy()
        for image, changed in ((one, pixels[:1]), (other, pixels[1:]), (both, pixels)):
            for row, column in changed:
                image[:, row, column] += 2
        difference = features(both) - features(one) - features(other) + features(IMAGES)
        return np.abs(difference).max()

    assert joint_effect((1, 1), (1, 4)) < 1e-6
    assert joint_effect((1, 1), (1, 3)) > 1e-3


def test_stride_skips_pixels():
    model = SmallReceptiveField(2, width=4, stride=2)
    features = evaluate(model, drawn(model))
    unseen, seen = IMAGES.copy(), IMAGES.copy()
    unseen[:, 1::2], unseen[:, :, 1::2], seen[:, 2, 4] = 9.0, 9.0, 9.0
    np.testing.assert_array_equal(features(unseen), features(IMAGES))
    assert not np.allclose(features(seen), features(IMAGES))


def test_dtype_and_norm():
    model = SmallReceptiveField(2, width=4, norm="group", dtype=jnp.bfloat16)
    variables = shapes_of(model)
    assert set(variables) == {"params"}
    assert {p.dtype.name for p in jax.tree.leaves(variables)} == {"float32"}
    for output in jax.eval_shape(lambda v: model.apply(v, IMAGES, train=True), variables):
        assert output.dtype == jnp.float32


@pytest.mark.parametrize(("field", "value"), [("norm", "layer"), ("kernel", 0), ("stride", 0)])
def test_refused(field, value):
    with pytest.raises(ValueError, match=field):
        jax.eval_shape(
            lambda: SmallReceptiveField(2, **{field: value}).init(
                jax.random.key(0), IMAGES, train=False
            )
        )
