"""The calls of the client library that commands and the interactive client use; the tests' fake implements them."""

from typing import Protocol

from bargetrio.protocol.requests import DeleteAnswer, GetAnswer, ListAnswer, PutAnswer, ReadLevel
from bargetrio.protocol.views import Faults, LeaderView, NodeView


class ClientCalls(Protocol):
    """The part of `client.Client` that is used here. Every call raises BargeError."""

    def put(self, key: str, value: str | bytes, *, if_index: int | None = None, if_absent: bool = False) -> PutAnswer:
        """Write a key; returns when the write is committed on a majority and applied."""
        ...

    def get(self, key: str, *, read: ReadLevel = "linearizable") -> GetAnswer:
        """Read a key; index 0 if it does not exist."""
        ...

    def delete(self, key: str, *, if_index: int | None = None) -> DeleteAnswer:
        """Remove a key; `deleted` is False if it did not exist."""
        ...

    def items(
        self, prefix: str = "", *, after: str = "", limit: int = 100, keys_only: bool = False, read: ReadLevel = "linearizable"
    ) -> ListAnswer:
        """Read keys in order."""
        ...

    def leader(self) -> LeaderView:
        """Return the leader."""
        ...

    def nodes(self) -> list[NodeView]:
        """Return a view of each node."""
        ...

    def kill(self, node_id: int) -> bool:
        """Crash a node; return whether it was running."""
        ...

    def revive(self, node_id: int) -> bool:
        """Start a node again; return whether it was not running."""
        ...

    def faults(self) -> Faults:
        """Return the faults in force."""
        ...

    def set_faults(self, faults: Faults) -> Faults:
        """Replace the faults in force; `Faults()` heals everything."""
        ...
