"""The interface of a node for cluster/slots.py: its calls, their order, and its end.

`server.Node` implements it, and `opening.open_node` creates one. A slot enters that, and awaits `run`, in a cancel scope of the
node's own and catches every exception, so that the end of one node never ends another.
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from msgspec import Struct

from bargetrio.node.figures import NodeGauges
from bargetrio.node.status import Belief, NodeStatus
from bargetrio.protocol.requests import Request
from bargetrio.raft.messages import NodeId

UNCOMMITTED: Final = "is in the log, and not committed by a majority of the others yet"
"""Words by which `RunningNode.readmit` says that the entry was proposed: whether it will be committed is not known."""


class BackupFile(Protocol):
    """A snapshot of a running node, to be read once from its beginning to its end; `checksum` is the file's CRC-32."""

    index: int
    term: int
    size: int
    checksum: int

    async def read(self) -> bytes:
        """Return the next chunk, b"" at the end; raise OSError."""
        ...

    def close(self) -> None:
        """Release the file; must be called."""
        ...


class LocalSession(Protocol):
    """A client in the node's own process, which need not connect."""

    def ask(self, requests: Sequence[Request]) -> bool:
        """Queue requests for the node's next step: all writes or all reads. Never blocks.

        Returns False, and has queued nothing, where the node is fenced: it may still be ending.

        Each gets one answer with its id, unless the node ends before; those that are not valid get it within this call. What is
        asked is the caller's to bound.
        """
        ...


TakeAnswers = Callable[[Sequence[Struct]], None]
"""Takes answers (protocol/requests.py), in a step of the node; must be short. An error in it is logged, and ends no node."""


class RunningNode(Protocol):
    """A node that has recovered and listens. Revive creates a new one."""

    @property
    def last_turn(self) -> float:
        """Return the trio time of the node's last step: at least once a second while it runs (watchdog)."""
        ...

    async def run(self) -> None:
        """Serve until cancelled; never returns by itself. Raises StorageFailed when the disk fails; anything else is a bug."""
        ...

    def fence(self) -> None:
        """Cut the node off its disk and its connections at once, before cancellation; nothing is flushed or sent."""
        ...

    def status(self) -> NodeStatus:
        """Return the node's state, from memory."""
        ...

    def belief(self) -> Belief:
        """Return the part of `status` that each REST request needs."""
        ...

    def open_session(self, take: TakeAnswers, ended: Callable[[], None]) -> LocalSession:
        """Serve a client of this process. When the node ends, `ended` is called: what is not answered by then never will be."""
        ...

    async def readmit(self, node_id: NodeId) -> str:
        """As the leader, replace the store of member `node_id` by that of its last hello, by an entry of the log (Ongaro 4.1).

        Return "" once that entry is committed without counting the node, or if the node is a member with that store; else why
        not, for a retry. Never returns if this node ends first: use a time-out. Cancelled, the entry may still be proposed.
        """
        ...

    async def transfer(self, among: Collection[NodeId]) -> str:
        """As the leader, have one of these nodes elected; return "" once that is under way, else why not (Ongaro 3.10).

        No write is taken until another node leads, or the longest election timeout has passed. Never returns if this node ends
        first: use a time-out.
        """
        ...

    async def bootstrap(self) -> str:
        """Begin a cluster with the members present; return "" if that is under way (`NodeStatus.is_born`), else why not.

        Never returns if this node ends first: use a time-out. Cancelled, the cluster may still be born.
        """
        ...

    async def backup(self, index: int) -> BackupFile:
        """Return a snapshot that covers at least `index`, taking one if necessary; cancellable."""
        ...

    def gauges(self) -> NodeGauges:
        """Return the node's gauges, from memory."""
        ...


OpenNode = Callable[[NodeId], AbstractAsyncContextManager[RunningNode]]
"""Begins a life: entered, it locks the folder, recovers and listens, or raises StorageError or OSError, and there is no node.

When it is left the node dies, as in a crash: its port refuses, its connections are reset, and no thread touches its folder.
"""
