"""The compiled programs of a run, with fresh weights at the config's sizes and noise for images."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from ddb_jax.benchmark import peer_tasks
from ddb_jax.benchmark.bench import Bench
from ddb_jax.benchmark.peer_tasks import PeerTask
from ddb_jax.benchmark.training import AUGMENT_KEY, make_training, place
from ddb_jax.data.preprocessing import to_input
from ddb_jax.diffusion.samplers import SAMPLERS, SamplerTable, make_table, sample
from ddb_jax.stages.common import diffusion_step
from ddb_jax.stages.common.classifier_training import EVAL_BATCH_SIZE
from ddb_jax.stages.common.generator import (
    build_noise_schedule,
    build_unet,
    guided_unet,
    init_unet_params,
)
from ddb_jax.stages.common.networks import build_network, init_variables
from ddb_jax.training.compilation import jit
from ddb_jax.training.mesh import batch_sharding, replicated, shard_batch
from ddb_jax.training.rng import stream
from ddb_jax.training.train_state import TrainState


class Program(NamedTuple):
    """One program to be measured.

    Attributes:
        title: What network at what size.
        function: Jitted.
        arguments: Arguments of the first call.
        images: Images per call.
        dtype: Type of the computation.
        trains: Its first result is the first argument of the next call.
        evaluations: Of the network: those of one call, and those that an image takes in all, where
            the two differ. Time is then given for a whole image.
        loops: It holds a loop, whose body the compiler's count of operations counts once.
        peer: The same work for PyTorch, and its expected result; None without a counterpart.
    """

    title: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    images: int
    dtype: str
    trains: bool = False
    evaluations: tuple[int, int] = (1, 1)
    loops: bool = False
    peer: Callable[[], PeerTask] | None = None


def diffusion_train(bench: Bench) -> list[Program]:
    """The training step of the diffusion model."""
    config, settings = bench.config, bench.config.diffusion
    side, batch_size = settings.image_size, settings.batch_size
    optimizer, step = diffusion_step.make_train_step(config, bench.num_classes)

    def init() -> TrainState:
        return diffusion_step.state_of(config, optimizer, unet_params(bench))

    state, step = place(bench.mesh, init, step)
    key = jax.device_put(stream(0, "benchmark/noise"), replicated(bench.mesh))
    batch = bench.images(batch_size, side)
    return [
        Program(
            f"{_unet_title(config)}, {side} px, {batch_size} images, {config.unet.dtype}",
            step,
            (state, shard_batch(bench.mesh, batch), key),
            batch_size,
            config.unet.dtype,
            trains=True,
            peer=lambda: peer_tasks.diffusion_train(config, bench.num_classes, batch),
        )
    ]


def sampling(bench: Bench) -> list[Program]:
    """One step of guided DDPM sampling, and every sampler at its number of steps."""
    config, settings = bench.config, bench.config.synthesis
    side, batch_size = config.diffusion.image_size, settings.batch_size
    schedule, k = build_noise_schedule(config), bench.num_classes
    make_model = guided_unet(config, k, settings.guidance_scale)
    whole, split = replicated(bench.mesh), batch_sharding(bench.mesh)
    params = jax.jit(lambda: unet_params(bench), out_shardings=whole)()
    keys = jax.random.split(stream(0, "benchmark/sample"), batch_size)
    labels = np.arange(batch_size, dtype=np.int32) % k
    arguments = (params, *jax.device_put((keys, labels), split))
    title = (
        f"{_unet_title(config)}, guidance {settings.guidance_scale:g}, {side} px,"
        f" {batch_size} images, {config.unet.dtype}"
    )

    def program(name: str, table: SamplerTable, number: int, **fields: Any) -> Program:
        part = SamplerTable(*(column[:number] for column in table))

        def draw(params: Any, keys: jax.Array, labels: jax.Array) -> jax.Array:
            return sample(
                make_model(params), part, schedule, keys, labels, (side, side, 3),
                prediction=config.diffusion.prediction, clip_x_start=settings.clip_x_start,
            )  # fmt: skip

        return Program(
            f"{name}: {title}", jit(draw), arguments, batch_size, config.unet.dtype, **fields
        )

    programs = [
        program(
            "one step of ddpm",
            make_table("ddpm", schedule, 0),
            1,
            peer=lambda: peer_tasks.sampling(config, k, batch_size),
        )
    ]
    for name in SAMPLERS:
        steps = 0 if name == "ddpm" else settings.num_steps
        table = make_table(name, schedule, steps)
        number, total = min(bench.steps, len(table.timesteps)), len(table.timesteps)
        timed = f", timed on {number}" if number < total else ""
        programs.append(
            program(
                f"{name}, {total:,} evaluations{timed}",
                table,
                number,
                evaluations=(number, total),
                loops=True,
            )
        )
    return programs


def classifier_train(bench: Bench) -> list[Program]:
    """The training step of plain training (ERM)."""
    return [_classifier_step(bench, "erm")]


def lff_train(bench: Bench) -> list[Program]:
    """The training step of Learning from Failure, which trains two networks."""
    return [_classifier_step(bench, "lff")]


def scoring(bench: Bench) -> list[Program]:
    """The amplifier's pass over real images, in batches as `make_predict` takes them."""
    settings, batch_size = bench.config.amplifier, EVAL_BATCH_SIZE
    image_side = bench.config.diffusion.image_size
    side = settings.image_size or image_side
    model = build_network("classifier", settings, bench.num_classes, side)
    whole = replicated(bench.mesh)
    key = stream(0, "benchmark/init")
    variables = jax.jit(lambda: init_variables(model, key, side), out_shardings=whole)()
    batch = bench.images(batch_size, image_side)

    def score(variables: Any, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        x = to_input(batch["image"], side, settings.normalization)
        logits, _ = model.apply(variables, x, train=False)
        log_p = jax.nn.log_softmax(logits)
        log_p_label = jnp.take_along_axis(log_p, batch["label"][:, None], axis=1)[:, 0]
        return jnp.argmax(logits, axis=1), -log_p_label

    return [
        Program(
            _classifier_title(settings, side, batch_size),
            jit(score, out_shardings=whole),
            (variables, shard_batch(bench.mesh, batch)),
            batch_size,
            settings.dtype,
            peer=lambda: peer_tasks.scoring(settings, bench.num_classes, side, batch),
        )
    ]


def _classifier_step(bench: Bench, name: str) -> Program:
    settings = bench.settings
    state, step = make_training(bench, name)
    key = jax.device_put(stream(0, AUGMENT_KEY), replicated(bench.mesh))
    batch = bench.images(settings.batch_size, bench.source.image_shape[0])
    batch["index"] = np.arange(settings.batch_size, dtype=np.int32) % len(bench.source)
    side = settings.image_size or bench.source.image_shape[0]
    return Program(
        _classifier_title(settings, side, settings.batch_size),
        step,
        (state, shard_batch(bench.mesh, batch), key),
        settings.batch_size,
        settings.dtype,
        trains=True,
        peer=lambda: peer_tasks.classifier_train(bench, name, batch),
    )


def unet_params(bench: Bench) -> Any:
    """Fresh parameters of the diffusion model; traceable."""
    side = bench.config.diffusion.image_size
    unet = build_unet(bench.config, bench.num_classes)
    return init_unet_params(unet, stream(0, "benchmark/init"), (side, side, 3))


def _unet_title(config: ConfigDict) -> str:
    return f"UNet of {config.unet.channels} channels"


def _classifier_title(settings: ConfigDict, side: int, batch_size: int) -> str:
    return f"{settings.network}, {side} px, {batch_size} images, {settings.dtype}"
