"""Benchmark of random resized crop, flip and normalisation: on the device, or by Pillow."""

import functools
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
from PIL import Image

from ddb_jax.benchmark.bench import Bench, BenchmarkRow, in_turns
from ddb_jax.data.preprocessing import NORMALIZATIONS, augment, to_input
from ddb_jax.stages.common.networks import input_size
from ddb_jax.training.compilation import jit
from ddb_jax.training.mesh import shard_batch
from ddb_jax.training.rng import stream

BATCH_SIZE = 64
NUM_BATCHES = 4  # in one round
MIN_AREA = 0.08  # of the crops, where the config has none


def augmentation(bench: Bench) -> list[BenchmarkRow]:
    """Images a second, from uint8 on the host to float32 on the device."""
    settings, size = bench.settings, input_size(bench.settings, bench.source)
    min_area = settings.random_resized_crop or MIN_AREA
    num_images = -(-BATCH_SIZE // bench.mesh.size) * bench.mesh.size
    images = bench.source.gather(np.arange(num_images) % len(bench.source))["image"]
    key = stream(0, "benchmark/augment")

    @jit
    def augment_batch(images: jax.Array, step: int) -> jax.Array:
        step_key = jax.random.fold_in(key, step)
        images = augment(step_key, images, flip=True, crop_size=size, min_area=min_area)
        return to_input(images, size, settings.normalization)

    def on_device(step: int) -> jax.Array:
        return augment_batch(shard_batch(bench.mesh, {"image": images})["image"], step)

    def on_host(pool: ThreadPoolExecutor, step: int) -> jax.Array:
        def augment_one(index: int) -> np.ndarray:
            rng = np.random.default_rng([0, step, index])
            return augment_on_host(rng, images[index], size, min_area, settings.normalization)

        x = np.stack(list(pool.map(augment_one, range(num_images))))
        return shard_batch(bench.mesh, {"x": x})["x"]

    def rate(make_batch: Callable[[int], jax.Array]) -> float:
        begin = time.perf_counter()
        for step in range(NUM_BATCHES):
            jax.block_until_ready(make_batch(step))
        return NUM_BATCHES * num_images / (time.perf_counter() - begin)

    jax.block_until_ready(on_device(0))  # compiles
    cases = {"on the device": functools.partial(rate, on_device)}
    pools = {n: ThreadPoolExecutor(n) for n in (1, os.cpu_count() or 1)}
    for threads, pool in pools.items():
        case = f"by Pillow on the host, {threads} threads"
        cases[case] = functools.partial(rate, functools.partial(on_host, pool))
    turns = in_turns(cases, bench.rounds)
    for pool in pools.values():
        pool.shutdown()
    return [
        BenchmarkRow(case, "images/s", values, foreign=turns.foreign)
        for case, values in turns.values.items()
    ]


def augment_on_host(
    rng: np.random.Generator, image: np.ndarray, size: int, min_area: float, normalization: str
) -> np.ndarray:
    """What `augment` with a `random_resized_crop` and a flip does, for one image and normalised.

    Args:
        rng: Draws the crop and the flip.
        image: uint8 [S, S, 3].
        size: Side of the result.
        min_area: Least share of the area that the crop has.
        normalization: Name in NORMALIZATIONS.

    Returns:
        float32 [size, size, 3].
    """
    side = len(image)
    log_ratio = rng.uniform(np.log(3 / 4), np.log(4 / 3))
    sides = side * np.sqrt(rng.uniform(min_area, 1)) * np.exp(log_ratio * np.array([-0.5, 0.5]))
    height, width = np.clip(np.round(sides), 1, side)
    top, left = np.floor(rng.uniform(size=2) * (side - np.array([height, width]) + 1))
    box = (left, top, left + width, top + height)
    picture = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box=box)
    pixels = np.asarray(picture, np.float32)[:, :: 1 if rng.random() < 0.5 else -1]
    mean, std = np.float32(NORMALIZATIONS[normalization])
    return (pixels / np.float32(255) - mean) / std
