"""Syntax trees of the package's files, parsed once for all tests that read them."""

import ast
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "bargetrio"


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def nodes_of(path: Path) -> list[ast.AST]:
    """Return every node of a file's tree, as `ast.walk` does."""
    return list(ast.walk(tree_of(path)))
