"""The fields of methods on real and generated images: DiffuBias, and the images that DDB steers.

Where the text of DiffuBias (arXiv 2411.16079) and its released code differ, the comment names both.
"""

from ml_collections import ConfigDict


def add_sections(c: ConfigDict) -> None:
    """Add them to a full config."""
    _add_captions(c)
    _add_text_to_image(c)
    _add_generated_images(c)


def _add_captions(c: ConfigDict) -> None:
    """Which images conflict, what is said of them, and which captions are kept."""
    # The biased classifier, built like config.classifier, that finds bias-conflicting images.
    c.biased = ConfigDict()
    c.biased.num_steps = 0  # 0 is classifier.num_steps; the paper's and the code's 50 epochs
    c.biased.gce_q = 0.7
    c.biased.gce_scaled = False  # True is the code's: q times the gradient

    c.extraction = ConfigDict()
    c.extraction.k = 100  # images of highest cross-entropy; the code takes 200 at 5% conflicting
    c.extraction.per_class = True  # the code's; False is the text's, k images in all

    c.captions = ConfigDict()
    # "retrieval": those of the nearest images of config.captioned; "csv": a file of label and
    # generated_text (as published with DiffuBias), or of path and caption; "hugging_face": an
    # image-to-text model in PyTorch, needs pip install -e '.[captions]'.
    c.captions.source = "retrieval"
    c.captions.per_image = 3
    c.captions.csv = ""
    # Name on the hub, or folder. The paper names LLaVA-LLaMA-3-8B; the released code uses BLIP.
    c.captions.model = "Salesforce/blip-image-captioning-base"
    c.captions.prompt = ""
    c.captions.decoding = "beam"  # or "nucleus"
    # Of retrieval: "pixels", or "pretrained": of classifier.network with classifier.weights.
    c.captions.features = "pixels"

    c.text_filter = ConfigDict()
    c.text_filter.words_per_class = 2  # the words_per_class * classes most frequent words count
    c.text_filter.whole_words = True  # False is the code's: "man" keeps a caption with "woman"
    c.text_filter.allow_empty_classes = False  # continue if a class has no caption left

    # Captioned images: the reference of retrieval, and what a text-to-image model is trained on.
    c.captioned = ConfigDict()
    # Table of path and caption, the paths relative to it; "" takes the coloured digits that
    # data.reference_share sets aside.
    c.captioned.csv = ""
    c.captioned.vague_share = 0.0  # of the digits: captions that name neither digit nor colour


def _add_text_to_image(c: ConfigDict) -> None:
    """The model that draws images of captions, and its training."""
    c.text_to_image = ConfigDict()
    # A Stable Diffusion 1.x or 2.x model in the diffusers layout; "" trains one, see below. The
    # code draws with Stable Diffusion 3.5 large, and says that the paper's was of 2023.
    c.text_to_image.folder = ""
    c.text_to_image.image_size = 0  # side of what it draws; 0 is the side that it was made for
    c.text_to_image.sampler = "dpmpp_2m"
    c.text_to_image.num_steps = 28  # the code's
    c.text_to_image.spacing = ""
    c.text_to_image.eta = 0.0
    c.text_to_image.guidance_scale = 7.5  # the code's 3.5 is for Stable Diffusion 3.5
    c.text_to_image.negative_prompt = ""
    c.text_to_image.dtype = "bfloat16"  # of the computation
    c.text_to_image.batch_size = 16
    c.text_to_image.shard_size = 256

    # Training of the text-to-image model on config.captioned. The result is a folder in diffusers'
    # layout, which diffusers can load.
    c.train_text_to_image = ConfigDict()
    # Folder of a model to fine-tune. Its networks, tokenizer and noise schedule are used; its text
    # encoder and autoencoder stay frozen. "" starts from scratch, with the sizes below.
    c.train_text_to_image.start_from = ""
    c.train_text_to_image.image_size = 16  # of the captioned images
    c.train_text_to_image.vocab_size = 1_024
    c.train_text_to_image.text_width = 64
    c.train_text_to_image.text_layers = 2
    c.train_text_to_image.text_heads = 4
    c.train_text_to_image.autoencoder_channels = (32, 64)  # each level but the first halves a side
    c.train_text_to_image.autoencoder_blocks = 1
    c.train_text_to_image.latent_channels = 4
    c.train_text_to_image.kl_weight = 1e-4
    c.train_text_to_image.unet_channels = (32, 64)
    c.train_text_to_image.unet_blocks = 1
    c.train_text_to_image.unet_heads = 4
    c.train_text_to_image.norm_num_groups = 8
    c.train_text_to_image.num_timesteps = 1_000
    c.train_text_to_image.beta_schedule = "scaled_linear"  # or "linear", "squaredcos_cap_v2"
    c.train_text_to_image.beta_start = 0.00085
    c.train_text_to_image.beta_end = 0.012
    c.train_text_to_image.prediction = "v"  # or "eps"
    c.train_text_to_image.min_snr_gamma = 5.0
    c.train_text_to_image.caption_dropout = 0.1
    c.train_text_to_image.ema_decay = 0.995
    c.train_text_to_image.autoencoder = _training(num_steps=1_000)
    c.train_text_to_image.diffusion = _training(num_steps=2_000)


def _add_generated_images(c: ConfigDict) -> None:
    """How images are steered, how many are made, and which are kept."""
    # Images that DDB's own class-conditional model draws away from what the amplifier expects.
    c.steering = ConfigDict()
    c.steering.gradient_scale = 2.0  # steered: of the amplifier's gradient; 0 is no steering
    c.steering.difference_scale = 1.5  # rebalanced: 1 is the fine-tuned model, more goes beyond it
    c.steering.fine_tune_steps = 300  # rebalanced: of the model whose pseudo-groups are balanced
    c.steering.guidance_scale = 2.0  # of the class, as in synthesis
    # rejection: guidance towards the class is guidance towards its bias; 1 is none.
    c.steering.rejection_guidance_scale = 1.0

    c.generated = ConfigDict()
    # Generated images per class, as a share of the class's images that the biased classifier gets
    # right; 1 is the paper's "as many as aligned". 0 draws one per caption, as the code does.
    c.generated.ratio = 1.0

    # Checks of generated images before anything is trained on them.
    c.gate = ConfigDict()
    # Drop images whose label both the biased and the debiased classifier reject.
    c.gate.labels = True
    c.gate.debiased_method = "jtt"  # any method on real images
    # Drop copies: images closer to a training image than copy_ratio times the mean distance to the
    # copy_neighbours nearest ones (arXiv 2301.13188, on CIFAR-10).
    c.gate.copies = True
    c.gate.copy_ratio = 0.5
    c.gate.copy_neighbours = 50


def _training(num_steps: int) -> ConfigDict:
    """How a network is trained."""
    c = ConfigDict()
    c.batch_size = 64
    c.num_steps = num_steps
    c.optimizer = "adamw"
    c.learning_rate = 1e-3
    c.lr_schedule = "cosine"
    c.warmup_steps = 100
    c.weight_decay = 1e-4
    c.momentum = 0.9  # sgd only
    c.grad_clip = 1.0
    c.log_every = 100
    c.checkpoint_every = 500
    return c
