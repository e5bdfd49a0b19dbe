"""The house's floors: a module imports only from floors below its own, and from its own room."""

import ast
from pathlib import Path

import pytest

from ddb_jax.debias.table import METHODS

PACKAGE = Path(__file__).parent.parent / "ddb_jax"
MODULES = sorted(PACKAGE.rglob("*.py"))

FLOORS = {
    "configs": 0,
    "runtime": 0,
    "evaluation": 0,
    "models": 0,
    "diffusion": 0,
    "debias": 0,
    "training": 1,
    "data": 1,
    "text_to_image": 2,
    "stages": 3,
    "checks": 4,
    "predict": 4,
    "run": 5,
    "benchmark": 5,
    "main": 6,
}
# Libraries that age fast, and the one room or module that may import them.
DOORS = {
    "orbax": ("training/checkpoint.py",),
    "grain": ("data/",),
    "tensorflow_datasets": ("data/",),
    "pyarrow": ("data/sets/arrow_files.py",),
    "array_record": ("data/",),
    "matplotlib": ("stages/report/", "stages/common/picture_names"),
    "tensorboardX": ("training/metric_writer.py",),
    "tensorflow": (),
    "torch": ("text_to_image/captioners.py", "benchmark/peer/"),
    "transformers": ("text_to_image/captioners.py",),
    "safetensors": ("models/safetensors_file.py", "text_to_image/published_params.py"),
    "codecarbon": ("runtime/energy.py",),
    "tokenizers": ("text_to_image/tokenizer.py",),
}
# The __init__ files that are not empty, and all that they import: the public face of the package,
# which imports the rest when it is used, and the way to the configs in a checkout.
FACES = {"__init__.py": {"importlib", "typing.Any"}, "configs/__init__.py": {"pathlib.Path"}}
# What every room of stages/ may import; the others meet in the files that they write.
SHARED = ("context", "common")


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
        assert imported(path) <= FACES.get(str(relative), set())
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


ROOMS_OF_STAGES = sorted(p.parent.name for p in (PACKAGE / "stages").glob("*/__init__.py"))


@pytest.mark.parametrize("own", ROOMS_OF_STAGES)
def test_rooms_of_stages_never_import_each_other(own):
    for path in (PACKAGE / "stages" / own).glob("*.py"):
        for name in imported(path):
            if name.startswith("ddb_jax.stages."):
                other = name.split(".")[2]
                assert other in (*SHARED, own), f"{path.name} of {own} imports {name}"
                assert own != "common" or other in SHARED, f"{path.name} of common imports {name}"


def test_methods_never_import_each_other():
    of_table = {entry.make.__module__.removeprefix("ddb_jax.debias.") for entry in METHODS.values()}
    methods = {*of_table, "committee", "eiil"}
    for method in methods:
        for name in imported(PACKAGE / "debias" / f"{method}.py"):
            other = name.removeprefix("ddb_jax.debias.").split(".")[0]
            assert not name.startswith("ddb_jax.debias.") or other not in methods, (method, name)


def test_the_test_sees_a_forbidden_import(tmp_path):
    module = tmp_path / "m.py"
    module.write_text("from ddb_jax.stages.report import report\nimport orbax.checkpoint as ocp\n")
    assert imported(module) == {"ddb_jax.stages.report.report", "orbax.checkpoint"}
