"""The table of stages: how each runs, what it reads, at which image size, and what it costs.

Adding a stage is one file, one row here, and one line in `run/plan.py`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ddb_jax.stages import costs
from ddb_jax.stages.amplifier import (
    frozen_features,
    given_scores,
    measure_synthesis,
    score,
    score_lda,
    synthesize,
    train_amplifier,
    train_diffusion,
)
from ddb_jax.stages.classifiers import evaluate, train_classifier, train_last_layer
from ddb_jax.stages.context import Context
from ddb_jax.stages.first_models import (
    frozen_maps,
    infer_environments,
    train_base,
    train_bias_features,
    train_committee,
    train_reference,
)
from ddb_jax.stages.generated import (
    caption,
    check_generated,
    draw,
    extract,
    filter_captions,
    score_generated,
    steer,
    train_autoencoder,
    train_balanced_diffusion,
    train_biased,
    train_text_to_image,
)
from ddb_jax.stages.report import report


class Stage(NamedTuple):
    """One row.

    Attributes:
        run: The stage itself. Returns what its `done.json` records as the result.
        data: The size of the real images that it is given and that its result depends on:
            "generator" or "classifier".
        reads: Config sections and dotted fields that its result depends on; a change of one makes
            the stage run again. A task may add some, such as the section of its method.
        shows: Sections and fields that it may look at, but that do not make it run again.
        cost: (work, options) -> what it does in words, and its floating-point operations; None for
            a stage of seconds.
        trains: The config section whose training step it compiles, for the estimate of memory:
            "diffusion", "amplifier" or "classifier"; "" for none of these.
    """

    run: Callable[[Context], dict[str, Any]]
    data: str
    reads: tuple[str, ...]
    shows: tuple[str, ...] = ()
    cost: Callable[[costs.Work, Mapping[str, Any]], tuple[str, float]] | None = None
    trains: str = ""


# Stands for every section of the config.
EVERYTHING = "*"

# How a predicted class and a loss become a pseudo-group; given scores read the other fields, too.
PSEUDO_GROUP_RULE = ("pseudo_groups.rule", "pseudo_groups.gamma")
DIFFUSION = ("data", "unet", "diffusion")
AMPLIFIER = ("data", "diffusion.image_size", "amplifier")
CLASSIFIER = ("data", "classifier")
AUGMENTATION = tuple(
    f"classifier.{name}" for name in ("trainable", "max_shift", "random_resized_crop", "flip")
)
# Of a network that is not trained.
BACKBONE = tuple(
    f"classifier.{name}"
    for name in (
        "network", "width", "stem", "norm", "dtype", "remat", "weights", "image_size",
        "normalization",
    )
)  # fmt: skip
AUTOENCODER = tuple(
    f"train_text_to_image.{name}"
    for name in (
        "image_size", "autoencoder_channels", "autoencoder_blocks", "latent_channels", "kl_weight",
        "norm_num_groups", "autoencoder",
    )
)  # fmt: skip

STAGES: dict[str, Stage] = {
    # DDB: the diffusion model, the amplifier, its scores.
    "train_diffusion": Stage(
        train_diffusion.run,
        "generator",
        DIFFUSION,
        # For its grid of samples: a new guidance scale must not train a new model.
        shows=("synthesis",),
        cost=costs.train_diffusion,
        trains="diffusion",
    ),
    "synthesize": Stage(
        synthesize.run, "generator", (*DIFFUSION, "synthesis"), cost=costs.synthesize
    ),
    "measure_synthesis": Stage(
        measure_synthesis.run,
        "generator",
        (*AMPLIFIER, "measure_synthesis"),
        cost=costs.measure_synthesis,
    ),
    "train_amplifier": Stage(
        train_amplifier.run,
        "generator",
        AMPLIFIER,
        cost=costs.train_amplifier,
        trains="amplifier",
    ),
    "score": Stage(score.run, "generator", (*AMPLIFIER, *PSEUDO_GROUP_RULE), cost=costs.score),
    "frozen_features": Stage(
        frozen_features.run,
        "classifier",
        ("data", "lda.features", *BACKBONE),
        cost=costs.frozen_features,
    ),
    "score_lda": Stage(
        score_lda.run, "classifier", ("data", "lda.refits", "lda.cross_fit", *PSEUDO_GROUP_RULE)
    ),
    "given_scores": Stage(
        given_scores.run,
        "classifier",
        ("data", "given_scores", "pseudo_groups"),
        shows=("methods",),  # to name those that need a column that is missing
    ),
    "frozen_maps": Stage(
        frozen_maps.run,
        "classifier",
        ("data", "last_block", *BACKBONE, *AUGMENTATION),
        cost=costs.frozen_maps,
    ),
    # Models that rivals train first.
    "train_reference": Stage(
        train_reference.run,
        "classifier",
        (*CLASSIFIER, "reference", *PSEUDO_GROUP_RULE),
        cost=costs.train_reference,
        trains="classifier",
    ),
    "infer_environments": Stage(infer_environments.run, "classifier", ("data", "eiil")),
    "train_committee": Stage(
        train_committee.run,
        "classifier",
        (*CLASSIFIER, "reference", "committee"),
        cost=costs.train_committee,
        trains="classifier",
    ),
    "train_bias_features": Stage(
        train_bias_features.run,
        "classifier",
        (*CLASSIFIER, "reference"),
        cost=costs.train_reference,
    ),
    "train_base": Stage(
        train_base.run, "classifier", CLASSIFIER, cost=costs.train_base, trains="classifier"
    ),
    # Generated images.
    "train_biased": Stage(
        train_biased.run,
        "classifier",
        (*CLASSIFIER, "biased", *PSEUDO_GROUP_RULE),
        cost=costs.train_biased,
        trains="classifier",
    ),
    "extract": Stage(extract.run, "classifier", ("data", "extraction")),
    "caption": Stage(
        caption.run,
        "classifier",
        ("data", "captions", "captioned", "text_filter.allow_empty_classes"),
    ),
    "filter_captions": Stage(filter_captions.run, "classifier", ("data", "text_filter")),
    "train_autoencoder": Stage(
        train_autoencoder.run,
        "generator",
        ("data", "captioned", *AUTOENCODER),
        shows=("train_text_to_image",),  # whose UNet must fit, else it stops before training
    ),
    "train_text_to_image": Stage(
        train_text_to_image.run,
        "generator",
        ("data", "captioned", "train_text_to_image"),
        cost=costs.train_text_to_image,
    ),
    "draw": Stage(draw.run, "classifier", ("data", "text_to_image", "generated"), cost=costs.draw),
    "train_balanced_diffusion": Stage(
        train_balanced_diffusion.run,
        "generator",
        (*DIFFUSION, "steering.fine_tune_steps"),
        shows=("synthesis",),
        cost=costs.train_balanced_diffusion,
        trains="diffusion",
    ),
    "steer": Stage(
        steer.run,
        "generator",
        (*DIFFUSION, "synthesis", "amplifier", "steering", "generated"),
        cost=costs.steer,
    ),
    "check_generated": Stage(check_generated.run, "classifier", (*CLASSIFIER, "biased", "gate")),
    "score_generated": Stage(score_generated.run, "generator", (*AMPLIFIER, *PSEUDO_GROUP_RULE)),
    # What all of it is for.
    "train_classifier": Stage(
        train_classifier.run,
        "classifier",
        CLASSIFIER,
        cost=costs.train_classifier,
        trains="classifier",
    ),
    "train_last_layer": Stage(train_last_layer.run, "classifier", CLASSIFIER),
    "evaluate": Stage(evaluate.run, "classifier", (*CLASSIFIER, "evaluation"), cost=costs.evaluate),
    "report": Stage(report.run, "classifier", (EVERYTHING,)),
}
