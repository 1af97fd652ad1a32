"""docs/limits.md tells every bound of the package, with the value that it has.

The rule cannot be got around by a name: every number that a module defines, every numeric default of a field or of a parameter
is a bound, unless the page says that it is none; and no other number may stand in the code, but for the kinds and places that
are listed here with their reason. The simulator's own numbers are for tests, and are not asked for.
"""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache
from http import HTTPStatus
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


IN_ANY_PLACE = (0, 1, 2)
"""Numbers that may stand anywhere: none, one, the other one, and their negatives. (In a call of LIMITING, 2 is a bound.)"""

NO_BOUND: dict[tuple[str, str], str] = {
    ("cli/backup.py", "128 + number"): "the shell's exit code for a signal",
    ("cli/exit_codes.py", "EXIT_CODES[error.code] == 5"): "an exit code",
    ("cli/repl_commands.py", "CommandSpec('slow-link {id} {id} {ms}', 'delay what they send each other', ('id', 'id'), 3, 3)"): (
        "its words"
    ),
    ("cli/repl_commands.py", "('group',) * 4"): "what Tab offers of its words",
    ("cli/tables.py", "3 * len(columns)"): "characters of a frame: a line and two blanks a column",
    ("config/placement.py", "port < 1024"): "ports that need a privilege",
    ("console.py", "range(3)"): "the standard streams",
    ("daemon/sd_notify.py", "int(text) / 2000000"): "half of it, in microseconds",
    ("protocol/requests.py", "byte == 34"): "a quote",
    ("protocol/requests.py", "byte == 92"): "a backslash",
    ("protocol/secrets.py", "32 <= byte <= 126"): "printable ASCII",
    ("protocol/validation.py", "VALUE_BYTES // 4"): "the most bytes of a character in UTF-8",
    ("storage/recovery.py", "name[:16]"): "digits in a segment's name",
    ("transport/sockets.py", "bytes(4)"): "a C int",
    ("web/guard.py", "80 in ports"): "the port that a browser leaves out",
    ("web/protocols.py", "len(name) + len(value) + 4"): "a colon, a blank, and the line's end",
}
"""Expressions with a number that bounds nothing, and what it is."""

FORMATS = {
    "storage/kernel_sync.py": "the kernel's structures (io_uring, io_submit)",
    "storage/lines.py": "the form of a line of the log",
}
"""Files in which arithmetic, slices and what unpacks bytes have the offsets of a format."""


def modules() -> list[Path]:
    """Return the package's modules but for the simulator's, and its command."""
    return [path for path in sorted(PACKAGE.rglob("*.py")) if "simulator" not in path.parts and path.name != "simulate.py"]


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


def nameless(where: str, tree: ast.Module) -> set[str]:
    """Return the expressions of a module with a number that has no name and is of no kind that bounds nothing."""
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and is_number(node.value) and node.value not in IN_ANY_PLACE:
            chain = [node, *ancestors(node, parents)]
            if not (has_a_name(chain) or bounds_nothing(where, chain)):
                found.add(ast.unparse(next(each for each in chain[1:] if not isinstance(each, ast.keyword))))
    return found


def ancestors(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> Iterator[ast.AST]:
    """Yield the parent, its parent and so on; a slice counts with what is sliced."""
    while node in parents:
        node = parents[node]
        if not isinstance(node, ast.Slice):
            yield node


def has_a_name(chain: list[ast.AST]) -> bool:
    """Return whether `numbers` finds it: the value of a module's constant, a default of a field or of a parameter."""
    place = next(place for place, node in enumerate(chain) if isinstance(node, (ast.stmt, ast.arguments)))
    value, statement, owner = chain[place - 1], chain[place], chain[place + 1]
    plain = (ast.Constant, ast.BinOp, ast.UnaryOp, ast.Tuple, ast.List, ast.Set, ast.Dict)
    if isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is value:
        is_field = isinstance(statement, ast.AnnAssign) and isinstance(owner, ast.ClassDef) and len(chain) == place + 3
        return (isinstance(owner, ast.Module) or is_field) and all(isinstance(node, plain) for node in chain[:place])
    if isinstance(statement, ast.arguments) and isinstance(owner, (ast.FunctionDef, ast.AsyncFunctionDef)):
        is_method = isinstance(chain[place + 2], ast.ClassDef) and len(chain) == place + 4
        return (len(chain) == place + 3 or is_method) and all(isinstance(node, plain) for node in chain[:place])
    return False


def bounds_nothing(where: str, chain: list[ast.AST]) -> bool:
    """Return whether a number that has no name is an HTTP status, a bit mask or width, a factor of units, or the like."""
    constant, parent = chain[0], chain[1]
    assert isinstance(constant, ast.Constant)
    value, text = constant.value, ast.unparse(parent)
    if any((where, ast.unparse(node)) in NO_BOUND for node in chain if isinstance(node, ast.expr)):
        return True
    if isinstance(parent, ast.BinOp):
        is_mask = isinstance(parent.op, (ast.BitAnd, ast.BitOr, ast.LShift, ast.RShift, ast.Pow))
        is_unit = isinstance(parent.op, (ast.Mult, ast.Div, ast.FloorDiv)) and value in (1000, 1024)
        return is_mask or is_unit or where in FORMATS
    if isinstance(parent, ast.Subscript):
        return parent.slice is constant or where in FORMATS  # an index, or a slice of a format
    if isinstance(parent, ast.Call):
        name = called(parent)
        is_form = (name == "int" and value == 16) or name in ("round", "token_hex") or (name == "OSError" and value == 5)
        is_mode = value in (0o600, 0o700) and name in ("open", "mkdir", "fchmod")
        is_version = name == "_check_number" and value in (4, 6)
        is_status = name in ("Response", "send_error", "send_response", "count", "_answer") and is_http_status(value)
        return is_form or is_mode or is_version or is_status or (name == "unpack_from" and where in FORMATS)
    if isinstance(parent, ast.keyword):
        return (parent.arg == "status" and is_http_status(value)) or (parent.arg == "mode" and value == 0o700)
    if isinstance(parent, ast.Compare):
        is_version = "version" in text and value in (4, 6)
        return is_version or (re.search("status|code", text) is not None and (is_http_status(value) or value == 300))
    if isinstance(parent, ast.Assign):
        return ast.unparse(parent.targets[0]) == "status_code" and is_http_status(value)
    # Answers of REST: (200, headers, body), {"status": 200}, `201 if created else 200`, `problem.code or 500`.
    is_answer = isinstance(parent, (ast.Tuple, ast.IfExp)) or "'status'" in text or "code" in text
    return where.startswith(("web/", "client/")) and is_answer and is_http_status(value)


def is_http_status(value: object) -> bool:
    """Return whether it is a status, but for two that are also round numbers."""
    return isinstance(value, int) and value in set(HTTPStatus) - {100, 300}


def test_every_other_number_has_a_name() -> None:
    """Wherever it stands: compared, sliced, given to a call, in a class or in a local variable."""
    found = {
        f"{path.relative_to(PACKAGE)}: {text}"
        for path in modules()
        for text in nameless(str(path.relative_to(PACKAGE)), tree_of(path))
    }
    assert sorted(found) == [], "make it a constant with a row in docs/limits.md"


def test_every_listed_expression_is_in_the_code() -> None:
    """So that the list gets no longer than it must be."""
    for where, text in NO_BOUND:
        assert any(isinstance(node, ast.expr) and ast.unparse(node) == text for node in nodes_of(PACKAGE / where)), text
    assert all((PACKAGE / where).exists() for where in FORMATS)


@pytest.mark.parametrize(
    "code",
    [
        "class Queue:\n    most = 12_345",
        "class Handler:\n    class Inner:\n        most: int = 12_345",
        "def f():\n    most = 300",
        "def f():\n    def g(most=300): pass",
        "if len(x) > 5_000: pass",
        "if 3 * y < len(x): pass",
        "y = x[:300]",
        "del x[300:]",
        "y = f(x, timeout_s=60)",
        "y = f(64)",
        "@lru_cache(64)\ndef f(): pass",
        "@lru_cache(maxsize=64)\ndef f(): pass",
        "Short = Annotated[str, Meta(max_length=200)]",
        "class S(Struct):\n    key: Annotated[str, Meta(max_length=200)]",
        "def f(x):\n    return min(x, 200)",
        "def f(x):\n    return x or 300",
        "def f(x):\n    return 5.0 if x else 60",
        "def f(x):\n    while (y := 300) > x: pass",
        "def f(x):\n    x += 300",
        "match x:\n    case 300: pass",
    ],
)
@pytest.mark.parametrize("where", ["node/server.py", "web/rest.py", "storage/lines.py"])
def test_a_number_without_a_name_is_found(code: str, where: str) -> None:
    """However it is written, in whatever file; but a slice or a product in a file of a format is an offset of that."""
    is_offset = where in FORMATS and any(part in code for part in ("[:300]", "[300:]", "3 * y"))
    assert bool(nameless(where, ast.parse(code))) is not is_offset


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
