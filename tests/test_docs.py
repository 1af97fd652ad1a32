"""Documents name what there is, and what they name is there."""

import re
from pathlib import Path

from bargetrio.cli import cli
from bargetrio.cli.repl import HELP
from bargetrio.config import NODE_KEYS, SNAPSHOT_KEYS, TIMING_KEYS, TOP_KEYS
from bargetrio.protocol.errors import APPLIED
from bargetrio.protocol.events import KINDS
from bargetrio.simulator.breaks import BREAKS
from bargetrio.web.routes import ROUTES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = (
    *("tour", "a_write", "architecture", "raft", "wire_format", "storage_format", "rest", "events"),
    *("configuration", "operations", "performance", "testing", "bugs", "client", "metrics", "page", "glossary"),
)


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


def test_links_lead_somewhere() -> None:
    """In README and every page."""
    for page in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


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


def test_every_planted_bug_is_told() -> None:
    """With the rule it takes away."""
    text = text_of("testing")
    for name, planted in BREAKS.items():
        assert f"| `{name}` | {planted.rule} | {planted.source} |" in text, name


def test_planted_bugs_stand_beside_those_of_others() -> None:
    """docs/bugs.md names them in the rows that they cite."""
    rows = dict(re.findall(r"^\| (\d\d) \| (.*)$", text_of("bugs").partition("## Our own")[0], re.MULTILINE))
    for name, planted in BREAKS.items():
        for number in re.findall(r"BUG-(\d\d)", planted.source):
            assert f"`{name}`" in rows[number], (name, number)


def test_every_command_is_told() -> None:
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
