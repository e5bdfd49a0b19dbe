"""Batches as NumPy arrays: a training batch is a function of (seed, step) only.

Resuming therefore needs only the step, and any number of hosts sees the same batches: each takes
its contiguous block of every batch, in the order in which
`jax.make_array_from_process_local_data` joins blocks.

The order is drawn with NumPy, grain reads ahead on threads. grain's own `shuffle` and `mix` work
element by element, which costs milliseconds a batch here, more than a training step of a small
network, and its permutations of few elements are not quite uniform.
"""

import functools
from collections.abc import Callable, Iterator, Mapping

import grain
import numpy as np

from ddb_jax.data.source import Source

Batch = dict[str, np.ndarray]


def train_batches(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    start_step: int,
    num_steps: int,
    columns: Mapping[str, np.ndarray] | None = None,
    groups: np.ndarray | None = None,
    repeats: np.ndarray | None = None,
    num_threads: int = 2,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """The batches of steps start_step to num_steps - 1, reshuffled in every epoch.

    Epochs follow each other without a gap, so a batch may span two or more epochs.

    Args:
        source: The training split.
        batch_size: Examples of all processes together; may exceed the number of examples.
        seed: Seed of the order, at least 0.
        start_step: First step.
        num_steps: Where to end; not the number of batches unless start_step is 0.
        columns: Further per-example arrays [N, ...], looked up by the example's index.
        groups: Group of every example, int [N], at least 0. The occupied groups then take turns,
            so that each is equally frequent in every batch, to within one; each is shuffled
            without replacement in its own epochs. None draws uniformly from all examples.
        repeats: How often every example stands in an epoch (of its group), int [N], at least 1;
            None is once.
        num_threads: Threads that read ahead; 0 reads when asked.
        process_index: This process among process_count.
        process_count: Processes that share a batch.

    Returns:
        Dicts of image uint8 [B, H, W, 3], label, bias, index int32 [B] and the columns, where B is
        batch_size / process_count. Closing the iterator, or dropping it, ends its threads.

    Raises:
        ValueError: A column or `groups` does not match the source, or sizes do not divide.
    """
    columns = dict(columns or {})
    _check_columns(columns, len(source))
    draw = _make_draw(len(source), seed, groups, repeats)
    block = _block(batch_size, process_index, process_count)

    def batch_at(step: int) -> Batch:
        indices = draw(step * batch_size + block)
        fields = {name: values[indices] for name, values in columns.items()}
        return {**source.gather(indices), **fields}

    return _read_ahead(batch_at, start_step, num_steps, num_threads)


def eval_batches(
    source: Source,
    batch_size: int,
    *,
    num_threads: int = 2,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """Every example once and in order, in batches of one shape.

    The last batch is filled with example 0; `mask` bool [B] is False there.

    Args:
        source: Any split.
        batch_size: Examples of all processes together.
        num_threads: Threads that read ahead; 0 reads when asked.
        process_index: This process among process_count.
        process_count: Processes that share a batch.

    Raises:
        ValueError: batch_size does not divide among the processes.
    """
    block = _block(batch_size, process_index, process_count)

    def batch_at(step: int) -> Batch:
        positions = step * batch_size + block
        mask = positions < len(source)
        return {**source.gather(np.where(mask, positions, 0)), "mask": mask}

    return _read_ahead(batch_at, 0, -(-len(source) // batch_size), num_threads)


def _make_draw(
    num_examples: int, seed: int, groups: np.ndarray | None, repeats: np.ndarray | None
) -> Callable[[np.ndarray], np.ndarray]:
    """The endless order: a function from positions int64 [P] in it to example indices [P]."""
    groups = np.zeros(num_examples, np.int32) if groups is None else np.asarray(groups)
    if len(groups) != num_examples:
        raise ValueError(f"there are {num_examples} examples but {len(groups)} groups.")
    if num_examples == 0:
        raise ValueError("there are no examples to draw batches from.")
    if np.min(groups) < 0:
        raise ValueError(f"example {np.argmin(groups)} has group {np.min(groups)}, below 0.")
    repeats = np.ones(num_examples, np.int32) if repeats is None else np.asarray(repeats)
    if len(repeats) != num_examples or np.min(repeats) < 1:
        raise ValueError(f"repeats must be {num_examples} numbers of at least 1.")
    members_of = [
        np.repeat(members, repeats[members])
        for members in (np.flatnonzero(groups == group) for group in np.unique(groups))
    ]

    # Twice the number of groups: a batch on the boundary of two epochs needs both.
    @functools.lru_cache(maxsize=2 * len(members_of))
    def order(group: int, epoch: int) -> np.ndarray:
        return np.random.default_rng([seed, group, epoch]).permutation(members_of[group])

    def draw(positions: np.ndarray) -> np.ndarray:
        turns, group_at = np.divmod(positions, len(members_of))
        indices = np.empty(len(positions), np.int64)
        for group in np.unique(group_at):
            here = np.flatnonzero(group_at == group)
            epochs, places = np.divmod(turns[here], len(members_of[group]))
            for epoch in np.unique(epochs):
                now = epochs == epoch
                indices[here[now]] = order(int(group), int(epoch))[places[now]]
        return indices

    return draw


def _block(batch_size: int, process_index: int, process_count: int) -> np.ndarray:
    """Positions of this process within a batch."""
    if batch_size < 1 or batch_size % process_count:
        raise ValueError(
            f"a batch of {batch_size} cannot be divided evenly among {process_count} processes."
        )
    size = batch_size // process_count
    return np.arange(process_index * size, (process_index + 1) * size, dtype=np.int64)


def _check_columns(columns: Mapping[str, np.ndarray], num_examples: int) -> None:
    for name, values in columns.items():
        if name in ("image", "label", "bias", "index"):
            raise ValueError(f"a column cannot be called {name}, which every batch has.")
        if len(values) != num_examples:
            raise ValueError(
                f"there are {num_examples} examples but {len(values)} values in column {name}."
            )


def _read_ahead(
    batch_at: Callable[[int], Batch], start: int, stop: int, num_threads: int
) -> Iterator[Batch]:
    """The values of batch_at(start) to batch_at(stop - 1), prefetched on threads."""
    if start >= stop:
        return
    options = grain.ReadOptions(num_threads, 2 * num_threads)
    batches = iter(grain.MapDataset.range(start, stop).map(batch_at).to_iter_dataset(options))
    try:
        yield from batches
    finally:
        batches.close()
