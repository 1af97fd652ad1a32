"""Rows as text, plain and drawn."""

import sys

import pytest

from bargetrio.client.tables import Column, may_colour, shortened, table
from bargetrio.console import printable

COLUMNS = (Column("node", True), Column("name"))


def test_plain_rows_are_aligned() -> None:
    """Numbers at the right, text at the left, wide characters counted as wide, no blanks at the end."""
    rows = [["1", "漢字"], ["10", "e\u0301"], ["100000", "x"]]
    assert table(COLUMNS, rows) == "  node  name\n     1  漢字\n    10  e\u0301\n100000  x"
    assert table((Column("a"), Column("b")), [["漢字", "1"], ["abcde", "2"]]) == "a      b\n漢字   1\nabcde  2"
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


def test_colours_only_where_they_are_welcome(monkeypatch: pytest.MonkeyPatch) -> None:
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
