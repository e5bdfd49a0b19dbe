"""Every field of a run, with its default; a dataset's config changes only what differs.

`get_config()` holds the settings of the paper's experiments as far as they are known
(Diffusing DeBias, arXiv 2502.09564, and its released diffusion code); where that code is odd, the
default is what is right and the comment names the value that does what the code does.
"""

import difflib
from collections.abc import Callable

from ml_collections import ConfigDict

from ddb_jax.configs import generated_images


def get_config(preset: str = "") -> ConfigDict:
    """The full config; it has no presets, its dataset files do."""
    c = ConfigDict()
    c.name = "base"  # names the default work directory, runs/<name>
    c.seeds = (0,)  # one run of every method for each seed
    # One diffusion model and one amplifier, of the first seed, for all seeds; False makes them
    # anew for each seed, which is the stricter repetition.
    c.share_upstream = True
    c.methods = ("erm", "ddb_i", "ddb_ii", "group_dro")
    c.num_devices = 0  # 0 uses all that are visible
    # Devices that share one copy of a train state, each holding its part of the longer arrays.
    c.fsdp = 1

    c.data = ConfigDict()
    c.data.name = ""  # see ddb_jax/data/datasets.py
    c.data.root = ""  # folder, or CSV file, of the original images
    c.data.seed = 0  # of splits and of generated colours; not changed by `seeds`
    # Of train, where the set brings no validation split; cmnist has its last 5,000.
    c.data.validation_share = 0.1
    c.data.test_share = 0.2  # of train, where the set brings no test split
    # Image files are brought to squares: "squash" scales both sides, "center_crop" the shorter one
    # and cuts off the ends of the longer; "none" takes only images that have the size.
    c.data.resize = "squash"
    c.data.max_broken = 0  # images that may be left out because they cannot be read
    c.data.cache = ""  # folder of the decoded images; "" is ddb_jax in the user's cache folder
    c.data.num_threads = 0  # that decode; 0 is one per core

    c.unet = ConfigDict()
    c.unet.channels = 128
    c.unet.channel_mults = (1, 2, 2, 2)
    c.unet.num_res_blocks = 2
    c.unet.attention_resolutions = (64, 32, 16, 8)  # sides at which encoder blocks attend
    c.unet.num_heads = 1
    c.unet.dropout = 0.15
    c.unet.downsample = "paper"  # 3x3 and 5x5 stride-2 convolutions summed; "conv": the 3x3 alone
    c.unet.upsample = "paper"  # 5x5 transposed convolution, then 3x3; "nearest": repeat, then 3x3
    c.unet.trainable_time_table = False  # True is the code's: sinusoids as a trained table
    c.unet.zero_init_output = True  # False is the code's
    c.unet.dtype = "float32"  # of the computation, or "bfloat16"; parameters stay float32
    # Rematerialisation: a block's inner values are computed again when its gradient is, instead of
    # kept. A training step takes less memory and up to a third more time.
    c.unet.remat = False

    c.diffusion = ConfigDict()
    c.diffusion.image_size = 64  # side in pixels of what it learns and draws
    c.diffusion.num_timesteps = 1000
    c.diffusion.noise_schedule = "linear"  # or "cosine"
    c.diffusion.beta_start = 1e-4  # linear only
    c.diffusion.beta_end = 0.028
    c.diffusion.prediction = "eps"  # or "v"
    c.diffusion.label_dropout = 0.1  # share of examples trained without their class
    c.diffusion.label_dropout_unit = "example"  # "batch" is the code's: a whole batch at once
    c.diffusion.min_snr_gamma = 0.0  # 5 is usual (arXiv 2303.09556); 0 is off, as in the paper
    # "imagenet" trains on images normalised by ImageNet's mean and deviation, as the code does,
    # and still saves 0.5 x + 0.5: its samples are contrast-stretched.
    c.diffusion.normalization = "symmetric"
    c.diffusion.flip = False  # random horizontal flips
    c.diffusion.ema_decay = 0.9999  # 0 is the code's: no running average
    c.diffusion.batch_size = 32
    # Parts of a batch that are computed one after the other, their gradients averaged: as many
    # times less memory for the network's inner values. Only dropout differs from one part.
    c.diffusion.accumulate = 1
    c.diffusion.num_steps = 100_000
    c.diffusion.optimizer = "adamw"
    c.diffusion.learning_rate = 2.5e-4
    c.diffusion.lr_schedule = "cosine"  # or "constant"; after a linear warm-up
    c.diffusion.warmup_steps = 10_000
    c.diffusion.weight_decay = 1e-4
    c.diffusion.momentum = 0.9  # sgd only
    c.diffusion.grad_clip = 1.0
    c.diffusion.log_every = 100
    c.diffusion.checkpoint_every = 5_000

    c.synthesis = ConfigDict()
    c.synthesis.images_per_class = 1000
    c.synthesis.sampler = "dpmpp_2m"  # "ddim", or "ddpm" (the paper's; takes every timestep)
    c.synthesis.num_steps = 50  # network evaluations; not read by "ddpm"
    c.synthesis.spacing = ""  # of the timesteps: "uniform", "quadratic", "" for the sampler's own
    c.synthesis.eta = 0.0  # ddim: 0 is deterministic, 1 as noisy as ddpm
    c.synthesis.ddpm_variance = "posterior"  # "beta" is the code's
    # uncond + guidance_scale * (cond - uncond): 1 is no guidance. The paper's w is
    # guidance_scale - 1, so its w = 1 is 2 here.
    c.synthesis.guidance_scale = 2.0
    c.synthesis.clip_x_start = True
    c.synthesis.batch_size = 200
    c.synthesis.shard_size = 1000  # images a file; what a kill can lose

    c.measure_synthesis = ConfigDict()
    c.measure_synthesis.probe_steps = 300  # of the probe of the aligned share; 0 is off

    c.amplifier = classifier_section()
    c.amplifier.image_size = 0  # it sees real and synthetic images at the generator's size
    c.amplifier.train_on = "synthetic"  # "real" is the ablation
    c.amplifier.compare = False  # also train it on the other source, for the report
    c.amplifier.loss = "cross_entropy"  # or "generalized_cross_entropy"
    c.amplifier.gce_q = 0.7
    c.amplifier.gce_scaled = False  # True is LfF's code: q p^q times cross-entropy
    # Of cross_entropy. An amplifier that is too sure of the aligned images gives them a loss, and
    # with it a weight in Recipe II, of almost nothing: the classifier then sees conflicting images
    # alone and unlearns the aligned ones.
    c.amplifier.label_smoothing = 0.0

    c.pseudo_groups = ConfigDict()
    # "error_set": conflicting is what the amplifier misclassifies. "loss_threshold": and whose
    # loss exceeds mean + gamma * std of the losses of what it classifies correctly.
    c.pseudo_groups.rule = "loss_threshold"
    c.pseudo_groups.gamma = 3.0
    # Of every class, held to conflict where given scores come without predictions.
    c.pseudo_groups.top_share = 0.05

    c.classifier = classifier_section()
    # Side of the prepared images, of which training crops a random part and evaluation the central
    # one; 0 is image_size.
    c.classifier.source_size = 0
    # Chooses the step whose weights are kept, see ddb_jax/evaluation/selection.py.
    c.classifier.selection = "worst_pseudo_group"
    c.classifier.plain_selection = "average"  # for methods without the amplifier: erm, lff, ...
    c.classifier.oracle_selection = "worst_true_group"  # for methods that use bias labels
    c.classifier.evaluate_every = 500

    c.given_scores = ConfigDict()
    # CSV of scores or pseudo-groups from anywhere, in the place of the amplifier's; "" is none. See
    # ddb_jax/data/scores_file.py for its columns.
    c.given_scores.csv = ""

    c.search = ConfigDict()
    # Runs of every method on the first seed, the config as it is and random draws of its learning
    # rate and two or three fields; the selection rule chooses. 1 is no search.
    c.search.tries = 1
    c.search.seed = 0

    # The first model of jtt and eiil, the committee, softcon's bias network.
    c.reference = ConfigDict()
    c.reference.num_steps = 500

    c.evaluation = ConfigDict()
    # Groups of evaluation and of the oracles: "conflicting" crosses the class with
    # aligned/conflicting, "bias" crosses it with every value of the bias attribute.
    c.evaluation.group_by = "conflicting"

    c.group_dro = ConfigDict()  # ddb_i, ddb_i_error_set and group_dro
    c.group_dro.step_size = 0.01
    c.group_dro.adjustment = 0.0
    c.group_dro.sampling = "group_balanced"  # or "uniform"

    c.relative_difficulty = ConfigDict()  # ddb_ii
    c.relative_difficulty.ema = 0.0
    c.relative_difficulty.class_normalize = False
    c.relative_difficulty.normalize_weights = False

    c.gce = ConfigDict()
    c.gce.q = 0.7  # 0 is cross-entropy, 1 is 1 - p
    c.gce.scaled = False  # True is the form of LfF's code, with q times the gradient

    c.lff = ConfigDict()
    c.lff.gce_q = 0.7  # of the biased network
    c.lff.gce_scaled = False
    c.lff.ema = 0.7  # of the memories of per-example losses

    c.jtt = ConfigDict()  # jtt and jtt+ddb
    c.jtt.upweight = 50  # times that an error stands in an epoch; the published grid: 20, 50, 100

    c.committee = ConfigDict()  # BiasEnsemble, lff+be and disent+be
    c.committee.members = 5
    c.committee.gce_q = 0.7
    c.committee.gce_scaled = False
    c.committee.confidence = 0.99  # a member agrees with a label that it gives more than this
    c.committee.agreement = 3  # members that must agree for an image to count as aligned

    c.disent = ConfigDict()  # disent, disent+ddb and disent+be
    c.disent.gce_q = 0.7  # of the biased branch
    c.disent.gce_scaled = False
    c.disent.ema = 0.7  # of the memories of per-example losses
    c.disent.swap_after = 1_000  # steps before biased codes are swapped; published 10,000 of 50,000
    c.disent.lambda_dis = 1.0  # of the biased branch's loss; CMNIST 10, C-CIFAR-10 1 or 5, BFFHQ 2
    c.disent.lambda_swap = 1.0  # of the loss on swapped codes; C-CIFAR-10 1 or 5, BFFHQ 0.1
    c.disent.lambda_swap_biased = 1.0  # of the biased loss within it; as lambda_dis

    c.selecmix = ConfigDict()
    c.selecmix.temperature = 0.2  # of the auxiliary network's contrastive loss
    c.selecmix.gce_q = 0.7
    c.selecmix.gce_scaled = False
    c.selecmix.auxiliary_lr_scale = 1.0  # published 2 on CMNIST, 1 on C-CIFAR-10

    c.rebias = ConfigDict()
    c.rebias.lambda_main = 1.0  # weight of the dependence that the classifier minimises
    c.rebias.lambda_biased = 1.0  # and that the biased network maximises
    # Of the kernels; 0 is the median distance in the batch. The published 1 is nothing on features
    # that lie further apart, and the method then plain training.
    c.rebias.bandwidth = 0.0
    c.rebias.biased_lr_scale = 1.0

    c.debian = ConfigDict()
    c.debian.lambda_balance = 1.0  # weight against classes that fall into one group
    c.debian.discoverer_lr_scale = 1.0

    c.bias_contrastive = ConfigDict()  # softcon and bias_con
    c.bias_contrastive.temperature = 0.07
    c.bias_contrastive.ce_weight = 1.0  # beside the contrastive loss; 0.01 on Biased MNIST

    c.eiil = ConfigDict()
    c.eiil.num_steps = 10_000  # of Adam on the assignment of the training images
    c.eiil.learning_rate = 0.001

    c.afr = ConfigDict()  # afr and afr+ddb; the values are those for Waterbirds
    c.afr.held_out_share = 0.2  # of the training images, on which the last layer is fitted
    c.afr.gamma = 10.0  # sharpness of the weights exp(-gamma p)
    c.afr.balance_classes = True
    c.afr.regularization = 0.0  # of the squared distance from the first head; CelebA 0.001
    c.afr.learning_rate = 0.01
    c.afr.num_steps = 500
    c.afr.max_gradient_norm = 1.0  # 0 is off

    c.dfr = ConfigDict()  # dfr and dfr+ddb
    c.dfr.c_grid = (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01)  # inverse penalties to choose from
    c.dfr.refits = 20  # fits on group-balanced subsamples, whose coefficients are averaged
    c.dfr.penalty = "l1"  # or "l2"
    c.bias_balance = ConfigDict()  # bias_bal+ddb and bias_bal
    c.bias_balance.smoothing = 1.0  # added to the count of every pair of class and bias
    c.bias_balance.strength = 1.0  # factor of the shift of the logits; 0 is plain training
    generated_images.add_sections(c)
    return apply_preset(c, preset, {})


def classifier_section() -> ConfigDict:
    """A classifier and how it is trained."""
    c = ConfigDict()
    c.network = "resnet18"  # see ddb_jax/models/classifiers.py
    c.width = 64  # channels of the first stage; hidden units of the mlp
    c.stem = "imagenet"  # or "cifar"
    c.norm = "batch"  # or "group"
    c.dtype = "float32"
    c.remat = False  # as unet.remat; the mlp has none
    c.weights = ""  # .pth, .safetensors or .npz file with torchvision's names; "" is from scratch
    # "head" trains the last layer alone, the rest runs as in evaluation. "head_batch_stats" keeps
    # BatchNorm on the batch's statistics, as LfF's code does on CelebA.
    c.trainable = "all"
    c.backbone_lr_scale = 1.0  # the layers before the head take this times learning_rate
    # Side that the network sees; 0 is the images' own. Smaller images are enlarged; of larger ones
    # training sees a random part and evaluation the central one.
    c.image_size = 64
    c.normalization = "symmetric"  # "imagenet" for ImageNet weights; "cifar"; "unit" is x / 255
    c.max_shift = 0  # random crops after padding by so many pixels
    c.random_resized_crop = 0.0  # least share of the area that a random crop has; 0 is off
    c.flip = True
    c.batch_size = 128
    # As diffusion.accumulate. BatchNorm's statistics are those of a part, and its running averages
    # take a step for every part. Where a method weighs examples by the losses of the batch, these
    # are computed first, which takes a third more time.
    c.accumulate = 1
    c.num_steps = 5_000
    c.optimizer = "adamw"  # or "sgd"
    c.learning_rate = 1e-4
    c.lr_schedule = "constant"  # or "cosine"
    c.warmup_steps = 0
    c.weight_decay = 1e-2
    c.momentum = 0.9  # sgd only
    c.grad_clip = 0.0  # global norm; 0 is off
    c.log_every = 100
    c.checkpoint_every = 1_000
    return c


def from_imagenet(c: ConfigDict, network: str, weights: str) -> None:
    """A classifier section that starts from ImageNet weights and sees 224 pixels."""
    c.network = network
    c.weights = weights
    c.image_size = 224
    c.normalization = "imagenet"


def small_generator(c: ConfigDict) -> None:
    """A diffusion model of small coloured digits, trained in minutes on two CPU cores."""
    c.unet.channels = 16
    c.unet.channel_mults = (1, 2, 2)
    c.unet.num_res_blocks = 1
    c.unet.attention_resolutions = (4,)
    c.unet.dropout = 0.0
    c.unet.downsample = "conv"
    c.unet.upsample = "nearest"

    c.diffusion.image_size = 16
    # With eps prediction the same network learns the colours of its classes far more slowly.
    c.diffusion.prediction = "v"
    c.diffusion.min_snr_gamma = 5.0
    c.diffusion.ema_decay = 0.995
    c.diffusion.num_steps = 1_500
    c.diffusion.learning_rate = 3e-3
    c.diffusion.warmup_steps = 100
    c.diffusion.checkpoint_every = 500
    c.synthesis.num_steps = 10


def small_classifier(c: ConfigDict) -> None:
    """A classifier section for the same images: a ResNet-8."""
    c.network = "resnet8"
    c.width = 16
    c.stem = "cifar"
    c.max_shift = 2
    c.flip = False
    c.batch_size = 64
    c.learning_rate = 3e-3
    c.lr_schedule = "cosine"
    c.checkpoint_every = 250


def smoke(c: ConfigDict) -> None:
    """Every stage in a few minutes on two cores, with the set's own images."""
    c.name += "_smoke"
    c.unet.channels = 16
    c.unet.channel_mults = (1, 2, 2)
    c.unet.num_res_blocks = 1
    c.unet.attention_resolutions = (8,)
    c.diffusion.image_size = 32
    c.diffusion.num_steps = 100
    c.diffusion.warmup_steps = 10
    c.diffusion.log_every = 10
    c.diffusion.checkpoint_every = 50
    c.synthesis.images_per_class = 20
    c.synthesis.num_steps = 5
    c.synthesis.batch_size = 40
    c.synthesis.shard_size = 40
    c.measure_synthesis.probe_steps = 10
    c.amplifier.image_size = 0
    c.classifier.image_size = 64
    c.classifier.source_size = 0
    for section in (c.amplifier, c.classifier):
        section.network = "resnet8"
        section.width = 16
        section.weights = ""
        section.num_steps = 30
        section.batch_size = 32
        section.log_every = 10
        section.checkpoint_every = 10
    c.classifier.evaluate_every = 15
    c.reference.num_steps = 10


def apply_preset(
    config: ConfigDict, preset: str, presets: dict[str, Callable[[ConfigDict], None]]
) -> ConfigDict:
    """Change `config` by the preset named after the colon in --config=file.py:preset.

    Raises:
        ValueError: There is no such preset; names the nearest.
    """
    if preset:
        if preset not in presets:
            near = difflib.get_close_matches(preset, presets, 1, 0.0)
            hint = f"the nearest is {near[0]!r}" if near else "this config has none"
            raise ValueError(f"there is no preset {preset!r}; {hint}")
        presets[preset](config)
    return config
