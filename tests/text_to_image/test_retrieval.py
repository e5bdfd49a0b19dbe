"""Captions of the nearest reference images, against a search one query at a time."""

import numpy as np
import pytest

from ddb_jax.text_to_image.retrieval import retrieve


def nearest_by_loop(queries, references, captions, number):
    result = []
    for query in queries:
        scored = []
        for i, reference in enumerate(references):
            dot = sum(a * b for a, b in zip(query, reference, strict=True))
            scored.append((-dot / np.sqrt(sum(query**2) * sum(reference**2)), i))
        texts = []
        for _, i in sorted(scored):
            if captions[i] not in texts:
                texts.append(captions[i])
        result.append(texts[:number])
    return result


@pytest.mark.parametrize("chunk_size", [1, 4, 100])
def test_agrees_with_a_search_one_by_one(chunk_size):
    rng = np.random.default_rng(0)
    queries, references = rng.normal(size=(9, 5)), rng.normal(size=(40, 5))
    captions = [f"text {i}" for i in rng.integers(0, 12, 40)]
    found = retrieve(queries, references, captions, 4, chunk_size)
    assert found == nearest_by_loop(queries, references, captions, 4)


def test_length_of_features_says_nothing():
    references = np.array([[1.0, 0.0], [0.0, 100.0], [1.0, 1.0]])
    assert retrieve([[0.001, 0.0]], references, ["x", "y", "z"], 3) == [["x", "z", "y"]]


def test_ties_go_to_the_first_and_texts_differ():
    references = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 0.0], [1.0, 0.0]])
    captions = ["up", "b", "a", "b"]
    assert retrieve([[1.0, 0.0]], references, captions, 2) == [["b", "a"]]


def test_a_query_of_zeros_is_as_near_to_all():
    found = retrieve([[0.0, 0.0]], [[1.0, 0.0], [-1.0, 0.0]], ["x", "y"], 2)
    assert found == [["x", "y"]]


def test_no_query():
    assert retrieve(np.zeros((0, 2)), np.eye(2), ["x", "y"], 1) == []


@pytest.mark.parametrize(
    ("queries", "references", "captions", "number", "words"),
    [
        (np.ones((1, 3)), np.eye(2), ["x", "y"], 1, "have 3 dimensions and reference features 2"),
        (np.ones((1, 2)), np.eye(2), ["x"], 1, "2 reference features for 1 captions"),
        (np.ones((1, 2)), np.eye(2), ["x", "x"], 2, "num_captions is 2, .* at most 1"),
        (np.ones((1, 2)), np.eye(2), ["x", "y"], 0, "num_captions is 0"),
        ([[1.0, 1.0], [np.nan, 1.0]], np.eye(2), ["x", "y"], 1, "query features of image 1"),
        (np.ones(2), np.eye(2), ["x", "y"], 1, r"must be \[N, F\], not \[2\]"),
    ],
)
def test_bad_arguments_are_refused(queries, references, captions, number, words):
    with pytest.raises(ValueError, match=words):
        retrieve(queries, references, captions, number)
