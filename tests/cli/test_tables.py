"""Rows as text, plain and drawn."""

import re
import sys
from collections import Counter

import pytest

from bargetrio.cli.repl import ITEMS
from bargetrio.cli.tables import NODES, TableColumn, _width, may_colour, shortened, table
from bargetrio.console import printable

COLUMNS = (TableColumn("node", True), TableColumn("name"))


def test_plain_rows_are_aligned() -> None:
    """Numbers at the right, text at the left, wide characters counted as wide, no blanks at the end."""
    rows = [["1", "漢字"], ["10", "e\u0301"], ["100000", "x"]]
    assert table(COLUMNS, rows) == "  node  name\n     1  漢字\n    10  e\u0301\n100000  x"
    assert table((TableColumn("a"), TableColumn("b")), [["漢字", "1"], ["abcde", "2"]]) == "a      b\n漢字   1\nabcde  2"
    assert table(COLUMNS, []) == "node  name"


def test_rich_draws_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """With colours, unless NO_COLOR is there; what looks like rich's markup is text."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    drawn = table(COLUMNS, [["1", "leader"], ["2", "[red]x"]], fancy=True)
    assert "╭" in drawn
    assert "[red]x" in drawn
    assert "\x1b[1;32mleader" in drawn
    monkeypatch.setenv("NO_COLOR", "1")
    assert "32mleader" not in table(COLUMNS, [["1", "leader"]], fancy=True)


NODE_ROWS = [
    ["0", "running", "follower", "12", "1234567", "1234567", "127.0.0.1:8101"],
    ["1", "unreachable", "-", "-", "-", "-", "barge-1.example.org:8101"],
    ["10", "running", "leader", "12", "1234567", "1234567", "[2001:db8::aaaa:bbbb:cccc:dddd]:8101"],
]
ITEM_ROWS = [["key", "5", "value"], ["k" * 300, "123456", "漢字" * 15], ["e\u0301" * 30, "7", "x" * 60]]


@pytest.mark.parametrize("fancy", [True, False], ids=["drawn", "plain"])
@pytest.mark.parametrize("width", [1, 2, 5, 10, 20, 39, 40, 50, 60, 66, 80, 100, 132, 1000])
def test_nothing_vanishes_where_there_is_no_room(monkeypatch: pytest.MonkeyPatch, width: int, fancy: bool) -> None:
    """Every character of every cell is there at every width, and no line is wider than the terminal, unless it is a record's."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    for columns, rows in ((NODES, NODE_ROWS), (ITEMS, ITEM_ROWS), (NODES, []), (ITEMS, [])):
        text = re.sub(r"\x1b\[[0-9;]*m", "", table(columns, rows, fancy=fancy, width=width))
        lines = text.split("\n")
        is_record = bool(rows) and lines[0] == f"{columns[0].name} {rows[0][0]}"
        for row in [[column.name for column in columns], *rows]:
            for cell in row:
                assert not Counter(cell) - Counter(text), (cell, text)
        for row in rows:
            assert all(cell in text for cell in row if len(cell) < 12), text
        if not is_record and rows:
            assert max(_width(line) for line in lines) <= width, text
        assert is_record or width >= 39 or not rows


def test_status_fits_into_sixty_columns() -> None:
    """Framed from 80, aligned at 60, a record a node at 40."""
    rows = [["0", "running", "follower", "3", "42", "42", "127.0.0.1:8101"]]
    assert table(NODES, rows, fancy=True, width=80).startswith("\x1b") or "╭" in table(NODES, rows, fancy=True, width=80)
    assert table(NODES, rows, width=60).splitlines() == [
        "node state   role     term commit applied address",
        "   0 running follower    3     42      42 127.0.0.1:8101",
    ]
    assert table(NODES, rows, width=40).splitlines()[:2] == ["node 0", "state running"]


def test_without_rich_it_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rows."""
    monkeypatch.setitem(sys.modules, "rich.table", None)
    assert table(COLUMNS, [["1", "leader"]], fancy=True) == "node  name\n   1  leader"


def test_nothing_in_a_table_commands_the_terminal() -> None:
    """A value with an escape sequence, a line's end or a reversal is written out."""
    assert printable("a\x1b]0;x\x07\n\u202eb ü") == "a\\x1b]0;x\\x07\\n\\u202eb ü"
    assert "\x1b]" not in table(COLUMNS, [["1", "\x1b]0;x"]], fancy=True)


def test_long_values_are_cut() -> None:
    """With a mark that they are."""
    assert shortened("x" * 60) == "x" * 60
    assert shortened("x" * 61) == "x" * 59 + "…"


def test_colours_only_where_they_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal, that knows them, whose user wants them."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert may_colour(is_terminal=True)
    assert not may_colour(is_terminal=False)
    monkeypatch.setenv("TERM", "dumb")
    assert not may_colour(is_terminal=True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not may_colour(is_terminal=True)
