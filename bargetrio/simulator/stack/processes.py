"""Ends and starts the processes of ring 2's nodes, with what that does to their disks."""

from typing import Final

from bargetrio.protocol.errors import BargeError
from bargetrio.simulator.stack.stack import Stack, StackFailure

DIFFERS: Final = "the log differs"
"""Why a node stops whose log is not the majority's."""


class Processes:
    """Those of one stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    async def end(self, node_id: int, *, power: bool, may_lose_synced: bool = False) -> None:
        """End a process: its disk takes nothing more from that moment on, and forgets with the power."""
        work = self._stack.work[node_id]
        if may_lose_synced:
            self._stack.tails.may_lose(node_id, forgets=False)
        await self._stack.cluster.kill(node_id)
        if work.hangs:  # a process's end takes the thread along
            work.answer()
            await self._stack.cluster.kill(node_id)
        if power:
            if not may_lose_synced:
                self._stack.disks[node_id].settle()
            self._stack.disks[node_id].crash()
        else:
            self._stack.disks[node_id].end_process()

    async def revive(self, node_id: int) -> None:
        """Start a node, unless its log differs, or a full disk has ended it: its daemon starts it when there is room."""
        view = self._stack.local.views()[node_id]
        if view.state == "crashed" and ("no space" in (view.reason or "") or DIFFERS in (view.reason or "")):
            return
        await self.start(node_id)

    async def start(self, node_id: int) -> None:
        """Start a node; raise StackFailure if its folder is damaged. It may be refused for another reason."""
        try:
            await self._stack.cluster.revive(node_id)
        except BargeError as error:
            if "damaged" in error.detail:
                raise StackFailure("disk remembers", error.detail) from None
