"""Documents name what there is, and what they name is there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from click import Command, Group

from bargetrio.cli import cli
from bargetrio.cli.repl import HELP
from bargetrio.config import NODE_KEYS, SNAPSHOT_KEYS, TIMING_KEYS, TOP_KEYS
from bargetrio.protocol.errors import APPLIED
from bargetrio.protocol.events import KINDS
from bargetrio.simulator.breaks import BREAKS
from bargetrio.web.routes import ROUTES
from tests.simulator import amounts

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
RESULTS = ROOT / "benchmarks" / "results.md"
PAGES = (
    *("tour", "a_write", "architecture", "raft", "wire_format", "storage_format", "rest", "events"),
    *("configuration", "operations", "performance", "testing", "bugs", "client", "metrics", "page", "glossary"),
)


MADE_BY_COMMANDS = {"log.html", "run.html", "new.yml", "prometheus.yml", "backup.snap"}
"""Files that documents name and the repository does not have."""

FOREIGN = {"RWF_DSYNC", "proxy_next_upstream"}
"""Names of the kernel and of nginx."""


def text_of(name: str) -> str:
    return (DOCS / f"{name}.md").read_text()


def test_every_page_is_there_and_readme_leads_to_it() -> None:
    """A page that nobody finds is no page."""
    readme = (ROOT / "README.md").read_text()
    for page in PAGES:
        assert (DOCS / f"{page}.md").exists()
        assert f"docs/{page}.md" in readme, page
    for page in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE"):
        assert (ROOT / page).exists()
        assert f"({page})" in readme, page


def test_the_glossary_is_short() -> None:
    """A word that needs a place in it had better be another word."""
    assert len(text_of("glossary").splitlines()) < 20


def test_links_lead_somewhere() -> None:
    """In README and every page."""
    for page in [*documents(), ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def documents() -> list[Path]:
    """Return every document but CHANGELOG.md, which tells of what was."""
    return [path for path in sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), RESULTS]) if path.name != "CHANGELOG.md"]


@cache
def repository_files() -> frozenset[str]:
    """Return the paths of the files that documents may name, from the repository's root."""
    folders = ("bargetrio", "benchmarks", "docs", "systemd", "tests", ".ci")
    found = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return frozenset(path.relative_to(ROOT).as_posix() for path in [*found, *ROOT.iterdir()])


def files_called(name: str) -> list[str]:
    """Return the files that a document means by `name`: their whole path, or its end."""
    return [path for path in repository_files() if path == name or path.endswith(f"/{name}")]


@cache
def definitions(file: str) -> dict[str, frozenset[str]]:
    """Return what a Python file defines at its top, each with the names in it: methods and attributes of a class."""
    found: dict[str, frozenset[str]] = {}
    for node in ast.parse((ROOT / file).read_text()).body:
        names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            inside = {each.name for each in ast.walk(node) if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))}
            attributes = {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}
            found[node.name] = frozenset(names | inside | attributes)
        else:
            found.update(dict.fromkeys(names, frozenset()))
    return found


@cache
def words_of_the_code() -> frozenset[str]:
    """Return all words of the program, its pages, its tests and its settings."""
    files = [path for path in repository_files() if path.endswith((".py", ".js", ".html", ".css", ".toml", ".yml", ".service"))]
    return frozenset(word for path in files for word in re.findall(r"\w+", (ROOT / path).read_text()))


def test_every_file_that_a_document_names_is_there() -> None:
    """In backquotes or not; a name without its folder is the end of a path."""
    pattern = r"(?<![\w/.<*-])((?:\.?[\w@-]+/)*[\w@.-]+\.(?:py|md|js|html|css|yml|service|toml|svg|png))\b(?!\.)"
    dead = [
        f"{page.name}: {name}"
        for page in documents()
        for name in re.findall(pattern, page.read_text())
        if not files_called(name) and name.rpartition("/")[2] not in MADE_BY_COMMANDS
    ]
    assert dead == []


def test_every_folder_that_a_document_names_is_there() -> None:
    """`raft/` is a room, `tests/stories` a folder of tests."""
    folders = {f"/{path.rpartition('/')[0]}/" for path in repository_files()}
    dead = [
        f"{page.name}: {name}"
        for page in documents()
        for name in re.findall(r"`((?:\.?\w\w+/)+)`|`((?:bargetrio|tests|docs|benchmarks)(?:/\w+)+)`", page.read_text())
        for one in [name[0] or f"{name[1]}/"]
        if not any(f"/{one}" in folder for folder in folders)
    ]
    assert dead == []


def test_a_name_after_a_file_is_defined_in_it() -> None:
    """As docs/a_write.md has them: the path, a colon, and a function, a class, or a method of a class."""
    dead, count = [], 0
    for page in documents():
        for file, name in re.findall(r"`([\w/]+\.py)`: `(\w+(?:\.\w+)?)`", page.read_text()):
            count += 1
            owner, _, member = name.partition(".")
            known = [definitions(path) for path in files_called(file)]
            if not any(owner in names and (not member or member in names[owner]) for names in known):
                dead.append(f"{page.name}: {file}: {name}")
    assert dead == []
    assert count > 30


@pytest.mark.slow
def test_every_name_of_the_code_that_a_document_uses_is_in_the_code() -> None:
    """What looks like one: `snake_case`, `CamelCase`, `Class.method`, `module.function`."""
    files: dict[str, list[str]] = {}
    classes: dict[str, list[str]] = {}
    for path in repository_files():
        if path.endswith(".py"):
            files.setdefault(Path(path).stem, []).append(path)
            for name in definitions(path):
                classes.setdefault(name, []).append(path)
    keys = {f"snapshots.{key}" for key in SNAPSHOT_KEYS}
    dead = []
    for page in documents():
        for name in re.findall(r"`([A-Za-z_]\w*(?:\.\w+)*)(?:\(\))?`", page.read_text()):
            if (
                files_called(name)
                or name in MADE_BY_COMMANDS | FOREIGN | keys
                or re.match(r"(barge|process)_\w+_(total|bytes)$", name)
            ):
                continue
            first, *rest = name.split(".")
            if rest and first[0].isupper() and first in classes:
                known = any(rest[0] in definitions(path)[first] for path in classes[first])
            elif rest and first in files:
                known = any(re.search(rf"\b{rest[0]}\b", (ROOT / path).read_text()) for path in files[first])
            elif rest or "_" in name.strip("_") or re.search(r"[a-z][A-Z]", name):
                known = words_of_the_code().issuperset([first, *rest])
            else:
                continue
            if not known:
                dead.append(f"{page.name}: {name}")
    assert dead == []


def tables(text: str) -> list[list[dict[str, str]]]:
    """Return the tables of a page, each a list of rows by the names of their columns."""
    found = []
    for table in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
        found.append([dict(zip(head, row, strict=True)) for row in rows])
    return found


def test_figures_of_performance_are_those_of_the_results() -> None:
    """Each row of its tables is one of benchmarks/results.md, which the programs write; columns may be left out."""
    known = [row for table in tables(RESULTS.read_text()) for row in table]
    rows = [row for table in tables(text_of("performance")) for row in table]
    assert [row for row in rows if not any(row.items() <= each.items() for each in known)] == []
    assert len(rows) > 20


def test_each_benchmark_that_writes_has_its_place_in_the_results() -> None:
    """Two marks each, once."""
    text = RESULTS.read_text()
    places = ["compare", "failover", "failover hard", "calm", "calm slow disk", "calm many keys", "calm many keys sent"]
    parts = re.findall(r'^    "(\w+)": ', (ROOT / "benchmarks" / "scale.py").read_text().partition("PARTS")[2], re.MULTILINE)
    assert len(parts) > 4
    for place in [*places, *(f"scale {part}" for part in parts)]:
        assert text.count(f"<!-- {place}: begin -->") == text.count(f"<!-- {place}: end -->") == 1, place


def test_every_route_and_parameter_is_in_rest() -> None:
    """With its method and path."""
    text = text_of("rest")
    for route in ROUTES:
        assert f"`{route.method} {route.path}`" in text, route
        for parameter in route.query:
            assert f"`{parameter}`" in text or f"{parameter}=" in text, (route.path, parameter)


def test_every_error_is_in_rest() -> None:
    """With what is certain about it."""
    text = text_of("rest")
    for code, applied in APPLIED.items():
        (row,) = re.findall(rf"^\| `{code}` .*$", text, re.MULTILINE)
        assert f"| {'null' if applied is None else 'false'} |" in row


def test_every_kind_of_event_is_in_events() -> None:
    """Each in the table."""
    text = text_of("events")
    assert all(f"`{kind}`" in text for kind in KINDS)


def test_every_key_is_in_configuration() -> None:
    """Top level, timing, nodes."""
    text = text_of("configuration")
    names = [*TOP_KEYS, *(f"timing.{key}" for key in TIMING_KEYS), *(f"nodes[].{key}" for key in NODE_KEYS)]
    names += [f"snapshots.{key}" for key in SNAPSHOT_KEYS]
    for name in names:
        assert f"| `{name}` |" in text, name


def test_the_numbers_of_seeds_are_those_of_the_tests() -> None:
    """In CI, and for planted bugs."""
    text = text_of("testing")
    assert f"`bargetrio simulate` | {amounts.SEEDS:,} seeds |" in text
    assert f"`bargetrio simulate --stack` | {amounts.STACK_SEEDS} seeds |" in text
    assert f"within {amounts.BREAK_SEEDS} seeds of ring 1, or {amounts.BREAK_STACK_SEEDS} of ring 2" in text


def test_planted_bugs_stand_beside_those_of_others() -> None:
    """docs/bugs.md names them in the rows that they cite."""
    rows = dict(re.findall(r"^\| (\d\d) \| (.*)$", text_of("bugs").partition("## Our own")[0], re.MULTILINE))
    for name, planted in BREAKS.items():
        for number in re.findall(r"BUG-(\d\d)", planted.source):
            assert f"`{name}`" in rows[number], (name, number)


def test_every_command_is_documented() -> None:
    """Of the command line, and of the interactive client."""
    text = text_of("client") + text_of("operations") + text_of("testing")
    for name, command in cli.commands.items():
        assert f"bargetrio {name}" in text, name
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("--"):
                    assert option in text, (name, option)
    for line in HELP.splitlines():
        assert line.split("  ")[1].strip() in text


def test_every_command_line_in_a_document_is_one_that_there_is() -> None:
    """Its command and its options, of `bargetrio` and of the benchmarks; as code in a line, or as a block."""
    wrong, count = [], 0
    for page in documents():
        for line in re.findall(r"\bbargetrio ([a-z][^`\n#|]*)", page.read_text()):
            words = line.split()
            command: Command = cli
            while words and isinstance(command, Group):
                command = command.commands.get(words.pop(0).rstrip(",.;:"), Command(None))
            known = {"--help", "--version", *(option for parameter in command.params for option in parameter.opts)}
            options = [word.partition("=")[0].rstrip(",.;:)") for word in words if word.startswith("--") and word != "--"]
            count += len(options)
            if command.name is None or not known.issuperset(options):
                wrong.append(f"{page.name}: bargetrio {line}")
        for file, line in re.findall(r"\bpython benchmarks/(\w+\.py)([^`\n#|]*)", page.read_text()):
            source = (ROOT / "benchmarks" / file).read_text()
            wrong += [f"{page.name}: {file} {word}" for word in re.findall(r"--[a-z-]+", line) if f'"{word}"' not in source]
    assert wrong == []
    assert count > 30


def test_every_bug_is_mapped_to_tests_that_exist() -> None:
    """58 of others, and our own."""
    text = text_of("bugs")
    rows = re.findall(r"^\| (\d\d) \|", text.split("## Our own")[0], re.MULTILINE)
    assert rows == [f"{number:02}" for number in range(1, 59)]
    cited = re.findall(r"`((?:\w+/)?\w+\.py)::(\w+)`", text)
    assert len(cited) > 60
    for file, function in cited:
        source = (ROOT / "tests" / file).read_text()
        assert re.search(rf"^(async )?def {function}\(", source, re.MULTILINE), (file, function)


def test_every_rule_names_a_function_and_a_test_that_exist() -> None:
    """docs/raft.md: rule, function, test."""
    files = {path.stem: path for path in (ROOT / "bargetrio" / "raft").glob("*.py")}
    text = text_of("raft")
    functions = "".join(row.split("|")[3] for row in text.splitlines() if row.count("|") == 5)
    found = re.findall(r"`(\w+)\.(\w+)`", functions)
    assert len(found) > 40
    for module, name in found:
        source = files[module].read_text()
        assert re.search(rf"^ *def {name}\(|^ +self\.{name}\b.* =", source, re.MULTILINE), f"{module}.{name}"
    sources = "".join(path.read_text() for path in (ROOT / "tests" / "raft").glob("*.py"))
    for test in re.findall(r"`(test_\w+)`", text):
        assert f"def {test}(" in sources, test


def test_code_cites_bugs_that_the_table_has() -> None:
    """BUG-nn and OWN-nn, in package and tests."""
    text = text_of("bugs")
    for path in [*(ROOT / "bargetrio").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        for kind, number in re.findall(r"\b(BUG|OWN)-(\d\d)\b", path.read_text()):
            part = text.split("## Our own")[kind == "OWN"]
            assert f"| {number} |" in part, (path.name, kind, number)
