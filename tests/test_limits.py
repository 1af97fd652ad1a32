"""docs/limits.md tells every bound of the package, with the value that it has.

The rule cannot be got around by a name: every number that a module defines, every numeric default of a field or of a parameter
is a bound, unless the page says that it is none; and a number may not stand nameless in a call that waits, reads, queues or
limits. The simulator's own numbers are for tests, and are not asked for.
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

from tests.sources import PACKAGE, nodes_of, tree_of

PAGE = PACKAGE.parent / "docs" / "limits.md"
UNITS = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
TRIVIAL = (0, 1, -1)
"""Nobody bounds anything by these defaults: none, one, the last."""

LIMITING = frozenset(
    {
        *("deque", "open_memory_channel", "CapacityLimiter", "Semaphore", "Queue", "LifoQueue", "PriorityQueue"),
        *("BoundedSemaphore", "ThreadPoolExecutor"),
        *("sleep", "move_on_after", "fail_after", "wait", "join", "settimeout"),
        *(
            "recv",
            "recv_into",
            "receive_some",
            "read",
            "readline",
            "readexactly",
            "pread",
            "read1",
            "listen",
            "islice",
            "LineReader",
        ),
    }
)
"""Calls whose numbers are bounds; a number in one of them has a name."""


def modules() -> list[Path]:
    """Return the package's modules but for the simulator's."""
    return [path for path in sorted(PACKAGE.rglob("*.py")) if "simulator" not in path.parts]


def module_of(where: str) -> Any:
    """Return the module of a file that is named from the package's folder."""
    return importlib.import_module("bargetrio." + where.removesuffix(".py").replace("/", "."))


def is_number(value: object) -> bool:
    """Return whether it is a number, or some in a tuple, list, set or as values of a dictionary."""
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, (tuple, list, set, frozenset)):
        return bool(value) and all(map(is_number, value))
    return isinstance(value, (int, float)) and not isinstance(value, bool)


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
                is_told_elsewhere = value in TRIVIAL or isinstance(child.value, (ast.Name, ast.Attribute))
                if is_number(value) and not is_told_elsewhere:
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
                is_told_elsewhere = parameter.default in TRIVIAL or is_named(child, parameter.name)
                if is_number(parameter.default) and not is_told_elsewhere:
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


def told() -> dict[tuple[str, str], tuple[str, str]]:
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
    missing = numbers().keys() - told().keys() - no_bounds()
    assert sorted(missing) == [], "tell them in docs/limits.md"


def test_every_row_is_a_number_of_the_code_with_that_value() -> None:
    """So that the page can be believed; `2**31` and the like are written out."""
    real = numbers()
    assert sorted((told().keys() | no_bounds()) - real.keys()) == [], "they are not in the code"
    assert no_bounds().isdisjoint(told())
    for key, (text, unit) in told().items():
        assert value_of(text, unit) == pytest.approx(real[key], rel=1e-12), key


def test_every_row_says_what_happens_and_who_notices() -> None:
    """Six cells, none of them empty; each constant once."""
    table = rows("The table")
    assert all(len(row) == 6 and all(row) for row in table)
    assert len(told()) == len(table)


def test_a_number_in_a_call_that_limits_has_a_name() -> None:
    """Else nobody would find it."""
    nameless: list[str] = []
    for path in modules():
        for node in nodes_of(path):
            if isinstance(node, ast.Call) and called(node) in LIMITING:
                values = [*node.args, *(keyword.value for keyword in node.keywords)]
                if any(literal(value) not in (None, *TRIVIAL) for value in values):
                    nameless.append(f"{path.relative_to(PACKAGE)}:{node.lineno} {ast.unparse(node)[:60]}")
    assert nameless == []


def called(node: ast.Call) -> str:
    """Return the last part of the name of what is called; of `open_memory_channel[T](n)`, too."""
    function = node.func.value if isinstance(node.func, ast.Subscript) else node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def literal(node: ast.expr) -> float | None:
    """Return the number that is written there, as a literal or as arithmetic of some; None if it is none."""
    if any(not isinstance(part, (ast.Constant, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop)) for part in ast.walk(node)):
        return None
    value = eval(compile(ast.Expression(node), "a literal", "eval"))
    return value if is_number(value) else None


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
