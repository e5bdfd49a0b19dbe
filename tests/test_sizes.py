"""How long files and functions may be."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_FILE_LINES, MAX_FUNCTION_LINES = 300, 80

# Functions that are longer, and why.
LONG_FUNCTIONS = {
    ("ddb_jax/training/fit.py", "fit"): (
        "The training loop reads from top to bottom in one place; half of it is its docstring."
    ),
}


def files(pattern: str, *folders: str) -> list[Path]:
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob(pattern))]
    assert found
    return found


def long_functions(source: str) -> list[str]:
    """Functions that are too long, with their docstring and without their decorators."""
    functions = (
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return [f.name for f in functions if f.end_lineno - f.lineno + 1 > MAX_FUNCTION_LINES]


@pytest.mark.parametrize(("extra", "found"), [(0, []), (1, ["f"])])
def test_lines_are_counted_from_def_to_the_last(extra, found):
    body = ["    x = 0"] * (MAX_FUNCTION_LINES - 1 + extra)
    assert long_functions("\n".join(["@print", "def f():", *body, "", ""])) == found


def test_no_file_is_long():
    read = [*files("*.py", "ddb_jax", "configs", "tests"), *files("*.s*", "launch")]
    lines = {path: len(path.read_text().splitlines()) for path in read}
    assert {str(path): n for path, n in lines.items() if n > MAX_FILE_LINES} == {}


def test_no_function_is_long_but_those_with_a_reason():
    found = {
        (str(path.relative_to(ROOT)), name)
        for path in files("*.py", "ddb_jax", "configs")
        for name in long_functions(path.read_text())
    }
    assert found == set(LONG_FUNCTIONS)
