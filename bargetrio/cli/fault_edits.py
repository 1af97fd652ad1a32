"""Faults as REST knows them, built word by word: a partition, a cut or slow link, a slow or failing disk.

`PUT /faults` replaces what was there, so each word is put into what is in force: read, changed, written back. Two people who do
that at the same moment may undo each other's fault; the answer shows what is in force.
"""

from typing import Any

from bargetrio.cli.client_calls import ClientCalls
from bargetrio.protocol.errors import BargeError

Faults = dict[str, Any]


def partition(barge: ClientCalls, groups: list[list[int]]) -> Faults:
    """Let nodes of different groups no longer reach each other; nodes that are not named are a group of their own."""
    named = [node_id for group in groups for node_id in group]
    if not named:
        raise BargeError("bad_request", "a partition needs a group of nodes, as in 0,1")
    if len(set(named)) < len(named):
        raise BargeError("bad_request", "a node stands in one group only")
    rest = sorted({int(node["id"]) for node in barge.nodes()} - set(named))
    return barge.set_faults({**barge.faults(), "groups": [*groups, *([rest] if rest else [])]})


def change_link(
    barge: ClientCalls,
    source: int,
    target: int,
    *,
    one_way: bool = False,
    cut: bool = False,
    delay_ms: float = 0,
    drop: float = 0,
) -> Faults:
    """Let a link be cut, slow or lossy, both ways unless told otherwise; all zero heals it."""
    if source == target:
        raise BargeError("bad_request", "a link has two ends")
    wanted = {(source, target)} if one_way else {(source, target), (target, source)}
    faults = barge.faults()
    links = [link for link in faults.get("links", []) if (link["from"], link["to"]) not in wanted]
    if cut or delay_ms or drop:
        links += [{"from": a, "to": b, "cut": cut, "delay_ms": delay_ms, "drop": drop} for a, b in sorted(wanted)]
    return barge.set_faults({**faults, "links": links})


def change_disk(barge: ClientCalls, node_id: int, *, delay_ms: float = 0, error: str | None = None) -> Faults:
    """Let a disk be slow, or fail at its next write; 0 and no error heal it."""
    faults = barge.faults()
    disks = [disk for disk in faults.get("disks", []) if disk["node"] != node_id]
    if delay_ms or error:
        disks.append({"node": node_id, "delay_ms": delay_ms, "error": error})
    return barge.set_faults({**faults, "disks": disks})


def told(faults: Faults) -> list[str]:
    """Return the faults in words, a line each."""
    lines: list[str] = []
    if groups := faults.get("groups"):
        lines.append("partition: " + " | ".join(", ".join(str(node_id) for node_id in group) for group in groups))
    for link in faults.get("links", []):
        how = ["cut"] if link.get("cut") else []
        how += [f"{link['delay_ms']:g} ms late"] if link.get("delay_ms") else []
        how += [f"drops {link['drop']:.0%}"] if link.get("drop") else []
        lines.append(f"link {link['from']} -> {link['to']}: {', '.join(how)}")
    for disk in faults.get("disks", []):
        how = [f"{disk['delay_ms']:g} ms slow"] if disk.get("delay_ms") else []
        how += [f"fails with {disk['error']}"] if disk.get("error") else []
        lines.append(f"disk of node {disk['node']}: {', '.join(how)}")
    return lines or ["no faults"]
