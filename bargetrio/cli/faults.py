"""The commands partition, cut, slow-link, slow-disk, fail-disk, heal, faults."""

from typing import TYPE_CHECKING, Any

import click

from bargetrio.cli.completion import known_nodes
from bargetrio.cli.shared import FiniteNumber, Output, client_command
from bargetrio.protocol.limits import MOST_DELAY_MS

if TYPE_CHECKING:
    from bargetrio.client.client import Client
    from bargetrio.protocol.views import DiskError, Faults

_node = click.argument("node_id", type=int, shell_complete=known_nodes)
_delay = click.argument("delay_ms", type=FiniteNumber(0, MOST_DELAY_MS))


def _ends(function: Any) -> Any:
    function = click.option("--one-way", is_flag=True, help="Only what FIRST sends SECOND.")(function)
    function = click.argument("second", type=int, shell_complete=known_nodes)(function)
    return click.argument("first", type=int, shell_complete=known_nodes)(function)


@click.command()
@client_command
def faults(barge: "Client", output: Output) -> None:
    """Show the faults in force."""
    _show(output, barge.faults())


@click.command()
@click.argument("groups", nargs=-1, required=True, metavar="GROUP...", shell_complete=known_nodes)
@client_command
def partition(barge: "Client", output: Output, groups: tuple[str, ...]) -> None:
    """Partition the nodes: those of different GROUPs (as in 0,1) cannot reach each other; the others are one more group."""
    from bargetrio.cli import fault_edits
    from bargetrio.cli.repl import group_of

    _show(output, fault_edits.partition(barge, [group_of(text) for text in groups]))


@click.command()
@_ends
@client_command
def cut(barge: "Client", output: Output, first: int, second: int, one_way: bool) -> None:
    """Cut the link between two nodes."""
    from bargetrio.cli import fault_edits

    _show(output, fault_edits.change_link(barge, first, second, one_way=one_way, cut=True))


@click.command(name="slow-link")
@_ends
@_delay
@click.option("--drop", type=FiniteNumber(0, 1), default=0.0, help="Lose this part of the messages, too: 0.1 is a tenth.")
@client_command
def slow_link(barge: "Client", output: Output, first: int, second: int, delay_ms: float, drop: float, one_way: bool) -> None:
    """Delay what two nodes send each other by DELAY_MS; 0 heals the link."""
    from bargetrio.cli import fault_edits

    _show(output, fault_edits.change_link(barge, first, second, one_way=one_way, delay_ms=delay_ms, drop=drop))


@click.command(name="slow-disk")
@_node
@_delay
@client_command
def slow_disk(barge: "Client", output: Output, node_id: int, delay_ms: float) -> None:
    """Delay each write of a node's disk by DELAY_MS; 0 heals it."""
    from bargetrio.cli import fault_edits

    _show(output, fault_edits.change_disk(barge, node_id, delay_ms=delay_ms))


@click.command(name="fail-disk")
@_node
@click.argument("error", type=click.Choice(["EIO", "ENOSPC"]), default="EIO")
@client_command
def fail_disk(barge: "Client", output: Output, node_id: int, error: "DiskError") -> None:
    """Fail the next write of a node's disk, which stops the node. After `heal`, `revive` starts it again."""
    from bargetrio.cli import fault_edits

    _show(output, fault_edits.change_disk(barge, node_id, error=error))


@click.command()
@client_command
def heal(barge: "Client", output: Output) -> None:
    """Heal all faults. Killed nodes stay killed."""
    from bargetrio.protocol.views import Faults

    output.say("all faults are healed", barge.set_faults(Faults()))


def _show(output: Output, found: "Faults") -> None:
    from bargetrio.cli.fault_edits import fault_lines

    output.say("\n".join(fault_lines(found)), found)
