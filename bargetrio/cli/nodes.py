"""The commands leader, transfer, status, kill, revive, readmit, bootstrap, log."""

import time
from typing import TYPE_CHECKING, Any, Final

import click

from bargetrio import console
from bargetrio.cli.completion import known_nodes
from bargetrio.cli.shared import FiniteNumber, Output, client_command

if TYPE_CHECKING:
    from bargetrio.client.client import Client

_node = click.argument("node_id", type=int, shell_complete=known_nodes)
_REDRAW: Final = "\x1b[H\x1b[J"
INTERVAL_S: Final = (0.1, 3600.0)
"""The shortest and the longest time between two queries of `status --watch`."""
EVENTS: Final = 50
MOST_EVENTS: Final = 5000
"""Home, and nothing below it."""


@click.command()
@client_command
def leader(barge: "Client", output: Output) -> None:
    """Show which node leads."""
    found = barge.leader()
    output.say(f"node {found.leader} leads in term {found.term}, at {found.address}", found)


@click.command()
@click.argument("node_id", type=int, required=False, shell_complete=known_nodes)
@client_command
def transfer(barge: "Client", output: Output, node_id: int | None) -> None:
    """Have another node lead, without an election timeout: this one, or the one that has most entries."""
    found = barge.transfer(node_id)
    output.say(f"node {found.leader} leads in term {found.term}, at {found.address}", found)


@click.command()
@click.option("--watch", is_flag=True, help="Repeat until Ctrl-C: redrawn at a terminal, elsewhere printed when it has changed.")
@click.option("--interval", type=FiniteNumber(*INTERVAL_S), default=1.0, show_default=True, help="Seconds between two queries.")
@client_command
def status(barge: "Client", output: Output, watch: bool, interval: float) -> None:
    """Show every node."""
    from bargetrio.cli.tables import NODES, node_notes, node_rows
    from bargetrio.protocol.errors import BargeError

    last: Any = None
    while True:
        problem = ""
        try:
            nodes = barge.nodes()
        except BargeError as error:
            if not watch or error.code in ("forbidden", "bad_request"):  # not temporary
                raise
            problem, nodes = f"{error.code}: {error.detail}", []
        redraws = watch and output.may_draw
        if redraws:
            console.say(_REDRAW, newline=False, styled=True)
        if redraws or (nodes, problem) != last:
            if problem:
                output.say(problem, {"nodes": [], "error": problem})
            else:
                output.table(NODES, node_rows(nodes), {"nodes": nodes}, notes=node_notes(nodes))
        if not watch:
            return
        last = nodes, problem
        time.sleep(interval)


@click.command()
@_node
@client_command
def kill(barge: "Client", output: Output, node_id: int) -> None:
    """Crash a node."""
    changed = barge.kill(node_id)
    text = f"node {node_id} is killed" if changed else f"node {node_id} does not run"
    output.say(text, {"id": node_id, "changed": changed})


@click.command()
@_node
@client_command
def revive(barge: "Client", output: Output, node_id: int) -> None:
    """Start a node again."""
    changed = barge.revive(node_id)
    text = f"node {node_id} is revived" if changed else f"node {node_id} runs already"
    output.say(text, {"id": node_id, "changed": changed})


@click.command()
@_node
@click.confirmation_option(prompt="Does the node run with its new, empty disk, and is the old disk gone for good?")
@client_command
def readmit(barge: "Client", output: Output, node_id: int) -> None:
    """Readmit a node whose disk was lost and replaced by an empty one, and that runs and is refused by its peers."""
    if barge.readmit(node_id):
        text = f"node {node_id} is readmitted with its new disk; it votes when it has caught up"
    else:
        text = f"node {node_id} is a member with the disk that it has"
    output.say(text, {"id": node_id})


@click.command()
@click.confirmation_option(prompt="Has no member that is absent now ever run in this cluster, or is its disk gone for good?")
@client_command
def bootstrap(barge: "Client", output: Output) -> None:
    """Begin a new cluster without the members that are absent; bargetrio readmit admits them when they come.

    Only for a first start at which a member can't be there: a cluster begins by itself when all its members have started.
    """
    members = barge.bootstrap()
    listed = ", ".join(str(member) for member in members)
    output.say(f"the cluster of nodes {listed} has begun", {"members": members})


@click.command()
@click.option("--follow", is_flag=True, help="Go on with new events until Ctrl-C.")
@click.option("--node", "node_ids", type=int, multiple=True, help="Only events of this node (may repeat).")
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Only events of this kind (may repeat): docs/events.md.")
@click.option("--heartbeats", is_flag=True, help="Heartbeats, too.")
@click.option(
    "--limit", type=click.IntRange(1, MOST_EVENTS), default=EVENTS, show_default=True, help="How many of the newest events."
)
@client_command
def log(
    barge: "Client",
    output: Output,
    follow: bool,
    node_ids: tuple[int, ...],
    kinds: tuple[str, ...],
    heartbeats: bool,
    limit: int,
) -> None:
    """Show the event log, one event per line, oldest first."""
    from bargetrio.cli.events import EventFilter, line_of

    question = EventFilter(node_ids=node_ids, kinds=kinds, heartbeats=heartbeats)
    page = question.newest(barge, limit)
    for event in page.events:
        output.say(line_of(event), event)
    if page.dropped and len(page.events) < limit:
        console.complain(f"{page.dropped:,} older events are no longer kept")
    if follow:
        for event in question.follow(barge, page.next, console.complain):
            output.say(line_of(event), event)
