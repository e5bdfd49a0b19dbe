"""What each field of a config may hold, and how it counts in what a result depends on.

One row a field, by its dotted name. The defaults, with what each field is for, are in
configs/base.py. A flag or a text without a row may hold anything and counts by its value.
"""

from collections.abc import Callable, Collection
from typing import Literal, NamedTuple

from ddb_jax.checks.generated_images import CAPTIONS
from ddb_jax.data.datasets import DATASETS
from ddb_jax.data.images.decode import RESIZES
from ddb_jax.data.preprocessing import NORMALIZATIONS
from ddb_jax.debias.contract import SAMPLINGS
from ddb_jax.debias.pseudo_groups import RULES as PSEUDO_GROUP_RULES
from ddb_jax.diffusion.noise_schedule import SCHEDULES
from ddb_jax.diffusion.samplers import SAMPLERS, SPACINGS, VARIANCES
from ddb_jax.evaluation.selection import RULES as SELECTION_RULES
from ddb_jax.models.classifiers import NETWORKS
from ddb_jax.text_to_image.captioners import DECODINGS
from ddb_jax.text_to_image.layout import BETA_SCHEDULES
from ddb_jax.training.optimizer import LR_SCHEDULES, OPTIMIZERS


class Range(NamedTuple):
    """Numbers that a field may hold: a predicate, and its words for "it must be ..."."""

    holds: Callable[[float], bool]
    words: str


class Field(NamedTuple):
    """One row of the table.

    Attributes:
        range: Of a number.
        choices: Of a text; empty where it is free.
        entries: Type of the entries of a list; where it is float, whole numbers will do.
        counts: How the field enters what a result depends on. "value": as it is. "nothing": not at
            all, since it cannot change a result, only chooses tasks, or the hash of the data stands
            for its effect. "content": by the bytes of the file that it names. "listing": by the
            names and sizes of the files in the folder that it names, which may be gigabytes.
    """

    range: Range | None = None
    choices: Collection[str] = ()
    entries: type | None = None
    counts: Literal["value", "nothing", "content", "listing"] = "value"


ANY = Range(lambda x: True, "a number")
POSITIVE = Range(lambda x: x > 0, "greater than 0")
NOT_NEGATIVE = Range(lambda x: x >= 0, "at least 0")
SHARE = Range(lambda x: 0 <= x <= 1, "between 0 and 1")
PART = Range(lambda x: 0 < x < 1, "greater than 0 and less than 1")
BELOW_ONE = Range(lambda x: 0 <= x < 1, "at least 0 and less than 1")
SEED = Range(lambda x: 0 <= x < 2**32, "at least 0 and less than 2^32")
SEVERITY = Range(lambda x: 1 <= x <= 5, "between 1 and 5")

DTYPES = ("float32", "bfloat16")
PREDICTIONS = ("eps", "v")
UNSUPERVISED_RULES = [n for n, rule in SELECTION_RULES.items() if not rule.uses_bias_labels]


TRAINABLE = {
    "amplifier": ("all", "head", "head_batch_stats"),
    "classifier": ("all", "last_block", "head", "head_batch_stats"),
}


def _training(section: str) -> dict[str, Field]:
    """The rows of a section that says how a network is trained."""
    return {
        f"{section}.batch_size": Field(POSITIVE),
        f"{section}.num_steps": Field(POSITIVE),
        f"{section}.optimizer": Field(choices=OPTIMIZERS),
        f"{section}.learning_rate": Field(POSITIVE),
        f"{section}.lr_schedule": Field(choices=LR_SCHEDULES),
        f"{section}.warmup_steps": Field(NOT_NEGATIVE),
        f"{section}.weight_decay": Field(NOT_NEGATIVE),
        f"{section}.momentum": Field(BELOW_ONE),
        f"{section}.grad_clip": Field(NOT_NEGATIVE),
        f"{section}.log_every": Field(NOT_NEGATIVE, counts="nothing"),
        f"{section}.checkpoint_every": Field(NOT_NEGATIVE, counts="nothing"),
    }


def _classifier(section: str) -> dict[str, Field]:
    """The rows of a classifier's section, as `configs.base.classifier_section` makes it."""
    return {
        **_training(section),
        f"{section}.network": Field(choices=NETWORKS),
        f"{section}.width": Field(POSITIVE),
        f"{section}.stem": Field(choices=("imagenet", "cifar")),
        f"{section}.norm": Field(choices=("batch", "group")),
        f"{section}.dtype": Field(choices=DTYPES),
        f"{section}.remat": Field(counts="nothing"),
        f"{section}.weights": Field(counts="content"),
        f"{section}.trainable": Field(choices=TRAINABLE[section]),
        f"{section}.backbone_lr_scale": Field(NOT_NEGATIVE),
        f"{section}.image_size": Field(NOT_NEGATIVE),
        f"{section}.normalization": Field(choices=NORMALIZATIONS),
        f"{section}.max_shift": Field(NOT_NEGATIVE),
        f"{section}.random_resized_crop": Field(SHARE),
        f"{section}.accumulate": Field(POSITIVE),
    }


FIELDS: dict[str, Field] = {
    "seeds": Field(entries=int),
    "methods": Field(entries=str),
    "chosen": Field(counts="nothing"),
    "num_devices": Field(NOT_NEGATIVE),
    "fsdp": Field(POSITIVE),
    "data.name": Field(choices=DATASETS),
    "data.root": Field(counts="nothing"),
    "data.folders_are_classes": Field(counts="nothing"),
    "data.seed": Field(SEED),
    "data.validation_share": Field(PART),
    "data.test_share": Field(PART),
    "data.resize": Field(choices=RESIZES),
    "data.background": Field(counts="nothing"),
    "data.allow_leaks": Field(counts="nothing"),
    "data.max_broken": Field(NOT_NEGATIVE, counts="nothing"),
    "data.cache": Field(counts="nothing"),
    "data.num_threads": Field(NOT_NEGATIVE, counts="nothing"),
    "data.imagenet_a_root": Field(counts="nothing"),  # imagenet9.py
    # huggingface.py: the hash of the data stands for what the columns hold.
    "data.image_column": Field(counts="nothing"),
    "data.label_column": Field(counts="nothing"),
    "data.bias_column": Field(counts="nothing"),
    "data.aligned_share": Field(SHARE),  # digits.py
    "data.colour_jitter": Field(NOT_NEGATIVE),
    "data.reference_share": Field(BELOW_ONE),
    "data.conflicting_share": Field(SHARE),  # cmnist.py and ccifar10.py
    "data.severity": Field(SEVERITY),
    "unet.channels": Field(POSITIVE),
    "unet.channel_mults": Field(entries=int),
    "unet.num_res_blocks": Field(POSITIVE),
    "unet.attention_resolutions": Field(entries=int),
    "unet.num_heads": Field(POSITIVE),
    "unet.dropout": Field(BELOW_ONE),
    "unet.downsample": Field(choices=("paper", "conv")),
    "unet.upsample": Field(choices=("paper", "nearest")),
    "unet.dtype": Field(choices=DTYPES),
    "unet.remat": Field(counts="nothing"),
    **_training("diffusion"),
    "diffusion.image_size": Field(NOT_NEGATIVE),
    "diffusion.num_timesteps": Field(POSITIVE),
    "diffusion.noise_schedule": Field(choices=SCHEDULES),
    "diffusion.beta_start": Field(PART),
    "diffusion.beta_end": Field(PART),
    "diffusion.prediction": Field(choices=PREDICTIONS),
    "diffusion.label_dropout": Field(SHARE),
    "diffusion.label_dropout_unit": Field(choices=("example", "batch")),
    "diffusion.min_snr_gamma": Field(NOT_NEGATIVE),
    "diffusion.normalization": Field(choices=NORMALIZATIONS),
    "diffusion.ema_decay": Field(BELOW_ONE),
    "diffusion.accumulate": Field(POSITIVE),
    "synthesis.images_per_class": Field(POSITIVE),
    "synthesis.sampler": Field(choices=SAMPLERS),
    "synthesis.num_steps": Field(POSITIVE),
    "synthesis.spacing": Field(choices=("", *SPACINGS)),
    "synthesis.eta": Field(NOT_NEGATIVE),
    "synthesis.ddpm_variance": Field(choices=VARIANCES),
    "synthesis.guidance_scale": Field(NOT_NEGATIVE),
    "synthesis.batch_size": Field(POSITIVE),
    "synthesis.shard_size": Field(POSITIVE),
    "measure_synthesis.probe_steps": Field(NOT_NEGATIVE),
    **_classifier("amplifier"),
    "amplifier.kind": Field(choices=("network", "lda"), counts="nothing"),
    "amplifier.train_on": Field(choices=("synthetic", "real"), counts="nothing"),
    "amplifier.compare": Field(counts="nothing"),
    "amplifier.loss": Field(choices=("cross_entropy", "generalized_cross_entropy")),
    "amplifier.gce_q": Field(SHARE),
    "amplifier.label_smoothing": Field(BELOW_ONE),
    "lda.features": Field(choices=("stages", "last")),
    "lda.refits": Field(NOT_NEGATIVE),
    "lda.cross_fit": Field(Range(lambda x: x == 0 or x >= 2, "0, or at least 2")),
    "pseudo_groups.rule": Field(choices=PSEUDO_GROUP_RULES),
    "pseudo_groups.gamma": Field(ANY),  # below 0 the rule comes nearer to the error set
    "pseudo_groups.top_share": Field(PART),
    **_classifier("classifier"),
    "classifier.source_size": Field(NOT_NEGATIVE),
    "classifier.selection": Field(choices=UNSUPERVISED_RULES),
    "classifier.plain_selection": Field(choices=UNSUPERVISED_RULES),
    "classifier.oracle_selection": Field(choices=SELECTION_RULES),
    "classifier.evaluate_every": Field(NOT_NEGATIVE),
    "last_block.views": Field(POSITIVE),
    "given_scores.csv": Field(counts="content"),
    "search.tries": Field(POSITIVE),
    "search.seed": Field(SEED),
    "reference.num_steps": Field(POSITIVE),
    "evaluation.group_by": Field(choices=("conflicting", "bias")),
    "group_dro.step_size": Field(NOT_NEGATIVE),
    "group_dro.adjustment": Field(NOT_NEGATIVE),
    "group_dro.sampling": Field(choices=SAMPLINGS),
    "relative_difficulty.ema": Field(BELOW_ONE),
    "gce.q": Field(SHARE),
    "lff.gce_q": Field(SHARE),
    "lff.ema": Field(BELOW_ONE),
    "jtt.upweight": Field(POSITIVE),
    "committee.members": Field(POSITIVE),
    "committee.gce_q": Field(SHARE),
    "committee.confidence": Field(SHARE),
    "committee.agreement": Field(POSITIVE),
    "disent.gce_q": Field(SHARE),
    "disent.ema": Field(BELOW_ONE),
    "disent.swap_after": Field(NOT_NEGATIVE),
    "disent.lambda_dis": Field(NOT_NEGATIVE),
    "disent.lambda_swap": Field(NOT_NEGATIVE),
    "disent.lambda_swap_biased": Field(NOT_NEGATIVE),
    "selecmix.temperature": Field(POSITIVE),
    "selecmix.gce_q": Field(SHARE),
    "selecmix.auxiliary_lr_scale": Field(POSITIVE),
    "rebias.lambda_main": Field(NOT_NEGATIVE),
    "rebias.lambda_biased": Field(NOT_NEGATIVE),
    "rebias.bandwidth": Field(NOT_NEGATIVE),
    "rebias.biased_lr_scale": Field(POSITIVE),
    "debian.lambda_balance": Field(NOT_NEGATIVE),
    "debian.discoverer_lr_scale": Field(POSITIVE),
    "bias_contrastive.temperature": Field(POSITIVE),
    "bias_contrastive.ce_weight": Field(NOT_NEGATIVE),
    "eiil.num_steps": Field(POSITIVE),
    "eiil.learning_rate": Field(POSITIVE),
    "afr.held_out_share": Field(PART),
    "afr.gamma": Field(NOT_NEGATIVE),
    "afr.regularization": Field(NOT_NEGATIVE),
    "afr.learning_rate": Field(POSITIVE),
    "afr.num_steps": Field(POSITIVE),
    "afr.max_gradient_norm": Field(NOT_NEGATIVE),
    "dfr.c_grid": Field(entries=float),
    "dfr.refits": Field(POSITIVE),
    "dfr.penalty": Field(choices=("l1", "l2")),
    "bias_balance.smoothing": Field(POSITIVE),
    "bias_balance.strength": Field(NOT_NEGATIVE),
    # Fields of configs/generated_images.py.
    "biased.num_steps": Field(NOT_NEGATIVE),
    "biased.gce_q": Field(SHARE),
    "extraction.k": Field(POSITIVE),
    "captions.source": Field(choices=CAPTIONS),
    "captions.per_image": Field(POSITIVE),
    "captions.csv": Field(counts="content"),
    "captions.decoding": Field(choices=DECODINGS),
    "captions.features": Field(choices=("pixels", "pretrained")),
    "text_filter.words_per_class": Field(POSITIVE),
    "captioned.csv": Field(counts="content"),
    "captioned.vague_share": Field(SHARE),
    "text_to_image.folder": Field(counts="listing"),
    "text_to_image.image_size": Field(NOT_NEGATIVE),
    "text_to_image.sampler": Field(choices=SAMPLERS),
    "text_to_image.num_steps": Field(POSITIVE),
    "text_to_image.spacing": Field(choices=("", *SPACINGS)),
    "text_to_image.eta": Field(NOT_NEGATIVE),
    "text_to_image.guidance_scale": Field(NOT_NEGATIVE),
    "text_to_image.dtype": Field(choices=DTYPES),
    "text_to_image.batch_size": Field(POSITIVE),
    "text_to_image.shard_size": Field(POSITIVE),
    "train_text_to_image.start_from": Field(counts="listing"),
    "train_text_to_image.image_size": Field(NOT_NEGATIVE),
    "train_text_to_image.vocab_size": Field(POSITIVE),
    "train_text_to_image.text_width": Field(POSITIVE),
    "train_text_to_image.text_layers": Field(POSITIVE),
    "train_text_to_image.text_heads": Field(POSITIVE),
    "train_text_to_image.autoencoder_channels": Field(entries=int),
    "train_text_to_image.autoencoder_blocks": Field(POSITIVE),
    "train_text_to_image.latent_channels": Field(POSITIVE),
    "train_text_to_image.kl_weight": Field(NOT_NEGATIVE),
    "train_text_to_image.unet_channels": Field(entries=int),
    "train_text_to_image.unet_blocks": Field(POSITIVE),
    "train_text_to_image.unet_heads": Field(POSITIVE),
    "train_text_to_image.norm_num_groups": Field(POSITIVE),
    "train_text_to_image.num_timesteps": Field(POSITIVE),
    "train_text_to_image.beta_schedule": Field(choices=BETA_SCHEDULES),
    "train_text_to_image.beta_start": Field(PART),
    "train_text_to_image.beta_end": Field(PART),
    "train_text_to_image.prediction": Field(choices=PREDICTIONS),
    "train_text_to_image.min_snr_gamma": Field(NOT_NEGATIVE),
    "train_text_to_image.caption_dropout": Field(SHARE),
    "train_text_to_image.ema_decay": Field(BELOW_ONE),
    **_training("train_text_to_image.autoencoder"),
    **_training("train_text_to_image.diffusion"),
    "steering.gradient_scale": Field(NOT_NEGATIVE),
    "steering.difference_scale": Field(NOT_NEGATIVE),
    "steering.fine_tune_steps": Field(POSITIVE),
    "steering.guidance_scale": Field(NOT_NEGATIVE),
    "steering.rejection_guidance_scale": Field(NOT_NEGATIVE),
    "generated.ratio": Field(NOT_NEGATIVE),
    "gate.copy_ratio": Field(POSITIVE),
    "gate.copy_neighbours": Field(POSITIVE),
}
