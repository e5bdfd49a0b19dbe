"""What each stage costs: floating-point operations of its networks' passes, counted from shapes."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ddb_jax.data.source import Dataset
from ddb_jax.debias.method_config import selection_rule
from ddb_jax.stages.common.example_method import classifiers_in_step
from ddb_jax.stages.common.generator import build_unet
from ddb_jax.stages.common.networks import build_classifier, input_size
from ddb_jax.stages.operations import forward_operations
from ddb_jax.text_to_image import unet_condition
from ddb_jax.text_to_image.layout import read_layout
from ddb_jax.text_to_image.model_folder import unet_config
from ddb_jax.text_to_image.tokenizer import LENGTH

# A training step is counted as three forward passes: itself, and a gradient of inputs and weights.
PASSES_OF_A_STEP = 3

Cost = tuple[str, float]
Options = Mapping[str, Any]


class Work:
    """The networks of a config and the images they see; each is traced when first asked for.

    Attributes:
        config: The resolved config.
        dataset: The images at the classifier's size.
        generator_dataset: The same at the generator's size.
    """

    def __init__(self, config: ConfigDict, dataset: Dataset, generator_dataset: Dataset) -> None:
        self.config, self.dataset, self.generator_dataset = config, dataset, generator_dataset

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.dataset.class_names)

    @functools.cached_property
    def unet(self) -> float:
        """Operations of DDB's UNet on one image."""
        shape = self.generator_dataset.train.image_shape
        x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
        number = jax.ShapeDtypeStruct((1,), jnp.int32)
        unet = build_unet(self.config, self.num_classes)
        return forward_operations(unet, x, number, number, train=False)

    @functools.cached_property
    def amplifier_side(self) -> int:
        """Side of the images that the amplifier sees."""
        return input_size(self.config.amplifier, self.generator_dataset.train)

    @functools.cached_property
    def classifier_side(self) -> int:
        """Side of the images that the classifier sees."""
        return input_size(self.config.classifier, self.dataset.train)

    @functools.cached_property
    def amplifier(self) -> float:
        """Operations of the amplifier on one image."""
        return classifier_operations(self.config.amplifier, self.num_classes, self.amplifier_side)

    @functools.cached_property
    def classifier(self) -> float:
        """Operations of the classifier on one image."""
        return classifier_operations(self.config.classifier, self.num_classes, self.classifier_side)

    @functools.cached_property
    def below(self) -> float:
        """Operations of the classifier's layers below its last block on one image."""
        settings, side = self.config.classifier, self.classifier_side
        return classifier_operations(settings, self.num_classes, side, part="below")

    @property
    def trained(self) -> float:
        """Operations of what a training step runs of the classifier, on one image."""
        last_block = self.config.classifier.trainable == "last_block"
        return self.classifier - (self.below if last_block else 0)

    @functools.cached_property
    def latent(self) -> tuple[int, float]:
        """Side of the text-to-image model's latents, and operations of its UNet on one of them.

        Text encoder and autoencoder are not counted.
        """
        sizes, settings = self.config.train_text_to_image, self.config.text_to_image
        folder = settings.folder or sizes.start_from
        if folder:
            layout = read_layout(folder)
            unet = unet_condition.from_config(layout.unet.config)
            levels = len(layout.vae.config["block_out_channels"])
        else:
            unet = unet_condition.from_config(unet_config(sizes))
            levels = len(sizes.autoencoder_channels)
        side = settings.image_size // 2 ** (levels - 1) or unet.sample_size
        shapes = [(1, side, side, unet.in_channels), (1,), (1, LENGTH, unet.cross_attention_dim)]
        inputs = [
            jax.ShapeDtypeStruct(shape, dtype)
            for shape, dtype in zip(shapes, (jnp.float32, jnp.int32, jnp.float32), strict=True)
        ]
        return side, forward_operations(unet, *inputs)

    @property
    def sampling_steps(self) -> int:
        """Steps that DDB's model takes to draw an image."""
        synthesis = self.config.synthesis
        ddpm = synthesis.sampler == "ddpm"
        return self.config.diffusion.num_timesteps if ddpm else synthesis.num_steps

    @property
    def most_generated(self) -> int:
        """At most so many images are generated: as many as the biased classifier gets right."""
        return round((self.config.generated.ratio or 1.0) * len(self.dataset.train))


def _training(settings: ConfigDict, forward: float, side: int, num_steps: int) -> Cost:
    text = f"{num_steps:,} steps of {settings.batch_size} at {side} px"
    return text, PASSES_OF_A_STEP * num_steps * settings.batch_size * forward


def _diffusion_training(work: Work, num_steps: int) -> Cost:
    settings = work.config.diffusion
    return _training(settings, work.unet, settings.image_size, num_steps)


def _amplifier_training(work: Work, num_steps: int) -> Cost:
    return _training(work.config.amplifier, work.amplifier, work.amplifier_side, num_steps)


def _classifier_training(work: Work, num_steps: int) -> Cost:
    return _training(work.config.classifier, work.trained, work.classifier_side, num_steps)


def train_diffusion(work: Work, options: Options) -> Cost:
    """The steps of the config."""
    return _diffusion_training(work, work.config.diffusion.num_steps)


def train_balanced_diffusion(work: Work, options: Options) -> Cost:
    """The steps of fine-tuning."""
    return _diffusion_training(work, work.config.steering.fine_tune_steps)


def synthesize(work: Work, options: Options) -> Cost:
    """Every image takes the sampler's steps, each of two passes under guidance."""
    synthesis = work.config.synthesis
    passes = work.sampling_steps * (1 if synthesis.guidance_scale == 1 else 2)
    images = work.num_classes * synthesis.images_per_class
    return f"{images:,} images of {passes:,} passes", images * passes * work.unet


def steer(work: Work, options: Options) -> Cost:
    """As `synthesize`; a difference takes a second network."""
    settings, by = work.config.steering, options["by"]
    scale = settings.rejection_guidance_scale if by == "none" else settings.guidance_scale
    branches = (1 if scale == 1 else 2) * (2 if by == "difference" else 1)
    passes, images = work.sampling_steps * branches, work.most_generated
    return f"at most {images:,} images of {passes:,} passes", images * passes * work.unet


def measure_synthesis(work: Work, options: Options) -> Cost:
    """The steps of the probe."""
    return _amplifier_training(work, work.config.measure_synthesis.probe_steps)


def train_amplifier(work: Work, options: Options) -> Cost:
    """The steps of the config."""
    return _amplifier_training(work, work.config.amplifier.num_steps)


def score(work: Work, options: Options) -> Cost:
    """One pass over the training and validation images."""
    seen = len(work.dataset.train) + len(work.dataset.validation)
    return f"{seen:,} images", seen * work.amplifier


def frozen_features(work: Work, options: Options) -> Cost:
    """One pass of the classifier's network over the training and validation images."""
    seen = len(work.dataset.train) + len(work.dataset.validation)
    return f"{seen:,} images", seen * work.classifier


def frozen_maps(work: Work, options: Options) -> Cost:
    """A pass over every view of the training images, and one over the validation images."""
    views = work.config.last_block.views
    seen = views * len(work.dataset.train) + len(work.dataset.validation)
    return f"{seen:,} views", seen * work.below


def train_reference(work: Work, options: Options) -> Cost:
    """A first model."""
    return _classifier_training(work, work.config.reference.num_steps)


def train_committee(work: Work, options: Options) -> Cost:
    """A first model for every member."""
    members = work.config.committee.members
    text, operations = train_reference(work, options)
    return f"{members} networks, {text}", members * operations


def train_biased(work: Work, options: Options) -> Cost:
    """Its own number of steps, or the classifier's."""
    steps = work.config.biased.num_steps or work.config.classifier.num_steps
    return _classifier_training(work, steps)


def train_base(work: Work, options: Options) -> Cost:
    """Plain training."""
    return train_classifier(work, {"method": "erm"})


def train_classifier(work: Work, options: Options) -> Cost:
    """The steps of the config, for every network or view of the method, and the validations."""
    config, settings = work.config, work.config.classifier
    text, operations = _classifier_training(work, settings.num_steps)
    copies = classifiers_in_step(config, options["method"])
    if copies > 1:
        text, operations = f"{text}, {copies} networks or views", copies * operations
    evaluations = 0
    if selection_rule(config, options["method"]) != "last":
        evaluations = -(-settings.num_steps // (settings.evaluate_every or settings.num_steps))
    return (
        f"{text}, {evaluations:,} passes over validation",
        operations + evaluations * len(work.dataset.validation) * work.trained,
    )


def evaluate(work: Work, options: Options) -> Cost:
    """One pass over the test images."""
    images = len(work.dataset.test)
    return f"{images:,} images", images * work.classifier


def train_text_to_image(work: Work, options: Options) -> Cost:
    """Steps of the latent diffusion model alone."""
    side, operations = work.latent
    settings = work.config.train_text_to_image.diffusion
    return (
        f"{settings.num_steps:,} steps of {settings.batch_size} latents at {side} px",
        PASSES_OF_A_STEP * settings.num_steps * settings.batch_size * operations,
    )


def draw(work: Work, options: Options) -> Cost:
    """As `synthesize`, of latents."""
    settings, images = work.config.text_to_image, work.most_generated
    side, operations = work.latent
    passes = settings.num_steps * (1 if settings.guidance_scale == 1 else 2)
    text = f"at most {images:,} images of {passes:,} passes at {side} px"
    return text, images * passes * operations


def classifier_operations(
    settings: ConfigDict, num_outputs: int, side: int, **options: Any
) -> float:
    """Operations of a classifier section's network on one image of that side."""
    x = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    return forward_operations(build_classifier(settings, num_outputs), x, train=False, **options)
