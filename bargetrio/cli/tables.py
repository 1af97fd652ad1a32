"""Tables as text: by rich at a terminal, if installed, else as aligned columns; control characters are escaped.

No cell is omitted on a narrow terminal: the layout is the first of these that fits.

1. a frame                                               3. the same, with long cells of columns that fold in several lines
2. aligned, two blanks between the columns, or one       4. a record for each row, a line for each cell
"""

import io
import os
import unicodedata
from collections.abc import Sequence
from typing import Final, NamedTuple

from bargetrio.console import can_encode, encodable, printable, terminal_width
from bargetrio.protocol.views import NodeView

SHOWN_CHARACTERS: Final = 60
"""Most characters of a value in a table."""
FRAME: Final = 0
FOLDED_AT_LEAST: Final = 12
"""A column that folds is not made narrower."""

_STYLES: Final = {
    "leader": "bold green",
    "running": "green",
    "starting": "yellow",
    "killed": "red",
    "crashed": "red",
    "unreachable": "yellow",
}


_FRAME: Final = "╭─┬╮│├┼┤╰┴╯"


class TableColumn(NamedTuple):
    """A column's heading and alignment. With `folds` its cells may take several lines."""

    name: str
    is_number: bool = False
    folds: bool = False


NODES: Final = (
    TableColumn("node", True),
    TableColumn("state"),
    TableColumn("role"),
    TableColumn("term", True),
    TableColumn("commit", True),
    TableColumn("applied", True),
    TableColumn("address", folds=True),
)


def node_rows(nodes: Sequence[NodeView]) -> list[list[str]]:
    """Return a row for each node; unknown values are "-"."""
    rows = [(node.id, node.state, node.role, node.term, node.commit_index, node.last_applied, node.address) for node in nodes]
    return [["-" if cell is None else str(cell) for cell in row] for row in rows]


def node_notes(nodes: Sequence[NodeView]) -> list[str]:
    """Return a line for each node that crashed, can't be reached or takes no part, with the reason."""
    said = [node for node in nodes if node.reason and node.state != "killed"]
    return [f"node {node.id}: {encodable(printable(node.reason))}" for node in said]


def table(columns: Sequence[TableColumn], rows: Sequence[Sequence[str]], *, fancy: bool = False, width: int | None = None) -> str:
    """Return the table, without a newline at its end; `fancy` draws it with rich, if installed.

    `width` is the terminal's, by default that of standard output; unlimited if that is not a terminal.
    """
    shown = [[encodable(printable(cell)) for cell in row] for row in rows]
    room = terminal_width() if width is None else width
    natural = [max(_width(cell) for cell in (column.name, *(row[at] for row in shown))) for at, column in enumerate(columns)]
    for folds in (False, True):
        for gap in (*((FRAME,) if fancy else ()), 2, 1):
            overhead = 3 * len(columns) + 1 if gap == FRAME else gap * (len(columns) - 1)
            widths = _fitted(columns, natural, None if room is None else room - overhead, folds=folds)
            if widths is None:
                continue
            found = _drawn(columns, shown, widths) if gap == FRAME else _aligned(columns, shown, widths, gap)
            if found is not None:
                return found
    return _stacked(columns, shown)


def shortened(text: str) -> str:
    """Return the value, truncated for a table."""
    if len(text) <= SHOWN_CHARACTERS:
        return text
    mark = "…" if can_encode("…") else "..."
    return text[: SHOWN_CHARACTERS - len(mark)] + mark


def may_draw(*, is_terminal: bool) -> bool:
    """Return whether to draw: at a terminal that is not dumb."""
    return is_terminal and os.environ.get("TERM", "dumb") != "dumb"


def may_colour(*, is_terminal: bool) -> bool:
    """Return whether to use colours: where `may_draw`, unless NO_COLOR is set."""
    return may_draw(is_terminal=is_terminal) and not os.environ.get("NO_COLOR")


def _fitted(columns: Sequence[TableColumn], natural: Sequence[int], room: int | None, *, folds: bool) -> list[int] | None:
    """Return the columns' widths so that all fit into `room`; None if they can't."""
    widths = list(natural)
    if room is None:
        return widths
    while (excess := sum(widths) - room) > 0:
        at = max((at for at, column in enumerate(columns) if folds and column.folds), key=lambda at: widths[at], default=None)
        if at is None or widths[at] <= FOLDED_AT_LEAST:
            return None
        # Shrink the widest column to the width of the next one.
        next_one = max((widths[i] for i, column in enumerate(columns) if column.folds and widths[i] < widths[at]), default=0)
        widths[at] -= min(excess, max(1, widths[at] - max(next_one, FOLDED_AT_LEAST)))
    return widths


def _aligned(columns: Sequence[TableColumn], rows: Sequence[Sequence[str]], widths: Sequence[int], gap: int) -> str:
    lines: list[str] = []
    for row in [[column.name for column in columns], *rows]:
        cells = [_folded(cell, width) for cell, width in zip(row, widths, strict=True)]
        for number in range(max(len(cell) for cell in cells)):
            parts = []
            for cell, width, column in zip(cells, widths, columns, strict=True):
                part = cell[number] if number < len(cell) else ""
                blank = " " * (width - _width(part))
                parts.append(blank + part if column.is_number else part + blank)
            lines.append((" " * gap).join(parts).rstrip())
    return "\n".join(lines)


def _stacked(columns: Sequence[TableColumn], rows: Sequence[Sequence[str]]) -> str:
    """Return a line for each cell, with an empty one between rows; without rows the headings."""
    if not rows:
        return "\n".join(column.name for column in columns)
    records = ("\n".join(f"{column.name} {cell}" for column, cell in zip(columns, row, strict=True)) for row in rows)
    return "\n\n".join(records)


def _folded(text: str, width: int) -> list[str]:
    """Return the text in lines of at most `width`, or of one wider character."""
    lines = [""]
    left = width
    for char in text:
        size = _columns_of(char)
        if size > left and lines[-1]:
            lines.append("")
            left = width
        lines[-1] += char
        left -= size
    return lines


def _drawn(columns: Sequence[TableColumn], rows: Sequence[Sequence[str]], widths: Sequence[int]) -> str | None:
    try:
        from rich.box import ASCII, ROUNDED
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return None
    drawn = Table(box=ROUNDED if can_encode(_FRAME) else ASCII, header_style="bold")
    for column, width in zip(columns, widths, strict=True):
        drawn.add_column(column.name, justify="right" if column.is_number else "left", overflow="fold", width=width)
    for row in rows:
        lines = ("\n".join(_folded(cell, width)) for cell, width in zip(row, widths, strict=True))  # rich drops blanks
        drawn.add_row(*(Text(text, style=_STYLES.get(cell, "")) for text, cell in zip(lines, row, strict=True)))
    console = Console(
        file=io.StringIO(),
        force_terminal=True,
        width=sum(widths) + 3 * len(columns) + 1,
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
