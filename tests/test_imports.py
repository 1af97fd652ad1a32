"""The table of rooms in docs/architecture.md: which package may import which, and which modules are forbidden where."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.sources import PACKAGE, nodes_of, tree_of

MODULES = {"console", "files"}
"""Modules beside the rooms that a room may import."""


def table() -> dict[str, set[str]]:
    """Return the rooms of docs/architecture.md in their order, each with what it may import."""
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| `(\w+)/` \| .* \| ([^|]+) \|$", text, re.MULTILINE)
    return {room: names_in(allowed) for room, allowed in rows}


def names_in(text: str) -> set[str]:
    """Return the rooms and modules that a text names."""
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    return set(re.findall(r"\w+", text)) & (rooms | MODULES)


MAY_IMPORT = table()

NEVER: dict[str, set[str]] = {
    "protocol": {"trio", "os", "time", "socket", "logging", "threading"},
    "raft": {"trio", "os", "time", "datetime", "socket", "logging", "threading", "secrets", "pathlib", "io"},
    "kv": {"trio", "os", "time", "datetime", "socket", "logging", "threading", "random", "secrets"},
    "storage": {"trio", "time", "random", "logging"},
    "replica": {"trio", "os", "time", "datetime", "socket", "logging", "threading", "random", "secrets", "pathlib", "io"},
    "simulator": {"trio", "time", "datetime", "logging", "secrets", "click"},
    "eventlog": {"click"},
    "config": {"trio", "click"},
    "client": {"trio", "quart", "hypercorn"},
    "cli": {"trio", "quart", "hypercorn"},
}


def imports(path: Path) -> list[str]:
    """Return the dotted name of every import of a file."""
    found: list[str] = []
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            found.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found.append(node.module or "")
    return found


@cache
def import_graph() -> dict[str, set[str]]:
    """Return for each file of the package which other files it imports, for type checking too, by dotted names."""
    files = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
    graph: dict[str, set[str]] = {}
    for name, path in files.items():
        found: set[str] = set()
        for node in nodes_of(path):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    found.add(f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in files else str(node.module))
        found |= {f"{each}.__init__" for each in found}
        graph[name] = found & files.keys() - {name}
    return graph


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Return the sets of names that reach each other."""

    def reached(name: str) -> set[str]:
        seen: set[str] = set()
        waiting = [name]
        while waiting:
            for each in graph[waiting.pop()] - seen:
                seen.add(each)
                waiting.append(each)
        return seen

    reach = {name: reached(name) for name in graph}
    found: list[set[str]] = []
    for name in graph:
        if name in reach[name] and not any(name in circle for circle in found):
            found.append({each for each in reach[name] if name in reach[each]})
    return found


def room_files(room: str) -> list[Path]:
    """Return the files of a room; `simulator/stack/`, ring 2, runs the whole stack and may import everything."""
    return sorted(path for path in (PACKAGE / room).rglob("*.py") if path.parent != PACKAGE / "simulator" / "stack")


def test_every_room_is_in_the_table() -> None:
    """A new folder needs a line here, and a docstring."""
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == set(MAY_IMPORT)


def test_a_room_says_what_the_table_says() -> None:
    """In its docstring, in one sentence."""
    for room, allowed in MAY_IMPORT.items():
        docstring = ast.get_docstring(tree_of(PACKAGE / room / "__init__.py")) or ""
        (said,) = re.findall(r"May import ([^.:]*)[.:]", docstring)
        assert names_in(said) - {room} == allowed, room


def test_no_room_imports_one_that_stands_below_it_in_the_table() -> None:
    """Nor one in its own row."""
    above: set[str] = set()
    for room, allowed in MAY_IMPORT.items():
        assert allowed <= above | MODULES, room
        above.add(room)


def test_rooms_import_only_what_they_may() -> None:
    """Imports that only the type checker sees count too."""
    wrong: list[str] = []
    for room, allowed in MAY_IMPORT.items():
        for path in room_files(room):
            for name in imports(path):
                parts = name.split(".")
                if parts[0] == "bargetrio" and len(parts) > 1 and parts[1] not in allowed | {room}:
                    wrong.append(f"{path.relative_to(PACKAGE)} imports {name}")
                if parts[0] in NEVER.get(room, set()) and not (room == "storage" and path.name == "real_disk.py"):
                    wrong.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert wrong == []


def test_files_import_each_other_in_no_circle() -> None:
    """A file can be read when those below it are known."""
    assert circles(import_graph()) == []


def test_a_circle_of_imports_is_seen() -> None:
    """However long it is."""
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}) == [{"b", "c"}]


def test_the_rules_of_raft_do_not_know_what_dispatches_to_them() -> None:
    """State below, rules above, dispatch on top: no file of raft imports core.py."""
    importers = [name for name, imported in import_graph().items() if "bargetrio.raft.core" in imported]
    assert [name for name in importers if name.startswith("bargetrio.raft.")] == []


def test_a_file_of_raft_imports_only_those_that_its_room_names_before_it() -> None:
    """The list at the end of `raft/__init__`, which has them all."""
    docstring = ast.get_docstring(tree_of(PACKAGE / "raft" / "__init__.py")) or ""
    order = re.findall(r"\b(\w+)\.py\b", docstring[docstring.index("State below") :])
    assert sorted(order) == sorted(path.stem for path in (PACKAGE / "raft").glob("*.py") if path.stem != "__init__")
    graph = import_graph()
    for place, name in enumerate(order):
        above = {f"bargetrio.raft.{each}" for each in order[place:]}
        assert not graph[f"bargetrio.raft.{name}"] & above, name


def test_nothing_in_raft_kv_replica_and_simulator_uses_the_global_dice() -> None:
    """Randomness is a Random that the caller gives (`from random import Random`), never the module's functions."""
    for room in ("raft", "kv", "replica", "simulator"):
        for path in room_files(room):
            for node in nodes_of(path):
                assert not (isinstance(node, ast.Import) and any(alias.name == "random" for alias in node.names)), path
                if isinstance(node, ast.ImportFrom) and node.module == "random":
                    assert [alias.name for alias in node.names] == ["Random"], path


def test_no_test_module_imports_from_another_one() -> None:
    """What several share is in a module beside them, or in conftest.py: a test can be changed, moved or run by itself."""
    tests = PACKAGE.parent / "tests"
    wrong: list[str] = []
    for path in sorted(tests.rglob("*.py")):
        for node in nodes_of(path):
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            wrong += [f"{path.relative_to(tests)} imports {name}" for name in names if re.match(r"tests\b.*\.test_", name)]
    assert wrong == []


def test_client_commands_never_import_the_server() -> None:
    """`bargetrio get` starts fast: no trio, quart, hypercorn, and none of our server's rooms."""
    code = (
        "import sys, bargetrio.cli, bargetrio.client;"
        "print([name for name in sys.modules if name.split('.')[0] in ('trio', 'quart', 'hypercorn', 'prometheus_client')"
        " or name.startswith(('bargetrio.node', 'bargetrio.web', 'bargetrio.cluster', 'bargetrio.raft', 'bargetrio.storage'))])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
