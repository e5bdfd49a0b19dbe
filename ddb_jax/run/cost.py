"""What a run will cost, said before it starts: operations of every task, and a rough time."""

import math
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import jaxprs_in_params
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ddb_jax.checks.methods import classifiers_in_step
from ddb_jax.data.source import Dataset
from ddb_jax.run.plan import Task
from ddb_jax.runtime.progress import duration
from ddb_jax.stages.common.generator import build_unet, init_params
from ddb_jax.stages.common.networks import build_classifier, init_variables, input_size
from ddb_jax.stages.common.training_set import selection_rule
from ddb_jax.text_to_image import unet_condition
from ddb_jax.text_to_image.layout import read_layout
from ddb_jax.text_to_image.model_folder import unet_config
from ddb_jax.text_to_image.tokenizer import LENGTH
from ddb_jax.training.compilation import jit

# A training step is counted as three forward passes: itself, and a gradient of inputs and weights.
PASSES_OF_A_STEP = 3
# Share that whole networks reach of a large matrix product's rate. Two CPU cores were seen at 0.4
# to 0.7 (docs/results.md); accelerators in float32 lie lower.
SHARE_OF_PEAK = {"cpu": 0.5}
OTHER_SHARE_OF_PEAK = 0.3
# Stages that run DDB's UNet, and that of a text-to-image model.
OF_UNET = {"train_diffusion", "synthesize", "train_balanced_diffusion", "steer"}
OF_LATENT_UNET = {"train_text_to_image", "draw"}


class Cost(NamedTuple):
    """One task's work.

    Attributes:
        name: The task's.
        work: What it does, in words.
        operations: Floating-point operations, of the network's passes alone.
    """

    name: str
    work: str
    operations: float


def estimate_costs(
    config: ConfigDict, tasks: Iterable[Task], dataset: Dataset, generator_dataset: Dataset
) -> list[Cost]:
    """The work of the tasks that run a network; the others take seconds.

    Args:
        config: The resolved config.
        tasks: Those that are still to be run.
        dataset: At the classifier's size.
        generator_dataset: At the generator's size.
    """
    tasks = list(tasks)
    if not tasks:
        return []
    num_classes = len(dataset.class_names)
    unet = 0.0
    stages = {task.stage for task in tasks}
    if stages & OF_UNET:  # seconds to trace
        unet = _unet_operations(config, num_classes, generator_dataset.train.image_shape)
    amplifier, classifier = (
        _classifier_operations(settings, num_classes, input_size(settings, part.train))
        for settings, part in (
            (config.amplifier, generator_dataset),
            (config.classifier, dataset),
        )
    )
    diffusion, synthesis = config.diffusion, config.synthesis
    steps = diffusion.num_timesteps if synthesis.sampler == "ddpm" else synthesis.num_steps
    passes = steps * (1 if synthesis.guidance_scale == 1 else 2)
    seen = len(dataset.train) + len(dataset.validation)

    def training(settings: ConfigDict, forward: float, side: int, num_steps: int) -> tuple:
        images = num_steps * settings.batch_size
        text = f"{num_steps:,} steps of {settings.batch_size} at {side} px"
        return text, PASSES_OF_A_STEP * images * forward

    sides = {
        "diffusion": diffusion.image_size,
        "amplifier": input_size(config.amplifier, generator_dataset.train),
        "classifier": input_size(config.classifier, dataset.train),
    }
    num_images = num_classes * synthesis.images_per_class
    train_text, train_operations = training(
        config.classifier, classifier, sides["classifier"], config.classifier.num_steps
    )

    def debiasing(method: str) -> tuple:
        text, operations = train_text, train_operations
        copies = classifiers_in_step(config, method)
        if copies > 1:
            text, operations = f"{text}, {copies} networks or views", copies * operations
        evaluations = 0
        if selection_rule(config, method) != "last":
            every = config.classifier.evaluate_every or config.classifier.num_steps
            evaluations = -(-config.classifier.num_steps // every)
        return (
            f"{text}, {evaluations:,} passes over validation",
            operations + evaluations * len(dataset.validation) * classifier,
        )

    first = training(config.classifier, classifier, sides["classifier"], config.reference.num_steps)
    work = {
        "train_diffusion": training(diffusion, unet, sides["diffusion"], diffusion.num_steps),
        "synthesize": (f"{num_images:,} images of {passes:,} passes", num_images * passes * unet),
        "measure_synthesis": training(
            config.amplifier,
            amplifier,
            sides["amplifier"],
            config.measure_synthesis.probe_steps,
        ),
        "train_amplifier": training(
            config.amplifier, amplifier, sides["amplifier"], config.amplifier.num_steps
        ),
        **dict.fromkeys(("train_reference", "train_bias_features"), first),
        "train_committee": (
            f"{config.committee.members} networks, {first[0]}",
            config.committee.members * first[1],
        ),
        "score": (f"{seen:,} images", seen * amplifier),
        "train_base": debiasing("erm"),
        "evaluate": (f"{len(dataset.test):,} images", len(dataset.test) * classifier),
    }
    biased_steps = config.biased.num_steps or config.classifier.num_steps
    work["train_biased"] = training(
        config.classifier, classifier, sides["classifier"], biased_steps
    )
    work["train_balanced_diffusion"] = training(
        diffusion, unet, sides["diffusion"], config.steering.fine_tune_steps
    )
    # At most: as many images as the biased classifier gets right.
    num_generated = round((config.generated.ratio or 1.0) * len(dataset.train))
    if stages & OF_LATENT_UNET:
        work |= _latent_work(config, num_generated)

    def steering(by: str) -> tuple:
        scale = config.steering.guidance_scale
        if by == "none":
            scale = config.steering.rejection_guidance_scale
        # Two branches of guidance; the difference is to a second network.
        passes = steps * (1 if scale == 1 else 2) * (2 if by == "difference" else 1)
        text = f"at most {num_generated:,} images of {passes:,} passes"
        return text, num_generated * passes * unet

    costs = []
    for task in tasks:
        if task.stage == "train_classifier":
            costs.append(Cost(task.name, *debiasing(task.options["method"])))
        elif task.stage == "steer":
            costs.append(Cost(task.name, *steering(task.options["by"])))
        elif task.stage in work:
            costs.append(Cost(task.name, *work[task.stage]))
    return costs


def _unet_operations(config: ConfigDict, num_classes: int, image_shape: tuple[int, ...]) -> float:
    """Of one forward pass on one image."""
    unet = build_unet(config, num_classes)
    params = jax.eval_shape(lambda: init_params(unet, jax.random.key(0), image_shape))
    x = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    number = jax.ShapeDtypeStruct((1,), jnp.int32)
    return count_operations(
        lambda p, x, t, y: unet.apply({"params": p}, x, t, y, train=False),
        params, x, number, number,
    )  # fmt: skip


def _latent_work(config: ConfigDict, num_images: int) -> dict[str, tuple[str, float]]:
    """Training a text-to-image model, and drawing with it; without text encoder and autoencoder."""
    sizes, settings = config.train_text_to_image, config.text_to_image
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
    variables = jax.eval_shape(unet.init, jax.random.key(0), *inputs)
    operations = count_operations(unet.apply, variables, *inputs)
    passes = settings.num_steps * (1 if settings.guidance_scale == 1 else 2)
    own = sizes.diffusion
    return {
        "train_text_to_image": (
            f"{own.num_steps:,} steps of {own.batch_size} latents at {side} px",
            PASSES_OF_A_STEP * own.num_steps * own.batch_size * operations,
        ),
        "draw": (
            f"at most {num_images:,} images of {passes:,} passes at {side} px",
            num_images * passes * operations,
        ),
    }


def _classifier_operations(settings: ConfigDict, num_outputs: int, side: int) -> float:
    """Of one forward pass on one image."""
    model = build_classifier(settings, num_outputs)
    variables = jax.eval_shape(lambda: init_variables(model, jax.random.key(0), side))
    x = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    return count_operations(lambda v, x: model.apply(v, x, train=False), variables, x)


def count_operations(function: Callable, *arguments: Any) -> float:
    """Multiplications and additions of the matrix products and convolutions of one call.

    Counted in the traced program, since not every backend's compiler tells (JAX's
    `cost_analysis` is None on GPU and TPU before compilation); zero padding counts.
    """
    return _operations(jax.make_jaxpr(function)(*arguments).jaxpr)


def _operations(jaxpr: Any) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            result, right = equation.outvars[0].aval, equation.invars[1].aval
            if equation.primitive.name == "dot_general":
                (_, contracted), _ = equation.params["dimension_numbers"]
                per_output = math.prod(right.shape[i] for i in contracted)
            else:
                kernel = equation.params["dimension_numbers"].rhs_spec  # (out, in, space...)
                per_output = right.size // right.shape[kernel[0]]
            total += 2.0 * result.size * per_output
        for inner in jaxprs_in_params(equation.params):
            total += _operations(inner)
    return total


def matrix_product_rate(side: int = 0, repeats: int = 3) -> float:
    """Operations a second of a float32 matrix product on one device, the best of some.

    Args:
        side: Of the matrices; 0 is as large as the device needs to reach its rate.
        repeats: How many are timed.
    """
    # A CPU reaches its rate on the smaller one, and is done in an eighth of the time.
    side = side or (1024 if jax.default_backend() == "cpu" else 2048)
    a = jnp.ones((side, side), jnp.float32)
    product = jit(lambda a: a @ a)
    product(a).block_until_ready()
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        product(a).block_until_ready()
        seconds.append(time.perf_counter() - begin)
    return 2 * side**3 / min(seconds)


def describe_costs(costs: Iterable[Cost], mesh: Mesh) -> str:
    """A table for people; times are rough, from the rate of a matrix product measured here."""
    costs = list(costs)
    platform = mesh.devices.flat[0].platform
    share = SHARE_OF_PEAK.get(platform, OTHER_SHARE_OF_PEAK)
    rate = matrix_product_rate() * share * (1 if platform == "cpu" else mesh.size)
    width = max(len(cost.name) for cost in costs)
    lines = [
        f"  {cost.name:{width}}  {cost.operations:8.1e}  about {duration(cost.operations / rate)}"
        f"  ({cost.work})"
        for cost in costs
    ]
    total = sum(cost.operations for cost in costs)
    head = (
        f"estimated cost, in floating-point operations, and time at {rate / 1e9:,.0f} billion a"
        f" second ({share:.0%} of what a large matrix product reaches here), without compilation:"
    )
    return "\n".join(
        [head, *lines, f"  {'all':{width}}  {total:8.1e}  about {duration(total / rate)}"]
    )
