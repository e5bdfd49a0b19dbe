"""What the fields of a config may hold: tables of choices and of ranges."""

from collections.abc import Callable, Iterable

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

DTYPES = ("float32", "bfloat16")
NORMS = ("batch", "group")
LOSSES = ("cross_entropy", "generalized_cross_entropy")

UNSUPERVISED_RULES = [n for n, rule in SELECTION_RULES.items() if not rule.uses_bias_labels]
# Fields that hold lists, and of what.
LISTS = {"methods": str, "dfr.c_grid": float}

CHOICES: dict[str, Iterable[str]] = {
    "data.name": DATASETS,
    "data.resize": RESIZES,
    "evaluation.group_by": ("conflicting", "bias"),
    "unet.downsample": ("paper", "conv"),
    "unet.upsample": ("paper", "nearest"),
    "unet.dtype": DTYPES,
    "diffusion.noise_schedule": SCHEDULES,
    "diffusion.prediction": ("eps", "v"),
    "diffusion.label_dropout_unit": ("example", "batch"),
    "diffusion.normalization": NORMALIZATIONS,
    "diffusion.optimizer": OPTIMIZERS,
    "diffusion.lr_schedule": LR_SCHEDULES,
    "synthesis.sampler": SAMPLERS,
    "synthesis.spacing": ("", *SPACINGS),
    "synthesis.ddpm_variance": VARIANCES,
    "amplifier.train_on": ("synthetic", "real"),
    "amplifier.loss": LOSSES,
    "pseudo_groups.rule": PSEUDO_GROUP_RULES,
    "classifier.selection": UNSUPERVISED_RULES,
    "classifier.plain_selection": UNSUPERVISED_RULES,
    "classifier.oracle_selection": SELECTION_RULES,
    "group_dro.sampling": SAMPLINGS,
    "dfr.penalty": ("l1", "l2"),
    "captions.source": CAPTIONS,
    "captions.decoding": DECODINGS,
    "captions.features": ("pixels", "pretrained"),
    "text_to_image.sampler": SAMPLERS,
    "text_to_image.spacing": ("", *SPACINGS),
    "text_to_image.dtype": DTYPES,
    "train_text_to_image.beta_schedule": BETA_SCHEDULES,
    "train_text_to_image.prediction": ("eps", "v"),
}
for _section in ("train_text_to_image.autoencoder", "train_text_to_image.diffusion"):
    CHOICES |= {f"{_section}.optimizer": OPTIMIZERS, f"{_section}.lr_schedule": LR_SCHEDULES}
for _section in ("amplifier", "classifier"):
    CHOICES |= {
        f"{_section}.network": NETWORKS,
        f"{_section}.stem": ("imagenet", "cifar"),
        f"{_section}.norm": NORMS,
        f"{_section}.dtype": DTYPES,
        f"{_section}.optimizer": OPTIMIZERS,
        f"{_section}.lr_schedule": LR_SCHEDULES,
        f"{_section}.normalization": NORMALIZATIONS,
        f"{_section}.trainable": ("all", "head", "head_batch_stats"),
    }

# Field patterns and the range that a number in them must lie in.
RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    r".*\.(aligned_share|label_dropout|label_smoothing|dropout|random_resized_crop"
    r"|conflicting_share|confidence|vague_share|caption_dropout)": (
        lambda x: 0 <= x <= 1, "between 0 and 1"
    ),
    r".*\.(validation_share|test_share|held_out_share|top_share)": (
        lambda x: 0 < x < 1, "greater than 0 and less than 1"
    ),
    r"(data|search)\.seed": (lambda x: 0 <= x < 2**32, "at least 0 and less than 2^32"),
    r"fsdp|(?!biased).*\.(num_steps|batch_size|width|channels|num_timesteps|num_res_blocks|num_heads"
    r"|images_per_class|shard_size|learning_rate|upweight|smoothing|tries|members|agreement|refits"
    r"|temperature|(auxiliary|biased|discoverer)_lr_scale|k|per_image|words_per_class|vocab_size"
    r"|text_width|text_layers|text_heads|autoencoder_blocks|latent_channels|unet_blocks|unet_heads"
    r"|norm_num_groups|accumulate|fine_tune_steps|copy_ratio|copy_neighbours)": (
        lambda x: x > 0, "greater than 0"
    ),
    r"num_devices|afr\.gamma|.*\.(warmup_steps|weight_decay|grad_clip|log_every|checkpoint_every|evaluate_every|max_shift"
    r"|image_size|source_size|backbone_lr_scale|max_broken|num_threads"
    r"|probe_steps|min_snr_gamma|step_size|adjustment|strength|colour_jitter|guidance_scale|eta|swap_after"
    r"|lambda_\w+|bandwidth|regularization|max_gradient_norm|ce_weight|ratio|kl_weight|\w+_scale)"
    r"|biased\.num_steps": (
        lambda x: x >= 0, "at least 0"
    ),
    r".*\.(ema_decay|ema|momentum)": (lambda x: 0 <= x < 1, "at least 0 and less than 1"),
    r".*\.(beta_start|beta_end)": (lambda x: 0 < x < 1, "between 0 and 1"),
    r".*\.reference_share": (lambda x: 0 <= x < 1, "at least 0 and less than 1"),
    r".*\.gce_q|gce\.q": (lambda x: 0 <= x <= 1, "between 0 and 1"),
}  # fmt: skip
