"""Benchmark of `train_batches` alone, from memory and from records, by number of threads."""

import functools
import tempfile
import time
from pathlib import Path

import numpy as np

from ddb_jax.benchmark.bench import Bench, BenchmarkRow, in_turns
from ddb_jax.data.images.cache import divide
from ddb_jax.data.images.records import RecordSource, open_records, write_shard
from ddb_jax.data.input_pipeline import train_batches
from ddb_jax.data.source import ArraySource, Source

NUM_THREADS = (0, 1, 2, 4)
NUM_BATCHES = 200  # drawn in one round
NUM_IMAGES = 2048  # of which they are drawn, at most


def input_pipeline(bench: Bench) -> list[BenchmarkRow]:
    """Images a second, drawn shuffled and thrown away; the records were just written.

    What lies in the operating system's file cache is not read from the disk.
    """
    examples = bench.source.gather(np.arange(min(len(bench.source), NUM_IMAGES)))
    memory = ArraySource(examples["image"], examples["label"], examples["bias"])
    batch_size = bench.settings.batch_size

    def rate(source: Source, num_threads: int) -> float:
        begin = time.perf_counter()
        for _ in train_batches(
            source,
            batch_size=batch_size,
            seed=0,
            start_step=0,
            num_steps=NUM_BATCHES,
            num_threads=num_threads,
        ):
            pass
        return NUM_BATCHES * batch_size / (time.perf_counter() - begin)

    with tempfile.TemporaryDirectory() as folder:
        sources = {"memory": memory, "records": _write_records(memory, Path(folder))}
        turns = in_turns(
            {
                f"from {name}, {threads} threads": functools.partial(rate, source, threads)
                for name, source in sources.items()
                for threads in NUM_THREADS
            },
            bench.rounds,
        )
    return [
        BenchmarkRow(case, "images/s", values, foreign=turns.foreign)
        for case, values in turns.values.items()
    ]


def _write_records(source: ArraySource, folder: Path) -> RecordSource:
    """The images in shards as the cache of decoded images has them."""
    shards = divide(folder, source.paths, source.images[0].nbytes)
    first = 0
    for shard in shards:
        indices = np.arange(first, first + len(shard.paths))
        write_shard(shard.file, source.images[indices], source.labels[indices], indices)
        first += len(indices)
    return open_records([shard.file for shard in shards], source.image_shape)
