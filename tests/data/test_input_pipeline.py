"""Batches: order, resume, hosts, groups, columns, padding, and that the threads end."""

import threading
import time
from collections import Counter

import numpy as np
import pytest

from ddb_jax.data.input_pipeline import eval_batches, train_batches
from ddb_jax.data.source import ArraySource, Source

N = 23


@pytest.fixture
def source():
    images = np.zeros((N, 2, 2, 3), np.uint8) + np.arange(N, dtype=np.uint8)[:, None, None, None]
    return ArraySource(images, np.arange(N) % 5, np.arange(N) % 3)


def draw(source, start=0, stop=10, batch_size=8, seed=0, **options):
    return list(
        train_batches(
            source, batch_size=batch_size, seed=seed, start_step=start, num_steps=stop, **options
        )
    )


def indices(batches):
    return np.concatenate([batch["index"] for batch in batches])


def equal(first, second):
    return len(first) == len(second) and all(
        a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
        for a, b in zip(first, second, strict=True)
    )


def test_every_epoch_covers_every_example_once_in_its_own_order(source):
    order = indices(draw(source, stop=N))  # 8 epochs in batches of 8
    epochs = order.reshape(8, N)
    assert np.array_equal(np.sort(epochs, axis=1), np.tile(np.arange(N), (8, 1)))
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 8


def test_fields_belong_to_the_index(source):
    for batch in draw(source, stop=3):
        i = batch["index"]
        assert batch["image"].shape == (8, 2, 2, 3) and batch["image"].dtype == np.uint8
        assert np.array_equal(batch["image"][:, 0, 0, 0], i)
        assert np.array_equal(batch["label"], i % 5)
        assert np.array_equal(batch["bias"], i % 3)
        assert batch["label"].dtype == batch["bias"].dtype == i.dtype == np.int32


@pytest.mark.parametrize("groups", [None, np.arange(N) % 4])
def test_batches_are_a_function_of_seed_and_step(source, groups):
    straight = draw(source, groups=groups)
    assert equal(straight, draw(source, groups=groups, num_threads=4))
    assert equal(straight[4:], draw(source, start=4, groups=groups, num_threads=0))
    assert not equal(straight, draw(source, seed=1, groups=groups))


def test_epochs_of_neighbouring_seeds_differ(source):
    # A seed of seed + epoch would make epoch 1 of seed 0 the epoch 0 of seed 1.
    first, second = (indices(draw(source, stop=N, seed=seed)).reshape(8, N) for seed in (0, 1))
    assert not {tuple(e) for e in first.tolist()} & {tuple(e) for e in second.tolist()}


def test_first_place_of_the_order_is_uniform():
    tiny = ArraySource(np.zeros((4, 1, 1, 3), np.uint8), np.zeros(4), np.zeros(4))
    order = indices(draw(tiny, stop=2000, batch_size=4)).reshape(-1, 4)
    seen = Counter(map(tuple, order.tolist()))
    assert len(seen) == 24
    expected = 2000 / 24
    # Chi-squared with 23 degrees of freedom exceeds 49.7 once in 1,000.
    assert sum((n - expected) ** 2 / expected for n in seen.values()) < 49.7


@pytest.mark.parametrize("groups", [None, np.arange(N) % 3])
@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_join_to_the_same_batches(source, hosts, groups):
    whole = draw(source, groups=groups)
    parts = [
        draw(source, groups=groups, process_index=host, process_count=hosts)
        for host in range(hosts)
    ]
    joined = [
        {name: np.concatenate([part[name] for part in step]) for name in step[0]}
        for step in zip(*parts, strict=True)
    ]
    assert equal(whole, joined)


def test_batch_may_exceed_the_data(source):
    (batch,) = draw(source, stop=1, batch_size=3 * N)
    assert Counter(batch["index"].tolist()) == {i: 3 for i in range(N)}


def test_groups_are_equally_frequent_and_shuffled_without_replacement(source):
    groups = np.array([7] * 17 + [2] * 4 + [4] * 2)  # 1 and others do not occur
    batches = draw(source, groups=groups, stop=68, batch_size=6)
    for batch in batches:
        assert Counter(groups[batch["index"]].tolist()) == {7: 2, 2: 2, 4: 2}
    order = indices(batches)
    for group, size in ((7, 17), (2, 4), (4, 2)):
        members = order[groups[order] == group]
        assert len(members) == 136  # divisible by 17, 4 and 2
        epochs = np.sort(members.reshape(-1, size), axis=1)
        assert np.all(epochs == np.flatnonzero(groups == group))


def test_groups_that_do_not_divide_the_batch_are_equal_to_within_one(source):
    groups = np.arange(N) % 3
    batches = draw(source, groups=groups, stop=9, batch_size=8)
    for batch in batches:
        assert max(np.bincount(groups[batch["index"]])) == 3
    assert np.bincount(groups[indices(batches)]).tolist() == [24, 24, 24]


def test_columns_are_looked_up_by_index(source):
    columns = {"group": np.arange(N) * 10, "amplifier_loss": np.stack([np.arange(N) / 2] * 2, 1)}
    for batch in draw(source, columns=columns, groups=np.arange(N) % 2):
        assert np.array_equal(batch["group"], batch["index"] * 10)
        assert batch["amplifier_loss"].shape == (8, 2)
        assert np.array_equal(batch["amplifier_loss"][:, 1], batch["index"] / 2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"columns": {"group": np.zeros(3)}}, "23 examples but 3 values in column group"),
        ({"columns": {"label": np.zeros(N)}}, "cannot be called label"),
        ({"groups": np.zeros(3, int)}, "23 examples but 3 groups"),
        ({"groups": np.arange(N) - 1}, "example 0 has group -1"),
        ({"process_count": 3}, "batch of 8 cannot be divided evenly among 3"),
    ],
)
def test_mismatches_are_refused_before_the_first_batch(source, options, words):
    with pytest.raises(ValueError, match=words):
        train_batches(source, batch_size=8, seed=0, start_step=0, num_steps=1, **options)


def test_nothing_is_left_to_do(source):
    assert draw(source, start=5, stop=5) == []


def test_evaluation_is_in_order_and_padded(source):
    batches = list(eval_batches(source, 10))
    assert [batch["image"].shape for batch in batches] == [(10, 2, 2, 3)] * 3
    assert [int(batch["mask"].sum()) for batch in batches] == [10, 10, 3]
    assert batches[2]["mask"].tolist() == [True] * 3 + [False] * 7
    kept = np.concatenate([batch["label"][batch["mask"]] for batch in batches])
    assert np.array_equal(kept, np.arange(N) % 5)
    assert batches[2]["index"].tolist() == [20, 21, 22] + [0] * 7


def test_evaluation_hosts_join_to_the_same_batches(source):
    whole = list(eval_batches(source, 10))
    parts = [eval_batches(source, 10, process_index=host, process_count=2) for host in (0, 1)]
    joined = [
        {name: np.concatenate([part[name] for part in step]) for name in step[0]}
        for step in zip(*parts, strict=True)
    ]
    assert equal(whole, joined)


def test_evaluation_of_an_exact_multiple_has_no_padding():
    source = ArraySource(np.zeros((4, 1, 1, 3), np.uint8), np.zeros(4), np.zeros(4))
    assert [batch["mask"].tolist() for batch in eval_batches(source, 2)] == [[True, True]] * 2


class ListSource(Source):
    """A source with no gather of its own, which fails at one position."""

    def __init__(self, inner, bad=None):
        self.inner, self.bad = inner, bad

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, index):
        if index == self.bad:
            raise ValueError("images/17.png cannot be decoded.")
        return self.inner[index]


def test_sources_without_gather_give_the_same(source):
    assert equal(draw(source), draw(ListSource(source)))
    assert equal(list(eval_batches(source, 10)), list(eval_batches(ListSource(source), 10)))


def test_an_error_in_the_source_reaches_the_consumer(source):
    with pytest.raises(ValueError, match=r"images/17\.png"):
        draw(ListSource(source, bad=17))


def test_threads_end_when_the_consumer_stops_early(source):
    before = set(threading.enumerate())
    batches = train_batches(source, batch_size=8, seed=0, start_step=0, num_steps=10**6)
    next(batches)
    started = set(threading.enumerate()) - before
    assert started
    batches.close()
    deadline = time.monotonic() + 10
    while any(thread.is_alive() for thread in started) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(thread.is_alive() for thread in started)
