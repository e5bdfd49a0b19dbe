"""Stage: everything below the last block of the classifier's network, computed once.

The network has its ImageNet weights, and is frozen. Writes `maps_train.npy`, float16
[N, views, h, w, C], of random crops and flips as in training, and `maps_validation.npy`, float16
[N, 1, h, w, C], of the images as in evaluation.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddb_jax.data.input_pipeline import eval_batches
from ddb_jax.data.preprocessing import augment, to_input
from ddb_jax.data.source import Source
from ddb_jax.runtime.files import save_array
from ddb_jax.runtime.processes import this_process
from ddb_jax.runtime.progress import Progress
from ddb_jax.stages.common.cached_maps import file_name
from ddb_jax.stages.common.classifier_training import first_variables
from ddb_jax.stages.common.networks import build_classifier, input_size, small_batch
from ddb_jax.stages.context import Context
from ddb_jax.training.compilation import jit
from ddb_jax.training.mesh import replicated, shard_batch
from ddb_jax.training.rng import stream


def run(context: Context) -> dict[str, Any]:
    """Pass the views through the lower layers."""
    settings, dataset = context.config.classifier, context.dataset
    size, views = input_size(settings, dataset.train), context.config.last_block.views
    model = build_classifier(settings, context.num_classes)
    weights = jax.device_put(
        first_variables(context, settings, context.num_classes, size), replicated(context.mesh)
    )

    def seen(key: jax.Array, images: jax.Array) -> jax.Array:
        images = augment(
            key,
            images,
            max_shift=settings.max_shift,
            flip=settings.flip,
            crop_size=size,
            min_area=settings.random_resized_crop,
        )
        return to_input(images, size, settings.normalization)

    def below(weights: Any, images: jax.Array, key: jax.Array, random: bool) -> jax.Array:
        x = seen(key, images) if random else to_input(images, size, settings.normalization)
        return model.apply(weights, x, train=False, part="below").astype(jnp.float16)

    compiled = jit(below, static_argnames="random", out_shardings=replicated(context.mesh))
    key, shape = stream(context.seed, "frozen_maps"), ()
    for split, count in (("train", views), ("validation", 1)):
        source = dataset.splits[split]
        maps = None
        progress = Progress(f"{context.name}, {split}", len(source) * count, unit="views")
        for first, images, kept in _batches(context, source, small_batch(size)):
            for i in range(count):
                context.leave_if_stopped("nothing is kept of this stage")
                own = jax.random.fold_in(jax.random.fold_in(key, first), i)
                part = jax.device_get(compiled(weights, images, own, split == "train"))[:kept]
                if maps is None:
                    maps = np.empty((len(source), count, *part.shape[1:]), np.float16)
                maps[first : first + kept, i] = part
            progress.update((first + kept) * count)
        progress.close()
        save_array(context.folder / file_name(split), maps)
        shape = maps.shape[2:]
    return {"views": views, "map": list(shape)}


def _batches(context: Context, source: Source, size: int) -> Any:
    """(position of the first image, the images on the devices, how many are not filling)."""
    size = -(-size // context.mesh.size) * context.mesh.size
    for i, batch in enumerate(eval_batches(source, size, **this_process())):
        images = shard_batch(context.mesh, {"image": batch["image"]})["image"]
        yield i * size, images, min(size, len(source) - i * size)
