"""Events as HTML: the table with a column per node for `/log`, and the live page as one self-contained file.

The table is made here; the live page makes its own from the events, by page/*.js. All external data (keys, values, addresses,
reasons) is escaped.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from bargetrio.eventlog.sentences import sentence
from bargetrio.files import check_ours
from bargetrio.protocol.events import KINDS, Event

ROLES: Final = ("leader", "candidate", "pre_candidate", "follower", "starting", "killed", "crashed", "unreachable")
MORE_EVENTS: Final = 1000

_STYLE: Final = '<link rel="icon" href="/static/icon.svg">\n<link rel="stylesheet" href="/static/page.css">\n'
_SCRIPT: Final = re.compile(r'<script src="/static/(\w+\.js)" defer></script>')
_SCRIPTS: Final = re.compile(r'(<script src="/static/\w+\.js" defer></script>\n)+')

_JS: Final = "text/javascript; charset=utf-8"
_CSS: Final = "text/css; charset=utf-8"
ASSETS: Final = {
    **dict.fromkeys(("log.css", "page.css"), _CSS),
    **dict.fromkeys(("log.js", "model.js", "sentences.js", "timeline.js", "dom.js", "ring.js", "views.js", "player.js"), _JS),
    "icon.svg": "image/svg+xml",
    **dict.fromkeys(("source.js", "actions.js", "stories.js", "tour.js", "main.js"), _JS),
}
"""The page's files and their types."""


class Column(Struct, frozen=True, kw_only=True):
    """A node in the table's head; `state` is its role, or why it has none."""

    node_id: int
    state: str
    term: int | None = None


class LogView(Struct, frozen=True, kw_only=True):
    """The content of the page: events oldest first, how many are hidden or lost, and the filters of the request."""

    cluster: str
    columns: list[Column]
    events: list[Event]
    heartbeats: int
    dropped: int
    nodes: frozenset[int] = frozenset()
    kinds: frozenset[str] = frozenset()
    show_heartbeats: bool = False
    limit: int = 500
    election_ms: tuple[int, int] | None = None
    """The shortest and the longest election time-out, where they are known."""


def log_page(view: LogView) -> str:
    """Return the page of a running daemon: script and style by URL, filters as a form that works without a script."""
    head = '<link rel="stylesheet" href="/static/log.css">\n<script src="/static/log.js" defer></script>'
    return _document(view, head)


def live_page() -> str:
    """Return the live page of a running daemon; its scripts fetch `/events` and `/nodes`."""
    return asset("index.html")


def log_html(view: LogView) -> tuple[str, str]:
    """Return (document, content security policy): the live page with its events, as one self-contained file.

    Scripts and style are inline, allowed in the policy by their hashes; the events are data, which is not executed.
    """
    scripts = [asset(name) for name in _SCRIPT.findall(live_page())]
    style = asset("page.css")
    hashes = " ".join(_hash_of(script) for script in scripts)
    policy = f"default-src 'none'; script-src {hashes}; style-src {_hash_of(style)}; base-uri 'none'; form-action 'none'"
    inlined = "".join(f"<script>{script}</script>\n" for script in scripts)
    head = f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n<style>{style}</style>\n{inlined}'
    page = _SCRIPTS.sub("", live_page(), count=1)
    page = page.replace("<title>Barge</title>", f"<title>{escape(view.cluster)}: event log</title>")
    before, _, after = page.partition(_STYLE)
    body, _, end = after.partition("</body>")
    return f"{before}{head}{body}{_data(view)}</body>{end}", policy


def _data(view: LogView) -> str:
    """Return the events as JSON in the page. `<` is escaped, so that they can't end the element or begin another."""
    data = {
        "cluster": view.cluster,
        "nodes": [{"id": column.node_id} for column in view.columns],
        "election_ms": view.election_ms,
        "dropped": view.dropped,
        "events": view.events,
    }
    text = msgspec.json.encode(data).decode().replace("<", "\\u003c")
    return f'<script type="application/json" id="data">{text}</script>\n'


def check_page(path: Path) -> None:
    """Raise OSError if the file exists and is not such a page: it must not be replaced."""
    check_ours(path, (b"<!doctype html>",), "page")


def asset(name: str) -> str:
    """Return one of the page's files."""
    return files("bargetrio.eventlog").joinpath("page", name).read_text(encoding="utf-8")


def _hash_of(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _document(view: LogView, head: str) -> str:
    name = escape(view.cluster)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}: event log</title>
{head}
</head>
<body>
<header>
<h1>{name} <small>event log</small></h1>
<p id="banner" role="status" hidden></p>
{_filters(view)}
<p id="legend">{_legend()}</p>
</header>
<main id="log">
{_counts(view)}
{_table(view)}
</main>
</body>
</html>
"""


def _filters(view: LogView) -> str:
    nodes = "".join(
        f'<label><input type="checkbox" name="node" value="{column.node_id}"'
        f"{_checked(column.node_id in view.nodes)}> node {column.node_id}</label>"
        for column in view.columns
    )
    kinds = "".join(
        f'<label><input type="checkbox" name="kind" value="{kind}"{_checked(kind in view.kinds)}> {kind}</label>'
        for kind in KINDS
    )
    opened = " open" if view.kinds else ""
    return f"""<form id="filters" method="get">
<fieldset><legend>Show</legend>{nodes}
<label><input type="checkbox" name="heartbeats" value="1"{_checked(view.show_heartbeats)}> heartbeats</label>
<details{opened}><summary>kinds</summary><div class="kinds">{kinds}</div></details>
<button type="submit">Apply</button>
<label><input type="checkbox" id="follow" checked> follow</label>
<a href="/">live page</a> <a href="/log.html" download>save as one file</a></fieldset>
</form>"""


def _checked(on: bool) -> str:
    return " checked" if on else ""


def _legend() -> str:
    return "".join(f'<span class="role-{role}">{role.replace("_", "-")}</span>' for role in ROLES)


def _counts(view: LogView) -> str:
    count = sum(view.show_heartbeats or not event.heartbeat for event in view.events)
    shown = f"{count:,} events shown, newest first"
    hidden = "" if view.show_heartbeats else f"; {view.heartbeats:,} heartbeats hidden"
    dropped = f"; {view.dropped:,} older ones no longer kept" if view.dropped else ""
    times = ", times in UTC"
    older = ""
    if len(view.events) >= view.limit:
        query = [("node", str(node)) for node in sorted(view.nodes)] + [("kind", kind) for kind in sorted(view.kinds)]
        query += [("heartbeats", "1")] if view.show_heartbeats else []
        query += [("limit", str(MORE_EVENTS))]
        older = (
            f' <a class="more" href="?{escape(urlencode(query))}">show {MORE_EVENTS:,}</a>' if view.limit < MORE_EVENTS else ""
        )
    return f'<p id="counts">{shown}{hidden}{dropped}{times}.{older}</p>'


def _table(view: LogView) -> str:
    head = "".join(_column_head(column) for column in view.columns)
    ids = [column.node_id for column in view.columns]
    rows = "\n".join(_rows(view.events, ids, show_heartbeats=view.show_heartbeats))
    empty = "" if view.events else f'<tr><td colspan="{len(ids) + 1}">No event passes these filters.</td></tr>'
    return f"""<table>
<thead><tr><th scope="col">time</th>{head}</tr></thead>
<tbody>
{rows}{empty}
</tbody>
</table>"""


def _column_head(column: Column) -> str:
    term = "" if column.term is None else f", term {column.term}"
    state = escape(column.state)
    return f'<th scope="col" class="role-{state}">node {column.node_id}<small>{state.replace("_", "-")}{term}</small></th>'


def _rows(events: Sequence[Event], ids: list[int], *, show_heartbeats: bool) -> Iterable[str]:
    for event in reversed(events):
        hidden = " hidden" if event.heartbeat and not show_heartbeats else ""
        node = "" if event.node is None else event.node
        beat = ' data-heartbeat="1"' if event.heartbeat else ""
        yield (
            f'<tr id="{escape(event.id)}" data-node="{node}" data-kind="{event.kind}"{beat}{hidden}>'
            f"{_time_cell(event)}{_cells(event, ids)}</tr>"
        )


def _time_cell(event: Event) -> str:
    moment = datetime.fromtimestamp(event.time, UTC)
    return (
        f'<td><a href="#{escape(event.id)}"><time datetime="{moment.isoformat()}">'
        f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d}</time></a></td>"
    )


def _cells(event: Event, ids: list[int]) -> str:
    text = f'<span class="kind">{event.kind}</span> {escape(sentence(event))}'
    if event.node not in ids:
        return f'<td colspan="{len(ids)}" class="all">{text}</td>'
    role = event.detail.get("role", "")
    place = ids.index(event.node)
    known = role if role in ROLES else "none"
    return "<td></td>" * place + f'<td class="role-{known}">{text}</td>' + "<td></td>" * (len(ids) - place - 1)
