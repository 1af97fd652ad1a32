"""A number of the package has a name, by which test_limits.py compares it with docs/limits.md.

No other number may stand in the code, but for the kinds and places that are listed here with their reason.
"""

import ast
import re
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from tests.sources import PACKAGE, TRIVIAL, called, is_number, modules, nodes_of, tree_of

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


def literal(node: ast.expr) -> float | None:
    """Return the number that is written there, as a literal or as arithmetic of some; None if it is none."""
    if any(not isinstance(part, (ast.Constant, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop)) for part in ast.walk(node)):
        return None
    value = eval(compile(ast.Expression(node), "a literal", "eval"))
    return value if is_number(value) else None


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
