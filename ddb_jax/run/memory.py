"""What memory the training steps of a config will take, by their compiled programs."""

from collections.abc import Iterable

from jax.sharding import Mesh
from ml_collections import ConfigDict

from ddb_jax.data.source import Dataset
from ddb_jax.debias import committee
from ddb_jax.debias.contract import plain
from ddb_jax.stages.common.compiled_steps import compile_classifier_step, compile_diffusion_step
from ddb_jax.stages.common.example_method import example_method, passes_of
from ddb_jax.stages.table import STAGES
from ddb_jax.training.step_memory import describe_memory, memory_of


def memory_table(
    config: ConfigDict,
    tasks: Iterable[tuple[str, str]],
    dataset: Dataset,
    generator_dataset: Dataset,
    mesh: Mesh,
) -> str:
    """A readable table of the memory that training steps take; each step is compiled for it.

    Of the classifier trainings, only the one with the most networks is listed.

    Args:
        config: The resolved config.
        tasks: Stage and method ("" where it has none) of those that are still to be run.
        dataset: At the classifier's size.
        generator_dataset: At the generator's size.
        mesh: The devices.

    Returns:
        Some lines; "" if nothing is trained.
    """
    tasks = list(tasks)
    stages, count = {stage for stage, _ in tasks}, len(dataset.class_names)
    trained = {STAGES[stage].trains for stage in stages}
    shape, generator_shape = (d.train.image_shape for d in (dataset, generator_dataset))
    compiled = {}
    if "diffusion" in trained:
        compiled["diffusion"] = compile_diffusion_step(config, count, generator_shape, mesh)
    if "amplifier" in trained:
        compiled["amplifier"] = compile_classifier_step(
            config.amplifier, count, generator_shape, mesh, plain()
        )
    if "classifier" in trained:
        methods = [plain()]
        methods += [example_method(config, m) for s, m in tasks if s == "train_classifier"]
        methods += [committee.make(config.committee)] if "train_committee" in stages else []
        most = max(methods, key=passes_of)
        compiled["classifier"] = compile_classifier_step(
            config.classifier, count, shape, mesh, most, num_scores=1
        )
    if not compiled:
        return ""
    device, lines, warnings = mesh.local_devices[0], [], []
    for name, program in compiled.items():
        text, warning = describe_memory(memory_of(program), device)
        lines += [f"  {name:10}  {text}"] if text else []
        warnings += [f"warning: {name}: {warning}"] if warning else []
    return "\n".join(["memory, by the compiled programs:", *lines, *warnings])
