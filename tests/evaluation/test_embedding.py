"""t-SNE: neighbours stay neighbours, a seed gives one picture, odd input does not stop a report."""

import numpy as np
import pytest

from ddb_jax.evaluation.embedding import embed


def test_clusters_stay_together_and_a_seed_gives_one_picture():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    features = rng.normal(0.0, 0.1, (60, 5)) + 3.0 * np.eye(5)[labels]
    points = embed(features, seed=1)
    assert points.shape == (60, 2) and points.dtype == np.float32
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    np.testing.assert_array_equal(labels[distances.argmin(axis=1)], labels)
    np.testing.assert_array_equal(embed(features, seed=1), points)


def test_few_points_one_feature_and_none_that_differ():
    assert np.isfinite(embed(np.arange(4.0)[:, None], seed=0)).all()
    np.testing.assert_array_equal(embed(np.ones((5, 3)), seed=0), np.zeros((5, 2)))


@pytest.mark.parametrize(
    ("features", "message"),
    [(np.zeros((3, 2)), "at least 4 points"), (np.full((5, 2), np.nan), "not finite")],
)
def test_what_it_refuses(features, message):
    with pytest.raises(ValueError, match=message):
        embed(features, seed=0)
