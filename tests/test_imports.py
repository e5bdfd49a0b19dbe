"""The house's floors: a module imports only from floors below its own, and from its own room."""

import ast
from pathlib import Path

import pytest

from ddb_jax.debias.methods import METHODS

PACKAGE = Path(__file__).parent.parent / "ddb_jax"
MODULES = sorted(PACKAGE.rglob("*.py"))

FLOORS = {
    "training": 0,
    "evaluation": 0,
    "data": 1,
    "models": 1,
    "diffusion": 1,
    "debias": 1,
    "reporting": 1,
    "text_to_image": 1,
    "stages": 2,
    "plan": 3,
    "field_values": 3,
    "task_record": 4,
    "config_check": 4,
    "cost": 4,
    "benchmark": 5,
    "pipeline": 5,
    "main": 6,
}
# Libraries that age fast, and the one room or module that may import them.
DOORS = {
    "orbax": ("training/checkpoint.py",),
    "grain": ("data/",),
    "tensorflow_datasets": ("data/",),
    "array_record": ("data/",),
    "matplotlib": ("reporting/",),
    "tensorboardX": ("training/metric_writer.py",),
    "tensorflow": (),
    "torch": ("text_to_image/captioners.py", "benchmark/peer/"),
    "transformers": ("text_to_image/captioners.py",),
    "safetensors": ("text_to_image/published_params.py",),
    "codecarbon": ("training/codecarbon_tracker.py",),
    "tokenizers": ("text_to_image/tokenizer.py",),
}
STAGES = (
    "train_diffusion",
    "synthesize",
    "measure_synthesis",
    "train_amplifier",
    "score",
    "given_scores",
    "train_reference",
    "train_committee",
    "train_bias_features",
    "train_base",
    "train_biased",
    "extract",
    "caption",
    "filter_captions",
    "train_autoencoder",
    "train_text_to_image",
    "draw",
    "train_balanced_diffusion",
    "steer",
    "check_generated",
    "score_generated",
    "train_last_layer",
    "infer_environments",
    "train_classifier",
    "evaluate",
    "report",
)


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(dotted: str) -> str:
    return dotted.split(".")[1]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_floors(path):
    relative = path.relative_to(PACKAGE)
    if relative.name == "__init__.py":
        assert not imported(path)
        return
    own = relative.parts[0].removesuffix(".py")
    for name in imported(path):
        if name.startswith("ddb_jax."):
            other = room(name)
            lower = other in FLOORS and FLOORS[other] < FLOORS[own]
            sibling = other == own
            assert lower or sibling, f"{relative} (floor {FLOORS[own]}) imports {name}"
        door = DOORS.get(name.split(".")[0])
        if name.startswith("flax.linen"):
            door = ("models/", "text_to_image/")
        if door is not None:
            assert str(relative).startswith(door or "none"), f"{relative} imports {name}"


def test_stages_never_import_each_other():
    for stage in STAGES:
        path = PACKAGE / "stages" / f"{stage}.py"
        for name in imported(path):
            other = name.removeprefix("ddb_jax.stages.").split(".")[0]
            assert not name.startswith("ddb_jax.stages.") or other not in STAGES, (stage, name)


def test_methods_never_import_each_other():
    of_table = {entry.make.__module__.removeprefix("ddb_jax.debias.") for entry in METHODS.values()}
    methods = {*of_table, "committee", "eiil"}
    for method in methods:
        for name in imported(PACKAGE / "debias" / f"{method}.py"):
            other = name.removeprefix("ddb_jax.debias.").split(".")[0]
            assert not name.startswith("ddb_jax.debias.") or other not in methods, (method, name)


def test_the_test_sees_a_forbidden_import(tmp_path):
    module = tmp_path / "m.py"
    module.write_text("from ddb_jax.stages import report\nimport orbax.checkpoint as ocp\n")
    assert imported(module) == {"ddb_jax.stages.report", "orbax.checkpoint"}
