"""Features in a plane, for the eye: t-SNE."""

import numpy as np
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

MIN_POINTS = 4


def embed(features: np.ndarray, seed: int) -> np.ndarray:
    """t-SNE (van der Maaten & Hinton, JMLR 2008) with a perplexity of 30, less for few points.

    It starts from the first two principal components, so that large distances mean a little, too.

    Args:
        features: float [N, F], finite, N >= 4, F >= 1.
        seed: Seed of the random part.

    Returns:
        float32 [N, 2]; all zeros where the features are all the same.

    Raises:
        ValueError: There are fewer than 4 points, or a feature is not finite.
    """
    if len(features) < MIN_POINTS:
        raise ValueError(f"t-SNE takes at least {MIN_POINTS} points, there are {len(features)}")
    if not np.isfinite(features).all():
        raise ValueError("a feature is not finite")
    if np.all(features == features[0]):
        return np.zeros((len(features), 2), np.float32)
    perplexity = min(30.0, (len(features) - 1) / 3)
    start = "pca" if features.shape[1] > 1 else "random"
    tsne = TSNE(perplexity=perplexity, init=start, random_state=seed)
    # Its threads spin while they wait for each other: on shared cores it takes ten times as long.
    with threadpool_limits(1):
        return tsne.fit_transform(np.asarray(features, np.float32)).astype(np.float32)
