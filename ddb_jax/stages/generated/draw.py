"""Stage: a text-to-image model draws images from captions (DiffuBias, arXiv 2411.16079).

Writes what `write_sampled_set` does, `prompts.csv` and `contact_sheet.png`. Image number i depends
only on (seed, i) and its caption.
"""

from typing import Any

import numpy as np

from ddb_jax.runtime.files import local_copy, read_json
from ddb_jax.stages.common.contact_sheet import save_grid
from ddb_jax.stages.common.images_per_class import images_per_class, labels_in_turn
from ddb_jax.stages.common.picture_names import picture_names
from ddb_jax.stages.common.sampled_set import write_sampled_set
from ddb_jax.stages.common.scores_table import rank_in_class
from ddb_jax.stages.context import Context
from ddb_jax.stages.generated.captions_table import read_caption_table, write_rows
from ddb_jax.text_to_image.latent_diffusion import encode_texts, load_model
from ddb_jax.text_to_image.latent_sampling import make_latent_sampler, sample_side
from ddb_jax.training.rng import stream

PROMPTS = "prompts.csv"
# index is the training image that the caption describes; -1 where nobody knows.
COLUMNS = ("number", "label", "index", "caption")


def run(context: Context) -> dict[str, Any]:
    """Draw as many images of every class as `generated.ratio` asks for."""
    settings = context.config.text_to_image
    captions = read_caption_table(context.inputs["captions"])
    chosen = _choose_captions(context, captions.labels)
    labels, total = captions.labels[chosen], len(chosen)
    prompts = [captions.captions[i] for i in chosen]
    rows = zip(
        range(total), labels.tolist(), captions.indices[chosen].tolist(), prompts, strict=True
    )
    write_rows(context.folder / PROMPTS, COLUMNS, rows)

    if settings.folder:
        name, model = settings.folder, load_model(settings.folder, settings.dtype)
    else:
        trained = context.inputs["train_text_to_image"]
        name = read_json(trained / "done.json")["fingerprint"]
        with local_copy(trained / "model") as folder:
            model = load_model(folder, settings.dtype)
    side = sample_side(model, settings.image_size)
    sample = make_latent_sampler(model, settings, context.mesh)
    texts = list(dict.fromkeys([*prompts, settings.negative_prompt]))
    contexts = encode_texts(model, texts, context.mesh)
    places = {text: place for place, text in enumerate(texts)}
    of_image = np.array([places[prompt] for prompt in prompts])
    key = stream(context.seed, "draw")

    def draw(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        of_batch = of_image[np.minimum(numbers, total - 1)]
        return sample(key, numbers, contexts[[*of_batch, places[settings.negative_prompt]]])

    steps = model.schedule.num_timesteps if settings.sampler == "ddpm" else settings.num_steps
    source, _ = write_sampled_set(
        context,
        draw,
        labels,
        image_shape=(side, side, 3),
        batch_size=settings.batch_size,
        shard_size=settings.shard_size,
        manifest={
            "text_to_image_model": name,
            "sampler": settings.sampler,
            "network_evaluations": steps,
            "guidance_scale": settings.guidance_scale,
            "negative_prompt": settings.negative_prompt,
        },
    )
    rows = [source.images[source.labels == i][:16] for i in range(context.num_classes)]
    names = picture_names(context.dataset.class_names)
    save_grid(context.folder / "contact_sheet.png", rows, names)
    return {"images": total, "captions": len(set(prompts))}


def _choose_captions(context: Context, labels: np.ndarray) -> np.ndarray:
    """int64 [N]: the caption of every image to draw, by its place in the table.

    Image i of a class has the class's caption i modulo their number. A class without captions, if
    earlier stages allowed it, has no images.
    """
    available = np.bincount(labels, minlength=context.num_classes)
    counts = available
    if context.config.generated.ratio:
        counts = np.where(available, images_per_class(context), 0)
    of_image = labels_in_turn(counts)
    ranks = (rank_in_class(of_image) - 1) % available[of_image]
    by_class = np.argsort(labels, kind="stable")
    first = np.cumsum(available) - available
    return by_class[first[of_image] + ranks]
