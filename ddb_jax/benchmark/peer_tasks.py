"""PyTorch's counterpart of each program, and the expected results with our weights."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from ddb_jax.benchmark.bench import Bench
from ddb_jax.benchmark.training import AUGMENT_KEY, make_training
from ddb_jax.data.preprocessing import NORMALIZATIONS, normalize, to_input
from ddb_jax.debias.losses import cross_entropy
from ddb_jax.diffusion.gaussian import min_snr_weight, q_sample, training_target
from ddb_jax.diffusion.guidance import guided
from ddb_jax.diffusion.samplers import make_table
from ddb_jax.runtime.errors import UserError
from ddb_jax.stages.common.generator import build_noise_schedule, build_unet, init_unet_params
from ddb_jax.stages.common.networks import build_classifier, init_variables
from ddb_jax.training.compilation import jit
from ddb_jax.training.rng import stream

CHECKED = 8  # images of the check
TWINS = ("resnet8", "resnet20", "resnet18", "resnet34", "resnet50")


class PeerTask(NamedTuple):
    """A piece of work.

    Attributes:
        task: Numbers, strings and NumPy arrays, read by `peer.steps`.
        expected: Expected results of its check.
    """

    task: dict[str, Any]
    expected: dict[str, float]


def diffusion_train(config: ConfigDict, num_classes: int, batch: Mapping[str, Any]) -> PeerTask:
    """The loss and gradient of `gaussian.denoising_loss`, without dropout and with given noise."""
    settings, schedule = config.diffusion, build_noise_schedule(config)
    unet = build_unet(config, num_classes).clone(dtype="float32")
    if settings.normalization != "symmetric" or settings.label_dropout_unit != "example":
        raise UserError(
            "--peer trains with config.diffusion.normalization 'symmetric' and label_dropout_unit"
            " 'example' alone."
        )
    params = _unet_weights(config, num_classes)
    number = min(CHECKED, len(batch["label"]))
    timesteps = np.arange(settings.num_timesteps, dtype=np.int32)
    x_start = np.asarray(normalize(batch["image"][:number]))
    label = batch["label"][:number].copy()
    label[0] = num_classes
    inputs = {
        "x_start": x_start,
        "t": timesteps[:: -(-len(timesteps) // number)][:number],
        "eps": np.random.default_rng(1).normal(size=x_start.shape).astype(np.float32),
        "label": label,
    }
    inputs["t"] = np.resize(inputs["t"], number)
    weight = min_snr_weight(schedule, timesteps, settings.min_snr_gamma, settings.prediction)

    def loss_fn(params: Any) -> jax.Array:
        x, t, eps = (inputs[name] for name in ("x_start", "t", "eps"))
        x_t = q_sample(schedule, x, t, eps)
        output = unet.apply({"params": params}, x_t, t, inputs["label"], train=False)
        error = output - training_target(schedule, x, t, eps, settings.prediction)
        return jnp.mean(weight[t] * jnp.mean(error**2, axis=(1, 2, 3)))

    loss, gradients = jit(jax.value_and_grad(loss_fn))(params)
    task = {
        **_unet_task("diffusion_train", config, num_classes, params),
        "settings": settings.to_dict(),
        "batch": dict(batch),
        "check": inputs,
        "alpha": np.float32(schedule.alpha),
        "sigma": np.float32(schedule.sigma),
        "loss_weight": np.asarray(weight),
    }
    expected = {"loss": float(loss), "grad_norm": float(optax.tree.norm(gradients))}
    return PeerTask(task, {"parameters": _size(params), **expected})


def sampling(config: ConfigDict, num_classes: int, batch_size: int) -> PeerTask:
    """The network under guidance."""
    schedule, scale = build_noise_schedule(config), config.synthesis.guidance_scale
    unet = build_unet(config, num_classes).clone(dtype="float32")
    params = _unet_weights(config, num_classes)
    side, last = config.diffusion.image_size, config.diffusion.num_timesteps - 1
    labels = np.arange(batch_size, dtype=np.int32) % num_classes
    number = min(CHECKED, batch_size)
    x = np.random.default_rng(1).normal(size=(number, side, side, 3)).astype(np.float32)
    t = np.full(number, last, np.int32)

    def output(params: Any) -> jax.Array:
        def network(x: jax.Array, t: jax.Array, y: jax.Array) -> jax.Array:
            return unet.apply({"params": params}, x, t, y, train=False)

        return jnp.linalg.norm(guided(network, scale, num_classes)(x, t, labels[:number]))

    table = make_table("ddpm", schedule, 0)
    row = (table.a[0], table.b[0], table.d[0], schedule.alpha[last], schedule.sigma[last])
    task = {
        **_unet_task("sampling", config, num_classes, params),
        "guidance_scale": scale,
        "prediction": config.diffusion.prediction,
        "coefficients": [float(v) for v in row],
        "batch": {"label": labels},
        "check": {"x": x, "t": t, "y": labels[:number]},
    }
    norm = float(jit(output)(params))
    return PeerTask(task, {"parameters": _size(params), "output_norm": norm})


def classifier_train(bench: Bench, method: str, batch: Mapping[str, Any]) -> PeerTask:
    """The training step itself, of `method` "erm" or "lff", without flips.

    Raises:
        UserError: The network or the augmentation has no counterpart.
    """
    config = bench.config.copy_and_resolve_references()
    config.unlock()
    settings = config.classifier
    _check_twin(settings, "classifier", bench.source.image_shape[0])
    settings.dtype, flip, settings.flip = "float32", settings.flip, False
    state, step = make_training(dataclasses.replace(bench, config=config), method)
    params, stats = jax.device_get((state.params, state.batch_stats))
    names = ("main", "biased") if method == "lff" else ("main",)
    if method == "erm":
        params, stats = {"main": params}, {"main": stats}
    inputs = {name: array[:CHECKED] for name, array in batch.items()}
    _, metrics = step(state, inputs, stream(0, AUGMENT_KEY))
    task = {
        **_classifier_task(settings, bench.num_classes, batch),
        "program": "lff_train" if method == "lff" else "classifier_train",
        "settings": {**settings.to_dict(), "flip": flip},
        "weights": {name: _flat(params[name], stats[name]) for name in names},
        "check": inputs,
        "labels": bench.source.labels,
        "ema": bench.config.lff.ema,
        "gce_q": bench.config.lff.gce_q,
    }
    expected = {name: float(metrics[name]) for name in ("loss", "grad_norm")}
    return PeerTask(task, {"parameters": _size(params), **expected})


def scoring(
    settings: ConfigDict, num_classes: int, side: int, batch: Mapping[str, Any]
) -> PeerTask:
    """The mean loss of the batch.

    Raises:
        UserError: The network or the images' size has no counterpart.
    """
    _check_twin(settings, "amplifier", batch["image"].shape[1])
    model = build_classifier(settings, num_classes).clone(dtype="float32")
    key = stream(0, "benchmark/init")
    variables = jax.device_get(jax.jit(lambda: init_variables(model, key, side))())

    def mean_loss(variables: Any) -> jax.Array:
        logits, _ = model.apply(
            variables, to_input(batch["image"], side, settings.normalization), train=False
        )
        return cross_entropy(logits, batch["label"]).mean()

    task = {
        **_classifier_task(settings, num_classes, batch),
        "program": "scoring",
        "settings": settings.to_dict(),
        "weights": {"main": _flat(variables["params"], variables.get("batch_stats", {}))},
        "check": {},
    }
    expected = {"parameters": _size(variables["params"]), "loss": float(jit(mean_loss)(variables))}
    return PeerTask(task, expected)


def _check_twin(settings: ConfigDict, section: str, image_side: int) -> None:
    if settings.network not in TWINS:
        raise UserError(
            f"--peer has no counterpart of config.{section}.network {settings.network!r}; it has"
            f" {', '.join(TWINS)}."
        )
    if settings.max_shift or settings.random_resized_crop or settings.trainable != "all":
        raise UserError(
            f"--peer trains whole networks without crops: set config.{section}.max_shift and"
            " random_resized_crop to 0 and trainable to 'all'."
        )
    if (settings.image_size or image_side) != image_side:
        raise UserError(
            f"--peer does not scale images: config.{section}.image_size is {settings.image_size},"
            f" the images have {image_side} px."
        )


def _unet_weights(config: ConfigDict, num_classes: int) -> Any:
    """Of the UNet, moved off zero, where half of its layers start and no gradient would pass."""
    side, key = config.diffusion.image_size, stream(0, "benchmark/init")
    unet = build_unet(config, num_classes)
    fresh = jax.device_get(jax.jit(lambda: init_unet_params(unet, key, (side, side, 3)))())
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda x: x + np.float32(0.02 * rng.normal(size=x.shape)), fresh)


def _unet_task(program: str, config: ConfigDict, num_classes: int, params: Any) -> dict[str, Any]:
    return {
        "program": program,
        "on_gpu": jax.default_backend() == "gpu",
        "unet": config.unet.to_dict(),
        "side": config.diffusion.image_size,
        "num_classes": num_classes,
        "num_timesteps": config.diffusion.num_timesteps,
        "weights": {"main": _flat(params)},
    }


def _classifier_task(
    settings: ConfigDict, num_classes: int, batch: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "on_gpu": jax.default_backend() == "gpu",
        "num_classes": num_classes,
        "normalization": NORMALIZATIONS[settings.normalization],
        "batch": dict(batch),
    }


def _flat(params: Any, batch_stats: Any = None) -> dict[str, np.ndarray]:
    """Arrays by the names of their layers, with dots."""
    flat = {**flatten_dict(params, sep="."), **flatten_dict(batch_stats or {}, sep=".")}
    return {name: np.asarray(array) for name, array in flat.items()}


def _size(tree: Any) -> int:
    return sum(x.size for x in jax.tree.leaves(tree))
