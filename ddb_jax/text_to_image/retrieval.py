"""Captions without a captioner: those of the nearest images of a captioned reference set."""

from collections.abc import Sequence

import numpy as np

TINY = 1e-12  # a feature vector of zeros has cosine 0 with all


def retrieve(
    query_features: np.ndarray,
    reference_features: np.ndarray,
    reference_captions: Sequence[str],
    num_captions: int = 3,
    chunk_size: int = 256,
) -> list[list[str]]:
    """For every query, the distinct captions of the reference images nearest to it.

    Args:
        query_features: float [M, F].
        reference_features: float [R, F]; an image with several captions has a row for each.
        reference_captions: R texts.
        num_captions: Captions of each query.
        chunk_size: Queries whose similarities, chunk_size x R, are held at a time.

    Returns:
        M lists of num_captions different texts, that of highest cosine first; of equally near
        texts, the one that comes first in the reference set.

    Raises:
        ValueError: Shapes do not fit, a feature is not finite, or the reference set has fewer
            different captions than asked for.
    """
    queries = _unit(query_features, "query")
    references = _unit(reference_features, "reference")
    if queries.shape[1] != references.shape[1]:
        raise ValueError(
            f"query features have {queries.shape[1]} dimensions and reference features"
            f" {references.shape[1]}."
        )
    if len(references) != len(reference_captions):
        raise ValueError(
            f"there are {len(references)} reference features for {len(reference_captions)}"
            " captions."
        )
    texts = list(dict.fromkeys(reference_captions))
    if num_captions < 1 or len(texts) < num_captions:
        raise ValueError(
            f"num_captions is {num_captions}, it must be at least 1 and at most {len(texts)}, the"
            " number of different captions in the reference set."
        )
    # The columns of one text side by side: its cosine is that of its nearest image.
    numbers = {text: i for i, text in enumerate(texts)}
    text_of = np.array([numbers[caption] for caption in reference_captions])
    by_text = np.argsort(text_of, kind="stable")
    starts = np.searchsorted(text_of[by_text], np.arange(len(texts)))
    columns = references[by_text].T
    result = []
    for start in range(0, len(queries), chunk_size):
        cosine = np.maximum.reduceat(queries[start : start + chunk_size] @ columns, starts, axis=1)
        nearest = np.argsort(-cosine, axis=1, kind="stable")[:, :num_captions]
        result += [[texts[i] for i in row] for row in nearest.tolist()]
    return result


def _unit(features: np.ndarray, what: str) -> np.ndarray:
    """Rows of length 1, float32 [N, F]."""
    features = np.asarray(features, np.float32)
    if features.ndim != 2:
        raise ValueError(f"{what} features must be [N, F], not {list(features.shape)}.")
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if bad.size:
        raise ValueError(f"{what} features of image {bad[0]} are not finite.")
    norm = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    return (features / np.maximum(norm, TINY)).astype(np.float32)
