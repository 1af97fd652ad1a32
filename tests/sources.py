"""Syntax trees of the package's files, parsed once for all tests that read them, and questions about their nodes."""

import ast
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "bargetrio"

TRIVIAL = (0, 1, -1)
"""Nobody bounds anything by these defaults: none, one, the last."""


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def nodes_of(path: Path) -> list[ast.AST]:
    """Return every node of a file's tree, as `ast.walk` does."""
    return list(ast.walk(tree_of(path)))


def modules() -> list[Path]:
    """Return the package's modules but for the simulator's, and its command."""
    return [path for path in sorted(PACKAGE.rglob("*.py")) if "simulator" not in path.parts and path.name != "simulate.py"]


def called(node: ast.Call) -> str:
    """Return the last part of the name of what is called; of `open_memory_channel[T](n)`, too."""
    function = node.func.value if isinstance(node.func, ast.Subscript) else node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def is_number(value: object) -> bool:
    """Return whether it is a number, or some in a tuple, list, set or as values of a dictionary."""
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, (tuple, list, set, frozenset)):
        return bool(value) and all(map(is_number, value))
    return isinstance(value, (int, float)) and not isinstance(value, bool)
