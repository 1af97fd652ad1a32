"""The faults in force in this daemon: validation, application to links and disks, and their text in the event log."""

import msgspec

from bargetrio.cluster.disk_faults import ERRORS, DiskFaults
from bargetrio.eventlog.host_facts import FaultsChanged
from bargetrio.eventlog.recorder import Recorder
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.views import Faults
from bargetrio.transport.faults import LinkFaults


class FaultPlan:
    """The faults in force, set by request."""

    def __init__(self, node_ids: list[int], link_faults: LinkFaults, disk_faults: DiskFaults, recorder: Recorder) -> None:
        self.faults = Faults()
        self._node_ids = node_ids
        self._link_faults = link_faults
        self._disk_faults = disk_faults
        self._recorder = recorder

    def apply(self, faults: Faults) -> None:
        """Replace the faults in force, and record that in the event log."""
        links = {(link.source, link.target): (link.cut, link.drop, link.delay_ms / 1000) for link in faults.links}
        self._link_faults.set(faults.groups, links)
        delays = {disk.node: disk.delay_ms / 1000 for disk in faults.disks if disk.delay_ms}
        self._disk_faults.set(delays, {disk.node: ERRORS[disk.error] for disk in faults.disks if disk.error})
        self.faults = faults
        fields = {name: value for name, value in msgspec.to_builtins(faults).items() if value}
        self._recorder.record(None, FaultsChanged(faults=fields, text=_faults_text(faults)))

    def check(self, faults: Faults) -> None:
        """Raise BargeError if a node is unknown or in two groups, a link has one end, or a link or disk is given twice.

        This bounds the faults in GET /faults and in the event log by the number of nodes and links.
        """
        for node_id in [*(node for group in faults.groups for node in group), *(disk.node for disk in faults.disks)]:
            self._check_node(node_id)
        for link in faults.links:
            self._check_node(link.source)
            self._check_node(link.target)
            if link.source == link.target:
                raise BargeError("bad_request", "a link has two ends")
        grouped = [node_id for group in faults.groups for node_id in group]
        if len(set(grouped)) < len(grouped):
            raise BargeError("bad_request", "a node is in two groups")
        if any(not group for group in faults.groups):
            raise BargeError("bad_request", "a group is empty")
        if len({(link.source, link.target) for link in faults.links}) < len(faults.links):
            raise BargeError("bad_request", "a link is listed twice; one entry has all its faults")
        if len({disk.node for disk in faults.disks}) < len(faults.disks):
            raise BargeError("bad_request", "a disk is listed twice")

    def _check_node(self, node_id: int) -> None:
        if node_id not in self._node_ids:
            raise BargeError("not_found", f"there is no node {node_id}; the nodes are {listed(self._node_ids)}")


def listed(ids: list[int]) -> str:
    """Return node ids as text."""
    return ", ".join(str(node_id) for node_id in ids)


def _faults_text(faults: Faults) -> str:
    parts: list[str] = []
    if faults.groups:
        parts.append("partition: " + " | ".join(listed(group) for group in faults.groups))
    for link in faults.links:
        how = [*(["cut"] if link.cut else []), *([f"drops {link.drop:.0%}"] if link.drop else [])]
        how += [f"{link.delay_ms:g} ms late"] if link.delay_ms else []
        parts.append(f"link {link.source} → {link.target}: {', '.join(how) or 'nothing'}")
    for disk in faults.disks:
        how = [*([f"{disk.delay_ms:g} ms slow"] if disk.delay_ms else []), *([f"fails with {disk.error}"] if disk.error else [])]
        parts.append(f"disk of node {disk.node}: {', '.join(how) or 'nothing'}")
    return "faults: " + "; ".join(parts) if parts else "all faults healed"
