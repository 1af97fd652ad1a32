"""The table as Markdown, for documents: the same sentences, a column per node, oldest first."""

from collections.abc import Sequence

from bargetrio.eventlog.sentences import sentence
from bargetrio.protocol.events import Event


def markdown_table(events: Sequence[Event], node_ids: Sequence[int]) -> str:
    """Return the events as a Markdown table; times are milliseconds since the first, heartbeats are left out."""
    shown = [event for event in events if not event.heartbeat]
    began = shown[0].time if shown else 0.0
    lines = ["| ms | " + " | ".join(f"node {node_id}" for node_id in node_ids) + " |", "|---" * (len(node_ids) + 1) + "|"]
    for event in shown:
        cells = ["" if event.node != node_id else _cell(event) for node_id in node_ids]
        lines.append(f"| {round((event.time - began) * 1000)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(event: Event) -> str:
    return sentence(event).replace("|", "\\|")
