"""Rows as text: a table by rich where that is installed and a terminal looks, aligned columns elsewhere; safe to show."""

import io
import os
import shutil
import unicodedata
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from bargetrio.console import can_encode, encodable, printable

SHOWN_CHARACTERS: Final = 60
"""So much of a value a table shows."""

_STYLES: Final = {
    "leader": "bold green",
    "running": "green",
    "starting": "yellow",
    "killed": "red",
    "crashed": "red",
    "unreachable": "yellow",
}


_FRAME: Final = "╭─┬╮│├┼┤╰┴╯"


class Column(NamedTuple):
    """A heading; numbers stand at the right."""

    name: str
    is_number: bool = False


NODES: Final = (
    Column("node", True),
    Column("state"),
    Column("role"),
    Column("term", True),
    Column("commit", True),
    Column("applied", True),
    Column("address"),
)


def node_rows(nodes: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Return a row for each node, as `GET /nodes` tells them."""
    names = ("id", "state", "role", "term", "commit_index", "last_applied", "address")
    return [["-" if node.get(name) is None else str(node[name]) for name in names] for node in nodes]


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, fancy: bool = False) -> str:
    """Return the table, without a newline at its end; `fancy` draws it with rich, if that is there."""
    shown = [[encodable(printable(cell)) for cell in row] for row in rows]
    return (_drawn(columns, shown) if fancy else None) or _aligned(columns, shown)


def shortened(text: str) -> str:
    """Return as much of a value as a table shows."""
    if len(text) <= SHOWN_CHARACTERS:
        return text
    mark = "…" if can_encode("…") else "..."
    return text[: SHOWN_CHARACTERS - len(mark)] + mark


def may_draw(*, is_terminal: bool) -> bool:
    """Return whether there is somewhere to draw: a terminal, and none that is dumb."""
    return is_terminal and os.environ.get("TERM", "dumb") != "dumb"


def may_colour(*, is_terminal: bool) -> bool:
    """Return whether colours are welcome: where one may draw, unless NO_COLOR says otherwise."""
    return may_draw(is_terminal=is_terminal) and not os.environ.get("NO_COLOR")


def _aligned(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(_width(cell) for cell in (column.name, *(row[at] for row in rows))) for at, column in enumerate(columns)]
    lines: list[str] = []
    for row in [[column.name for column in columns], *rows]:
        cells = []
        for cell, width, column in zip(row, widths, columns, strict=True):
            blank = " " * (width - _width(cell))
            cells.append(blank + cell if column.is_number else cell + blank)
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _drawn(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str | None:
    try:
        from rich.box import ASCII, ROUNDED
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return None
    drawn = Table(box=ROUNDED if can_encode(_FRAME) else ASCII, header_style="bold")
    for column in columns:
        drawn.add_column(column.name, justify="right" if column.is_number else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    console = Console(
        file=io.StringIO(),
        force_terminal=True,
        width=shutil.get_terminal_size().columns,
        no_color=not may_colour(is_terminal=True),
        highlight=False,
    )
    with console.capture() as captured:
        console.print(drawn)
    return captured.get().rstrip("\n")


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(_columns_of(char) for char in text)


def _columns_of(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
