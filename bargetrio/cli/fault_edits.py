"""Edits of the faults in force: a partition, a cut or slow link, a slow or failing disk.

`PUT /faults` replaces all faults, so each edit is a read, a change and a write. Of two concurrent edits one may be lost; the
answer shows the faults in force.
"""

from msgspec.structs import replace

from bargetrio.cli.client_calls import ClientCalls
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.views import DiskError, DiskFault, Faults, LinkFault


def partition(barge: ClientCalls, groups: list[list[int]]) -> Faults:
    """Cut the links between nodes of different groups; nodes that are not named form one more group."""
    named = [node_id for group in groups for node_id in group]
    if not named:
        raise BargeError("bad_request", "a partition needs a group of nodes, as in 0,1")
    if len(set(named)) < len(named):
        raise BargeError("bad_request", "a node is in one group only")
    rest = sorted({node.id for node in barge.nodes()} - set(named))
    return barge.set_faults(replace(barge.faults(), groups=[*groups, *([rest] if rest else [])]))


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
    """Cut a link, or make it slow or lossy, in both directions unless `one_way`; all zero heals it."""
    if source == target:
        raise BargeError("bad_request", "a link has two ends")
    wanted = {(source, target)} if one_way else {(source, target), (target, source)}
    faults = barge.faults()
    links = [link for link in faults.links if (link.source, link.target) not in wanted]
    if cut or delay_ms or drop:
        links += [LinkFault(source=a, target=b, cut=cut, delay_ms=delay_ms, drop=drop) for a, b in sorted(wanted)]
    return barge.set_faults(replace(faults, links=links))


def change_disk(barge: ClientCalls, node_id: int, *, delay_ms: float = 0, error: DiskError | None = None) -> Faults:
    """Make a disk slow, or fail at its next write; 0 and no error heal it."""
    faults = barge.faults()
    disks = [disk for disk in faults.disks if disk.node != node_id]
    if delay_ms or error:
        disks.append(DiskFault(node=node_id, delay_ms=delay_ms, error=error))
    return barge.set_faults(replace(faults, disks=disks))


def fault_lines(faults: Faults) -> list[str]:
    """Return the faults in words, a line each."""
    lines: list[str] = []
    if faults.groups:
        lines.append("partition: " + " | ".join(", ".join(str(node_id) for node_id in group) for group in faults.groups))
    for link in faults.links:
        how = ["cut"] if link.cut else []
        how += [f"{link.delay_ms:g} ms late"] if link.delay_ms else []
        how += [f"drops {link.drop:.0%}"] if link.drop else []
        lines.append(f"link {link.source} -> {link.target}: {', '.join(how)}")
    for disk in faults.disks:
        how = [f"{disk.delay_ms:g} ms slow"] if disk.delay_ms else []
        how += [f"fails with {disk.error}"] if disk.error else []
        lines.append(f"disk of node {disk.node}: {', '.join(how)}")
    return lines or ["no faults"]
