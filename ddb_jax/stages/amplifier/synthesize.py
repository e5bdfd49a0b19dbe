"""Stage: draw the synthetic, bias-aligned training set of the amplifier.

Writes what `write_sampled_set` does, and `contact_sheet.png`. Image number i is drawn from
(seed, i) alone, so shards can be made in any order, by any number of devices, and a restart keeps
complete shards.
"""

from typing import Any

import jax
import numpy as np

from ddb_jax.runtime.files import read_json
from ddb_jax.stages.common.contact_sheet import save_grid
from ddb_jax.stages.common.generator import build_unet, init_unet_params, make_image_sampler
from ddb_jax.stages.common.picture_names import picture_names
from ddb_jax.stages.common.sampled_set import write_sampled_set
from ddb_jax.stages.context import Context
from ddb_jax.training.checkpoint import abstract_like, load_weights
from ddb_jax.training.mesh import replicated
from ddb_jax.training.rng import stream


def run(context: Context) -> dict[str, Any]:
    """Sample `images_per_class` images of every class."""
    config, settings, num_classes = context.config, context.config.synthesis, context.num_classes
    image_shape = context.dataset.train.image_shape
    unet = build_unet(config, num_classes)
    key = stream(context.seed, "synthesize")
    abstract = abstract_like(
        {"params": jax.eval_shape(lambda: init_unet_params(unet, key, image_shape))},
        replicated(context.mesh),
    )
    params = load_weights(context.inputs["train_diffusion"] / "weights", abstract)["params"]
    sample = make_image_sampler(config, num_classes, image_shape, context.mesh)

    # Classes alternate, so that every shard and every prefix of the set is balanced.
    total = num_classes * settings.images_per_class
    labels = np.arange(total, dtype=np.int32) % num_classes
    source, _ = write_sampled_set(
        context,
        lambda numbers: sample(params, key, numbers, labels[np.minimum(numbers, total - 1)]),
        labels,
        image_shape=image_shape,
        batch_size=settings.batch_size,
        shard_size=settings.shard_size,
        manifest={
            "diffusion_model": read_json(context.inputs["train_diffusion"] / "done.json")[
                "fingerprint"
            ],
            "sampler": settings.sampler,
            "network_evaluations": (
                config.diffusion.num_timesteps if settings.sampler == "ddpm" else settings.num_steps
            ),
            "guidance_scale": settings.guidance_scale,
        },
    )
    rows = [source.images[source.labels == i][:16] for i in range(num_classes)]
    names = picture_names(context.dataset.class_names)
    save_grid(context.folder / "contact_sheet.png", rows, names)
    return {"images": total}
