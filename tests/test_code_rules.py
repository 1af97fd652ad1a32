"""Rules about the package's code: typed without Any, one loop around the core, names, trio's public interface, prints."""

import ast
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.sources import PACKAGE, nodes_of, tree_of


def uses_any(nodes: Iterable[ast.AST]) -> bool:
    """Return whether `Any` is imported, or used as an attribute of the module, or in an annotation that is a string."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and any(alias.name in ("Any", "*") for alias in node.names):
            return True
        if isinstance(node, ast.Attribute) and node.attr == "Any":
            return True
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(r"\btyping\w*\.Any\b", node.value):
            return True
    return False


def test_the_client_library_is_typed_without_any() -> None:
    """What it returns are structs of protocol/; `Any` would hide a wrong name from its users' type checkers."""
    assert [path.name for path in sorted((PACKAGE / "client").rglob("*.py")) if uses_any(nodes_of(path))] == []


def test_any_is_seen() -> None:
    """However it is written."""
    for use in ("from typing import Any", "from typing import Any as A", "x: typing.Any", "import typing as t\nx: t.Any"):
        assert uses_any(ast.walk(ast.parse(use))), use
    for use in ("from typing import *", "x: 'typing.Any'", "def f(x: dict[str, typing.Any]): pass"):
        assert uses_any(ast.walk(ast.parse(use))), use
    assert not uses_any(ast.walk(ast.parse("from typing import Final\n'Any.'\nany(x)")))


def classes(paths: Iterable[Path]) -> dict[str, list[str]]:
    """Return the files that define a class of each name, wherever in the file."""
    found: dict[str, list[str]] = {}
    for path in paths:
        for node in nodes_of(path):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(path.name)
    return found


def test_the_name_of_a_class_says_which_it_is() -> None:
    """No two classes of the package have the same name, public or not."""
    found = classes(sorted(PACKAGE.rglob("*.py")))
    assert {name: files for name, files in found.items() if len(files) > 1} == {}


def test_a_private_class_with_the_name_of_another_is_seen(tmp_path: Path) -> None:
    """In another file, at the top or within a function."""
    for name, text in (("one.py", "class _Problem: pass"), ("other.py", "def f():\n    class _Problem: pass")):
        (tmp_path / name).write_text(text)
    assert classes(sorted(tmp_path.glob("*.py"))) == {"_Problem": ["one.py", "other.py"]}


DRIVES_A_CORE = {"replica/replica.py"}
"""The one loop around the core: all three hosts, of the product and of both rings, call a Replica."""
CORES = {"raft/cores.py"}
"""The one exception of the tests: unit tests of the core's rules (docs/testing.md)."""


def core_calls(nodes: Iterable[ast.AST]) -> set[str]:
    """Return the calls that a loop around the core makes: `take_effects` of anything, `tick` and `step` of a core."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Call) and called_name(node) == "getattr" and name_looked_up(node) in ("take_effects", "tick"):
            found.add(name_looked_up(node))
        elif isinstance(node, ast.Attribute):
            is_of_core = re.search(r"(^|[._])core(_of\(.*\))?$", ast.unparse(node.value)) is not None
            if node.attr == "take_effects" or (node.attr in ("tick", "step") and is_of_core):
                found.add(node.attr)
    return found


def test_one_loop_drives_the_core() -> None:
    """A second one would have rules of its own for batches, time-outs and overload, which no simulator tries."""
    wrong = [
        str(path.relative_to(PACKAGE))
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.parent != PACKAGE / "raft" and core_calls(nodes_of(path))
    ]
    assert set(wrong) == DRIVES_A_CORE


def test_one_loop_of_the_tests_drives_a_core() -> None:
    """It says why in its docstring; `tests/raft` may give a core single inputs."""
    tests = PACKAGE.parent / "tests"
    found = {str(path.relative_to(tests)) for path in tests.rglob("*.py") if "take_effects" in core_calls(nodes_of(path))}
    assert found == CORES
    outside = {path for path in tests.rglob("*.py") if path.parent != tests / "raft" and core_calls(nodes_of(path))}
    assert outside == set()
    assert "no Replica" in (ast.get_docstring(tree_of(tests / "raft" / "cores.py")) or "")


def test_a_second_loop_around_a_core_is_seen() -> None:
    """However the core is reached."""
    uses = {
        "for effect in self._core.take_effects(): pass": {"take_effects"},
        "for effect in node.replica.core.take_effects(may_apply=False): pass": {"take_effects"},
        "take = machine.take_effects": {"take_effects"},
        'getattr(machine, "take_effects")()': {"take_effects"},
        "core.tick(now)": {"tick"},
        "self._core_of(3).tick(now)": {"tick"},
        "step = self._core.step": {"step"},
    }
    for use, calls in uses.items():
        assert core_calls(ast.walk(ast.parse(use))) == calls, use
    assert core_calls(ast.walk(ast.parse("replica.step(now)\nclock.tick(now)"))) == set()


def late_parts(tree: ast.Module) -> set[str]:
    """Return the attributes that `__init__` leaves None, and that a method then asserts not to be None without a word.

    Such an object can be asked before it has been started; where a state is meant, the assertion says which one, and of what.
    """
    found: set[str] = set()
    for kind in ast.walk(tree):
        if not isinstance(kind, ast.ClassDef):
            continue
        nones, asserted, there = set[str](), set[str](), asserted_to_be_there(kind)
        for node in ast.walk(kind):
            if (
                isinstance(node, (ast.Assign, ast.AnnAssign))
                and isinstance(node.value, ast.Constant)
                and node.value.value is None
            ):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                nones.add(ast.unparse(target))
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.Attribute):
                asserted |= {ast.unparse(node.value)} if node.targets[0].id in there else set()
        asserted |= there
        found |= {f"{kind.name}{name.removeprefix('self')}" for name in nones & asserted if name.startswith("self.")}
    return found


def asserted_to_be_there(kind: ast.ClassDef) -> set[str]:
    """Return each NAME for which the class has `assert NAME is not None` without a message."""
    tests = [node.test for node in ast.walk(kind) if isinstance(node, ast.Assert) and not node.msg]
    words = [ast.unparse(test) for test in tests]
    return {word.removesuffix(" is not None") for word in words if word.endswith(" is not None")}


def test_no_object_must_be_started_before_it_can_be_asked() -> None:
    """A part that comes later is an argument of the call that needs it, or of the constructor."""
    found = {
        f"{path.relative_to(PACKAGE)}: {name}" for path in sorted(PACKAGE.rglob("*.py")) for name in late_parts(tree_of(path))
    }
    assert found == set()


def test_an_object_that_must_be_started_first_is_seen() -> None:
    """Asked for directly, or through a local name."""
    begin = "class A:\n    def __init__(self):\n        self._guard: Guard | None = None\n    def f(self):\n"
    for body in ("        assert self._guard is not None", "        guard = self._guard\n        assert guard is not None"):
        assert late_parts(ast.parse(begin + body)) == {"A._guard"}, body


RING_2 = {"simulator/stack/seed.py"}
"""Its virtual time needs an instrument of trio's, and two private names: its scheduler's dice, and that they are to be used."""


def foreign_privates(nodes: Iterable[ast.AST], own: set[str]) -> set[str]:
    """Return what nodes use of other libraries' private parts: `trio._x`, `task._x`, and what has an instrument in its name.

    `own` are all names that the package defines. A subclass may use what its base class keeps for subclasses.
    """
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            text = ast.unparse(node)
            is_foreign = not text.startswith(("self.", "cls.", "super()."))
            if is_foreign and re.fullmatch(r"_[^_].*", node.attr) and node.attr not in own:
                found.add(text)
            names = [text]
        elif isinstance(node, ast.Call):
            names = [f"trio.{word.arg}" for word in node.keywords if word.arg == "instruments"]
            if name := name_looked_up(node):
                of = ast.unparse(node.args[0])
                if re.fullmatch(r"_[^_].*", name) and name not in own:
                    found.add(f"{of}.{name}")
                names += [name, f"{of}.{name}"]
        else:
            continue
        found |= {name for name in names if re.match(r"(trio|outcome)\b.*(\._|instrument)", name, re.IGNORECASE)}
    return found - {"os._exit"}


LOOK_UPS = {"getattr", "setattr", "delattr", "hasattr", "attrgetter", "import_module", "__import__"}


def called_name(node: ast.Call) -> str:
    return ast.unparse(node.func).rpartition(".")[2]


def name_looked_up(node: ast.Call) -> str:
    """Return the name that a call like `getattr(trio, "_core")` has as a string; empty if it has none."""
    if called_name(node) not in LOOK_UPS:
        return ""
    texts = [part.value for part in node.args if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    return texts[0] if texts else ""


def names_defined(paths: Iterable[Path]) -> set[str]:
    """Return the names of all functions, classes, variables and attributes that these files define."""
    found: set[str] = set()
    for path in paths:
        for node in nodes_of(path):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                found.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
                found.add(node.attr)
    return found


@pytest.mark.slow
def test_trio_is_used_by_its_public_interface_only() -> None:
    """And nothing runs inside an instrument of its: where trio keeps its parts may change, and tests' clocks see tasks only."""
    paths = sorted(PACKAGE.rglob("*.py"))
    own = names_defined(paths)
    found = {str(path.relative_to(PACKAGE)): foreign_privates(nodes_of(path), own) for path in paths}
    assert {path: names for path, names in found.items() if names and path not in RING_2} == {}
    of_runner = {name.removeprefix("runner.") for path in RING_2 for name in found[path] if name.startswith("runner.")}
    assert of_runner == {"_r", "_ALLOW_DETERMINISTIC_SCHEDULING"}


def test_a_use_of_trios_private_parts_is_seen() -> None:
    """However it is written."""
    uses = {
        "trio._core._run.GLOBAL_RUN_CONTEXT": "trio._core._run.GLOBAL_RUN_CONTEXT",
        "from trio._core import _run": "trio._core._run",
        "from trio import _core": "trio._core",
        "import trio._core": "trio._core",
        "task._schedule_points": "task._schedule_points",
        "class Waits(trio.abc.Instrument): pass": "trio.abc.Instrument",
        "trio.lowlevel.add_instrument(one)": "trio.lowlevel.add_instrument",
        "trio.run(main, instruments=[one])": "trio.instruments",
        'getattr(trio, "_core")': "trio._core",
        'getattr(trio.lowlevel, "add_instrument")': "trio.lowlevel.add_instrument",
        'setattr(task, "_schedule_points", 0)': "task._schedule_points",
        'operator.attrgetter("_core")(trio)': "'_core'._core",
        'importlib.import_module("trio._core")': "trio._core",
        '__import__("trio._core")': "trio._core",
    }
    for use, name in uses.items():
        assert name in foreign_privates(ast.walk(ast.parse(use)), {"_own"}), use
    own = "self._nursery.start_soon(trio.sleep, 1)\nsession._own.cancel()\nos._exit(3)\n"
    assert foreign_privates(ast.walk(ast.parse(own)), {"_own"}) == set()


def test_only_the_console_prints() -> None:
    """Whoever prints for itself forgets that the stream may be closed, full, or without the character."""
    wrong: list[str] = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in nodes_of(path):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called in ("print", "click.echo", "click.secho") or re.match(r"sys\.std(in|out|err)\.(?!isatty)", called):
                    wrong.append(f"{path.relative_to(PACKAGE)}:{node.lineno}: {called}")
    allowed = ("console.py:", "cli/shared.py:")
    assert [place for place in wrong if not place.startswith(allowed)] == []
