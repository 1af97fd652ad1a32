"""The calls of the client library that commands and the interactive client make; the tests' fake has them, too."""

from typing import Protocol

from bargetrio.protocol.requests import DeleteAnswer, GetAnswer, ListAnswer, PutAnswer, ReadLevel
from bargetrio.protocol.views import Faults, LeaderView, NodeView


class ClientCalls(Protocol):
    """`client.Client`, or a fake. Every call raises BargeError; `applied` tells what is certain."""

    def put(self, key: str, value: str | bytes, *, if_index: int | None = None, if_absent: bool = False) -> PutAnswer:
        """Write a key; returns when the write is committed on a majority and applied."""
        ...

    def get(self, key: str, *, read: ReadLevel = "linearizable") -> GetAnswer:
        """Read a key; index 0 if it is not there."""
        ...

    def delete(self, key: str, *, if_index: int | None = None) -> DeleteAnswer:
        """Remove a key; `deleted` is False if it was not there."""
        ...

    def items(
        self, prefix: str = "", *, after: str = "", limit: int = 100, keys_only: bool = False, read: ReadLevel = "linearizable"
    ) -> ListAnswer:
        """Read keys in order."""
        ...

    def leader(self) -> LeaderView:
        """Return who leads."""
        ...

    def nodes(self) -> list[NodeView]:
        """Return what the cluster knows of each node."""
        ...

    def kill(self, node_id: int) -> bool:
        """Crash a node; return whether it ran."""
        ...

    def revive(self, node_id: int) -> bool:
        """Start a node again; return whether that was needed."""
        ...

    def faults(self) -> Faults:
        """Return the faults in force."""
        ...

    def set_faults(self, faults: Faults) -> Faults:
        """Put exactly these faults in force; `Faults()` heals everything."""
        ...
