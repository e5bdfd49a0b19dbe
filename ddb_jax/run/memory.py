"""The compiled training steps of a config, from shapes alone: what memory they will take."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ddb_jax.data.source import Dataset
from ddb_jax.debias import committee
from ddb_jax.debias.contract import JointMethod, LastLayer, Method, plain
from ddb_jax.stages.common import classifier_step, diffusion_step
from ddb_jax.stages.common.classifier_step import MAIN
from ddb_jax.stages.common.example_method import example_method, passes_of
from ddb_jax.stages.common.generator import build_unet, init_params
from ddb_jax.stages.common.networks import build_network, init_variables
from ddb_jax.training import train_state
from ddb_jax.training.checkpoint import abstract_like
from ddb_jax.training.mesh import batch_sharding, replicated, state_shardings
from ddb_jax.training.step_memory import describe_memory, jit_step, memory_of
from ddb_jax.training.train_state import TrainState

# Columns that a method may ask for, but for "bias_features", whose width is the network's.
COLUMNS = {
    "group": jnp.int32,
    "amplifier_loss": jnp.float32,
    "given_bias": jnp.int32,
    "flagged": jnp.bool_,
}

OF_DIFFUSION = {"train_diffusion", "train_balanced_diffusion"}
OF_CLASSIFIER = {
    "train_classifier", "train_base", "train_biased", "train_reference", "train_committee"
}  # fmt: skip


def memory_table(
    config: ConfigDict,
    tasks: Iterable[tuple[str, str]],
    dataset: Dataset,
    generator_dataset: Dataset,
    mesh: Mesh,
) -> str:
    """A table for people of the memory that training steps take, each compiled for it.

    Of the classifier's trainings, the one with the most networks.

    Args:
        config: The resolved config.
        tasks: Stage and method ("" where it has none) of those that are still to be run.
        dataset: At the classifier's size.
        generator_dataset: At the generator's size.
        mesh: The devices.

    Returns:
        Some lines; "" where nothing is trained.
    """
    tasks = list(tasks)
    stages, count = {stage for stage, _ in tasks}, len(dataset.class_names)
    shape, generator_shape = (d.train.image_shape for d in (dataset, generator_dataset))
    compiled = {}
    if stages & OF_DIFFUSION:
        compiled["diffusion"] = compile_diffusion_step(config, count, generator_shape, mesh)
    if "train_amplifier" in stages:
        compiled["amplifier"] = compile_classifier_step(
            config.amplifier, count, generator_shape, mesh, plain()
        )
    if stages & OF_CLASSIFIER:
        methods = [plain()]
        methods += [example_method(config, m) for s, m in tasks if s == "train_classifier"]
        methods += [committee.make(config.committee)] if "train_committee" in stages else []
        most = max((m for m in methods if not isinstance(m, LastLayer)), key=passes_of)
        compiled["classifier"] = compile_classifier_step(
            config.classifier, count, shape, mesh, most, selects=True
        )
    if not compiled:
        return ""
    device, lines, warnings = mesh.local_devices[0], [], []
    for name, program in compiled.items():
        text, warning = describe_memory(memory_of(program), device)
        lines += [f"  {name:10}  {text}"] if text else []
        warnings += [f"warning: {name}: {warning}"] if warning else []
    return "\n".join(["memory, by the compiled programs:", *lines, *warnings])


def compile_diffusion_step(
    config: ConfigDict, num_classes: int, image_shape: tuple[int, ...], mesh: Mesh
) -> jax.stages.Compiled:
    """The step of `train_diffusion`.

    Args:
        config: Its sections `unet` and `diffusion` are read.
        num_classes: Number of classes.
        image_shape: Of the images that it is trained on.
        mesh: The devices.
    """
    unet, settings = build_unet(config, num_classes), config.diffusion
    optimizer, train_step = diffusion_step.make_train_step(config, num_classes)

    def init(key: jax.Array) -> TrainState:
        params = init_params(unet, key, image_shape)
        return train_state.create({"params": params}, optimizer, ema=settings.ema_decay > 0)

    return _compile(init, train_step, settings.batch_size, image_shape, {}, mesh)


def compile_classifier_step(
    settings: ConfigDict,
    num_outputs: int,
    image_shape: tuple[int, ...],
    mesh: Mesh,
    method: Method | JointMethod,
    *,
    selects: bool = False,
) -> jax.stages.Compiled:
    """The step of a training of classifiers.

    Args:
        settings: A classifier section of the config.
        num_outputs: Number of classes.
        image_shape: Of the images that it is trained on, before they are cropped or enlarged.
        mesh: The devices.
        method: The debiasing method.
        selects: Whether the state also holds the weights that validation prefers.
    """
    size = settings.image_size or image_shape[0]
    joint = isinstance(method, JointMethod)
    kinds = {n: s.kind for n, s in method.networks.items()} if joint else {MAIN: "classifier"}
    models = {name: build_network(k, settings, num_outputs, size) for name, k in kinds.items()}
    optimizer, train_step = classifier_step.make_train_step(settings, models, size, method=method)

    def init(key: jax.Array) -> TrainState:
        fresh = {name: init_variables(model, key, size) for name, model in models.items()}
        variables = main = fresh[MAIN]
        if joint:
            variables = {
                part: {name: values[part] for name, values in fresh.items() if part in values}
                for part in ("params", "batch_stats")
            }
        return train_state.create(
            variables,
            optimizer,
            method_state=method.init_state(),
            num_scores=int(selects),
            selectable=main,
        )

    columns = {name: (COLUMNS[name], ()) for name in method.columns if name in COLUMNS}
    if "bias_features" in method.columns:
        columns["bias_features"] = (jnp.float32, (settings.width,))
    return _compile(init, train_step, settings.batch_size, image_shape, columns, mesh)


def _compile(
    init: Callable[[jax.Array], TrainState],
    train_step: Callable[..., Any],
    batch_size: int,
    image_shape: tuple[int, ...],
    columns: Mapping[str, tuple[Any, tuple[int, ...]]],
    mesh: Mesh,
) -> jax.stages.Compiled:
    """The step as `fit` compiles it, from a state as `init` makes it and batches as it is fed."""
    fields = {
        "image": (jnp.uint8, image_shape),
        **dict.fromkeys(("label", "bias", "index"), (jnp.int32, ())),
        **columns,
    }
    batch = {
        name: jax.ShapeDtypeStruct((batch_size, *shape), dtype)
        for name, (dtype, shape) in fields.items()
    }
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(init, key)
    abstract = (
        abstract_like(state, state_shardings(mesh, state)),
        abstract_like(batch, batch_sharding(mesh)),
        abstract_like(key, replicated(mesh)),
    )
    return jit_step(train_step, mesh, state).lower(*abstract).compile()
