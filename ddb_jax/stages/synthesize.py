"""Stage: draw the synthetic, bias-aligned training set of the amplifier.

Writes ArrayRecord shards, `manifest.json` and `contact_sheet.png`. Image number i is drawn from
(seed, i) alone, so that shards may be made in any order, by any number of devices, and a restart
keeps the shards that are whole.
"""

from typing import Any

import jax
import numpy as np

from ddb_jax.data.image_records import load_records, write_shard
from ddb_jax.stages.contact_sheet import save_grid
from ddb_jax.stages.context import Context
from ddb_jax.stages.generator import build_unet, init_params, make_sample
from ddb_jax.training.checkpoint import abstract_like, load_weights
from ddb_jax.training.errors import UserError
from ddb_jax.training.files import read_json, write_json
from ddb_jax.training.mesh import replicated
from ddb_jax.training.progress import Progress
from ddb_jax.training.rng import stream


def run(context: Context) -> dict[str, Any]:
    """Sample `images_per_class` images of every class."""
    config, settings, num_classes = context.config, context.config.synthesis, context.num_classes
    image_shape = context.generator_dataset.train.image_shape
    unet = build_unet(config, num_classes)
    key = stream(context.seed, "synthesize")
    abstract = abstract_like(
        {"params": jax.eval_shape(lambda: init_params(unet, key, image_shape))},
        replicated(context.mesh),
    )
    params = load_weights(context.inputs["train_diffusion"] / "weights", abstract)["params"]
    sample = make_sample(config, num_classes, image_shape, context.mesh)

    # Classes alternate, so that every shard and every prefix of the set is balanced.
    total = num_classes * settings.images_per_class
    labels = np.arange(total, dtype=np.int32) % num_classes
    num_shards = -(-total // settings.shard_size)
    paths = [
        context.folder / f"images-{i:05d}-of-{num_shards:05d}.arrayrecord"
        for i in range(num_shards)
    ]
    # No larger than a shard, but for the devices' sake.
    devices = context.mesh.size
    batch_size = min(settings.batch_size, -(-settings.shard_size // devices) * devices)
    progress = Progress(context.name, total, unit="images")
    for shard, path in enumerate(paths):
        first, end = shard * settings.shard_size, min((shard + 1) * settings.shard_size, total)
        if path.exists():
            continue
        images = []
        for begin in range(first, end, batch_size):
            context.leave_if_stopped(f"{shard} of {num_shards} shards are written")
            numbers = np.arange(begin, begin + batch_size, dtype=np.int32)
            batch = sample(params, key, numbers, labels[np.minimum(numbers, total - 1)])
            images.append(batch[: end - begin])
            progress.update(min(begin + batch_size, end))
        try:
            write_shard(path, np.concatenate(images), labels[first:end], np.arange(first, end))
        except (OSError, RuntimeError) as error:  # array_record raises the latter on a full disk
            raise UserError(
                f"the images could not be written to {path} ({error});"
                " make room and run again: the files before it are whole."
            ) from error
    progress.close()

    source = load_records(paths, image_shape)
    write_json(
        context.folder / "manifest.json",
        {
            "diffusion_model": read_json(context.inputs["train_diffusion"] / "done.json")[
                "fingerprint"
            ],
            "sampler": settings.sampler,
            "network_evaluations": (
                config.diffusion.num_timesteps if settings.sampler == "ddpm" else settings.num_steps
            ),
            "guidance_scale": settings.guidance_scale,
            "seed": context.seed,
            "image_shape": list(image_shape),
            "shards": [path.name for path in paths],
            "counts": {
                name: int(np.sum(source.labels == i))
                for i, name in enumerate(context.generator_dataset.class_names)
            },
        },
    )
    rows = [source.images[source.labels == i][:16] for i in range(num_classes)]
    save_grid(context.folder / "contact_sheet.png", rows, context.generator_dataset.class_names)
    return {"images": total}
