"""Sources joined end to end."""

import numpy as np
import pytest

from ddb_jax.data.input_pipeline import train_batches
from ddb_jax.data.joined import Joined
from ddb_jax.data.source import ArraySource, Subset


def make(count, first, side=2):
    """Images whose pixels, and labels less 100, are first, first + 1, ..."""
    values = np.arange(first, first + count)
    images = np.broadcast_to(values[:, None, None, None], (count, side, side, 3)).astype(np.uint8)
    return ArraySource(images, values + 100, values % 3 - 1, tuple(f"at {v}" for v in values))


@pytest.fixture
def joined():
    # 10, 11, 12 | nothing | 21, 20 | 40.
    return Joined([make(3, 10), make(0, 0), Subset(make(2, 20), [1, 0]), make(1, 40)])


VALUES = np.array([10, 11, 12, 21, 20, 40])


def test_columns_are_end_to_end(joined):
    assert len(joined) == 6 and joined.image_shape == (2, 2, 3)
    assert joined.labels.tolist() == (VALUES + 100).tolist() and joined.labels.dtype == np.int32
    assert joined.bias.tolist() == (VALUES % 3 - 1).tolist() and joined.bias.dtype == np.int32
    assert joined.paths == tuple(f"at {v}" for v in VALUES)


@pytest.mark.parametrize("indices", [[5, 0, 4, 4, 2, 3], [3], []])
def test_gather_keeps_the_order_that_is_asked_for(joined, indices):
    indices = np.array(indices, np.int64)
    found = joined.gather(indices)
    assert found["image"].shape == (len(indices), 2, 2, 3) and found["image"].dtype == np.uint8
    assert found["image"][:, 1, 0, 2].tolist() == VALUES[indices].tolist()
    assert found["label"].tolist() == (VALUES[indices] + 100).tolist()
    assert found["bias"].tolist() == (VALUES[indices] % 3 - 1).tolist()
    assert found["index"].tolist() == indices.tolist() and found["index"].dtype == np.int32


def test_one_example(joined):
    example = joined[4]
    assert (example["image"] == 20).all()
    assert (example["label"], example["bias"], example["index"]) == (120, 1, 4)
    assert joined[-1]["index"] == 5 and joined[-1]["label"] == 140
    with pytest.raises(IndexError):
        joined[6]
    with pytest.raises(IndexError):
        joined.gather(np.array([6]))


def test_a_source_is_read_once_a_batch_and_only_where_it_is_needed():
    asked = []

    class Recorded(ArraySource):
        def gather(self, indices):
            asked.append(indices.tolist())
            return super().gather(indices)

    first, second = make(3, 0), make(3, 3)
    parts = [Recorded(s.images, s.labels, s.bias) for s in (first, second)]
    Joined(parts).gather(np.array([4, 3, 5, 3]))
    assert asked == [[1, 0, 2, 0]]


def test_an_epoch_of_batches_holds_every_example_once(joined):
    batches = list(train_batches(joined, batch_size=3, seed=0, start_step=0, num_steps=2))
    assert sorted(np.concatenate([b["index"] for b in batches]).tolist()) == [0, 1, 2, 3, 4, 5]
    for batch in batches:
        assert batch["image"][:, 0, 0, 0].tolist() == VALUES[batch["index"]].tolist()


def test_images_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match=r"one shape, not \(2, 2, 3\), \(4, 4, 3\)\."):
        Joined([make(1, 0), make(1, 0, side=4), make(1, 0)])
    with pytest.raises(ValueError, match="no sources"):
        Joined([])
