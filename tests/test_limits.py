"""docs/limits.md has every bound of the package, with the value that it has.

The rule cannot be got around by a name: every number that a module defines, every numeric default of a field or of a parameter
is a bound, unless the page says that it is none; test_named_numbers.py finds those that have no name. The simulator's own numbers
are for tests, and are not asked for.
"""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.sources import PACKAGE, TRIVIAL, called, is_number, modules, nodes_of, tree_of

PAGE = PACKAGE.parent / "docs" / "limits.md"
UNITS = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


def module_of(where: str) -> Any:
    """Return the module of a file that is named from the package's folder."""
    return importlib.import_module("bargetrio." + where.removesuffix(".py").replace("/", "."))


def constants(path: Path, module: Any) -> Iterator[tuple[str, object]]:
    """Yield the numbers that a module defines itself, whatever they are called."""
    for node in tree_of(path).body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        for target in targets:
            for name in ast.walk(target):
                if isinstance(name, ast.Name) and is_number(value := getattr(module, name.id, None)):
                    yield name.id, value


def fields(path: Path, module: Any) -> Iterator[tuple[str, object]]:
    """Yield the numeric defaults of the fields of a module's classes, however they are written."""
    for node in tree_of(path).body:
        if not isinstance(node, ast.ClassDef):
            continue
        kind = getattr(module, node.name)
        for child in node.body:
            if isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name) and child.value is not None:
                value = default_of(kind, child.target.id)
                is_stated_elsewhere = value in TRIVIAL or isinstance(child.value, (ast.Name, ast.Attribute))
                if is_number(value) and not is_stated_elsewhere:
                    yield f"{node.name}.{child.target.id}", value


def default_of(kind: Any, name: str) -> object:
    """Return the default of a field of a struct, a named tuple, a dataclass or a plain class."""
    if issubclass(kind, msgspec.Struct):
        return next((field.default for field in msgspec.structs.fields(kind) if field.name == name), None)
    if hasattr(kind, "_field_defaults"):
        return kind._field_defaults.get(name)
    if hasattr(kind, "__dataclass_fields__"):
        return kind.__dataclass_fields__[name].default
    return getattr(kind, name, None)


def parameters(path: Path, module: Any) -> Iterator[tuple[str, object]]:
    """Yield the numeric defaults of the parameters of a module's functions and methods."""
    for node in tree_of(path).body:
        owners = [("", node)] if not isinstance(node, ast.ClassDef) else [(node.name + ".", child) for child in node.body]
        for prefix, child in owners:
            if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) or any(map(is_overload, child.decorator_list)):
                continue
            owner = getattr(module, prefix[:-1]) if prefix else module
            written = inspect.getattr_static(owner, child.name)
            function = getattr(written, "__func__", getattr(written, "fget", None)) or written
            if not callable(function):
                continue
            for parameter in inspect.signature(function).parameters.values():
                is_stated_elsewhere = parameter.default in TRIVIAL or is_named(child, parameter.name)
                if is_number(parameter.default) and not is_stated_elsewhere:
                    yield f"{prefix}{child.name}({parameter.name})", parameter.default


def is_overload(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Name) and decorator.id == "overload"


def is_named(function: ast.FunctionDef | ast.AsyncFunctionDef, parameter: str) -> bool:
    """Return whether the default is written as a name: then that constant has its row."""
    every = [*function.args.posonlyargs, *function.args.args]
    pairs = list(zip(every[len(every) - len(function.args.defaults) :], function.args.defaults, strict=True))
    pairs += [(name, value) for name, value in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True) if value]
    return any(name.arg == parameter and isinstance(value, (ast.Name, ast.Attribute)) for name, value in pairs)


@cache
def numbers() -> dict[tuple[str, str], object]:
    """Return every number of the package by (file, name)."""
    found: dict[tuple[str, str], object] = {}
    for path in modules():
        where = str(path.relative_to(PACKAGE))
        if path.name in ("__main__.py", "__init__.py"):
            continue
        module = module_of(where)
        for part in (constants, fields, parameters):
            for name, value in part(path, module):
                found[where, name] = value
    return found


def rows(title: str) -> list[list[str]]:
    """Return the cells of the table below a heading of the page."""
    section = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert section is not None, title
    lines = [line for line in section[1].splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def stated() -> dict[tuple[str, str], tuple[str, str]]:
    """Return (value, unit) of each row of the table, by (file, name)."""
    return {(where.strip("`"), name.strip("`")): (value, unit) for name, value, unit, where, _, _ in rows("The table")}


def no_bounds() -> set[tuple[str, str]]:
    return {
        (where.strip("`"), name)
        for names, where, _ in rows("Numbers that are no bounds")
        for name in re.findall(r"`([^`]+)`", names)
    }


def value_of(text: str, unit: str) -> object:
    """Return what a row says."""
    values = [float(part) * UNITS.get(unit, 1) for part in text.split(" to ")]
    return tuple(values) if len(values) > 1 else values[0]


def test_every_number_is_a_row_of_the_page_or_is_said_to_be_no_bound() -> None:
    """Also those that nobody thought of as bounds: the page says what happens at each."""
    missing = numbers().keys() - stated().keys() - no_bounds()
    assert sorted(missing) == [], "tell them in docs/limits.md"


def test_every_row_is_a_number_of_the_code_with_that_value() -> None:
    """So that the page can be believed; `2**31` and the like are written out."""
    real = numbers()
    assert sorted((stated().keys() | no_bounds()) - real.keys()) == [], "they are not in the code"
    assert no_bounds().isdisjoint(stated())
    for key, (text, unit) in stated().items():
        assert value_of(text, unit) == pytest.approx(real[key], rel=1e-12), key


def test_every_row_says_what_happens_and_who_notices() -> None:
    """Six cells, none of them empty; each constant once."""
    table = rows("The table")
    assert all(len(row) == 6 and all(row) for row in table)
    assert len(stated()) == len(table)


def test_every_queue_has_a_length_or_a_word_about_what_bounds_it() -> None:
    """A `deque` without `maxlen`, and a channel without a size, take whatever comes."""
    explained = {(where.strip("`"), name.strip("`")) for name, where, _ in rows("Queues without a bound of their own")}
    found: set[tuple[str, str]] = set()
    for path in modules():
        for node in nodes_of(path):
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None and makes_endless_queue(node.value):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                name = target.attr if isinstance(target, ast.Attribute) else ast.unparse(target)
                found.add((str(path.relative_to(PACKAGE)), name))
    assert found == explained


def makes_endless_queue(node: ast.expr) -> bool:
    """Return whether the value is, or has as its default, a queue without an end."""
    for part in ast.walk(node):
        if isinstance(part, ast.keyword) and part.arg == "default_factory" and ast.unparse(part.value).endswith("deque"):
            return True
        if (
            isinstance(part, ast.Call)
            and called(part) in ("deque", "Queue", "SimpleQueue")
            and not part.keywords
            and len(part.args) < 2
        ):
            return True
        if isinstance(part, ast.Call) and called(part) == "open_memory_channel" and "inf" in ast.unparse(part):
            return True
    return False


def list_attributes(nodes: list[ast.AST]) -> set[str]:
    """Return the attributes that begin as a list and are appended to: such a list can be a queue."""
    lists: set[str] = set()
    appended: set[str] = set()
    for node in nodes:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None and is_list(node.value):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            lists |= {last_name(target) for target in targets}
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple) and any(map(is_list, node.value.elts)):
            lists |= {last_name(part) for target in node.targets for part in getattr(target, "elts", [])}
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Attribute):
            appended.add(node.target.attr)
        elif isinstance(node, ast.Attribute) and node.attr in ("append", "extend", "insert"):  # called here or kept for later
            appended |= {node.value.attr} if isinstance(node.value, ast.Attribute) else set()
    return lists & appended


def is_list(node: ast.expr) -> bool:
    """Return whether it is a list, also as the default of a field."""
    if isinstance(node, ast.Call):
        return called(node) == "list" or any(word.arg == "default_factory" and is_type_list(word.value) for word in node.keywords)
    return isinstance(node, ast.List)


def is_type_list(node: ast.expr) -> bool:
    return ast.unparse(node).partition("[")[0] == "list"


def last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else ast.unparse(node)


def test_every_list_that_grows_has_a_word_about_what_bounds_it() -> None:
    """An object's list that is appended to lives as long as the object."""
    explained = {
        (where.strip("`"), name) for names, where, _ in rows("Lists that grow") for name in re.findall(r"`([^`]+)`", names)
    }
    found = {(str(path.relative_to(PACKAGE)), name) for path in modules() for name in list_attributes(nodes_of(path))}
    assert found == explained


def test_a_list_that_is_a_queue_is_found() -> None:
    """With or without a type, as a field, however it grows."""
    for beginning in ("self._queue = []", "self._queue: list[int] = []", "self._queue = list()", "self._a, self._queue = [], []"):
        for growth in ("self._queue.append(1)", "self._queue += [1]", "self._queue.insert(0, 1)", "add = self._queue.append"):
            code = f"{beginning}\ndef f(self):\n    {growth}\n"
            assert list_attributes(list(ast.walk(ast.parse(code)))) == {"_queue"}, code
    field = "class A(Struct):\n    queue: list[int] = field(default_factory=list[int])\ndef f(a):\n    a.queue.extend([1])"
    assert list_attributes(list(ast.walk(ast.parse(field)))) == {"queue"}
