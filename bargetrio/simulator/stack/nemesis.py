"""Makes the faults of a seed of ring 2, one after another, through the same doors that people have: REST and the supervisor."""

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, Final

import trio

from bargetrio.cluster.port import Faults, LinkFault
from bargetrio.protocol.errors import BargeError
from bargetrio.simulator.stack.http import ask
from bargetrio.web.guard import App

if TYPE_CHECKING:
    from bargetrio.simulator.stack.seed import Stack

EIO: Final = 5


class StackFailure(Exception):
    """A promise was broken: `rule` is its name, the text says how."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


class Nemesis:
    """Each fault ends by itself, or with the healing; whose disk was lost is taken in again by `readmit`."""

    def __init__(self, stack: "Stack") -> None:
        self._stack = stack
        self._needing: set[int] = set()
        """Whose disk is another one, and who does not vote yet."""

    async def make_faults(self, app: App, end: float) -> None:
        random = self._stack.random("faults")
        happen: dict[str, Callable[[Random, App], Any]] = {
            "crashes": self._crash,
            "kills": self._kill,
            "disks": self._disk,
            "restart_all": self._restart_all,
            "pauses": self._pause,
            "broken_connections": self._break_connections,
            "narrow_links": self._narrow,
            "lost_disks": self._lose_disk,
            "lying_disks": self._lie,
        }
        links = [kind for kind in self._stack.kinds if kind in ("loss", "delay", "one_way_cuts", "partitions")]
        others = [kind for kind in self._stack.kinds if kind in happen]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._take_in_until, app, end)
            while trio.current_time() < end and (links or others):
                await trio.sleep(random.uniform(0.05, 0.6))
                kind = random.choice([*links, *others])
                self._stack.made[kind] += 1
                if kind in links:
                    await self._stack.supervisor.set_faults(self._link_faults(random, kind))
                else:
                    await happen[kind](random, app)
        await self._stack.supervisor.set_faults(Faults())

    def _link_faults(self, random: Random, kind: str) -> Faults:
        ids = list(self._stack.addresses)
        links = [(source, target) for source in ids for target in ids if source != target]
        if random.random() < 0.3 or not links:
            return Faults()
        if kind == "partitions":
            groups: list[list[int]] = [[], []]
            for node_id in ids:
                groups[random.randrange(2)].append(node_id)
            return Faults(groups=[group for group in groups if group])
        chosen = random.sample(links, random.randint(1, len(links)))
        if kind == "loss":
            return Faults(links=[LinkFault(source=a, target=b, drop=random.uniform(0, 0.3)) for a, b in chosen])
        if kind == "delay":
            return Faults(links=[LinkFault(source=a, target=b, delay_ms=random.uniform(1, 300)) for a, b in chosen])
        return Faults(links=[LinkFault(source=a, target=b, cut=True) for a, b in chosen[: max(1, len(links) // 3)]])

    # -- disks that are lost ---------------------------------------------------------------------------------------------

    def _can_spare(self, node_id: int) -> bool:
        """Whether the others can do without this node's disk: all run and vote, and are a majority with it left out."""
        others = [view for view in self._stack.supervisor.local_views() if view.id != node_id]
        are_in_order = not self._needing - {node_id} and all(view.state == "running" and view.may_vote for view in others)
        return are_in_order and len(others) > (len(others) + 1) // 2

    async def _lose_disk(self, random: Random, app: App) -> None:
        """A disk is lost, the leader's as often as not, and an empty one is in its place."""
        leader = self._stack.supervisor.leader_hint()
        node_id = random.choice(list(self._stack.addresses)) if leader is None or random.random() < 0.5 else leader
        if not self._can_spare(node_id):
            return
        await self._end(node_id, power=True)
        self._stack.disks[node_id].lose()
        self._needing.add(node_id)
        self._stack.made["disk lost"] += 1
        await trio.sleep(random.uniform(0.0, 0.5))
        await self.revive(node_id)

    async def _lie(self, random: Random, app: App) -> None:
        """A power failure takes entries that a disk said to have synced; all others hold them, so nothing may be lost."""
        node_id = random.choice(list(self._stack.addresses))
        disk = self._stack.disks[node_id]
        disk.lie(random.randint(1, 4))
        await trio.sleep(random.uniform(0.05, 0.5))
        views = {view.id: view for view in self._stack.supervisor.local_views()}
        last = views.pop(node_id).last_log_index or 0
        if self._can_spare(node_id) and all((view.last_log_index or 0) >= last for view in views.values()):
            await self._end(node_id, power=True)
            self._stack.made["tail lost"] += 1
            await trio.sleep(random.uniform(0.0, 0.3))
            await self.revive(node_id)
        disk.lies = 0

    async def _take_in_until(self, app: App, end: float) -> None:
        while trio.current_time() < end:
            await trio.sleep(0.3)
            await self.take_in(app)

    async def take_in(self, app: App) -> None:
        """Ask for each node with another disk that it be taken in, once; docs/operations.md says to ask again."""
        for node_id in sorted(self._needing):
            view = self._stack.supervisor.local_views()[node_id]
            if view.state == "running" and view.may_vote:
                self._needing.discard(node_id)
                self._stack.made["taken in"] += 1
                continue
            answer = await ask(app, "POST", f"/nodes/{node_id}/readmit")
            if answer.status not in (200, 400, 503, 504):
                raise StackFailure("readmit", f"readmit answers {answer.status}: {answer.body!r}")

    # -- processes -------------------------------------------------------------------------------------------------------

    async def _end(self, node_id: int, *, power: bool, app: App | None = None) -> None:
        """Crash a node: its disk takes nothing more from the moment of the kill, and forgets with the power."""
        if app is None:
            await self._stack.supervisor.kill(node_id)
        else:
            answer = await ask(app, "POST", f"/nodes/{node_id}/kill")
            if answer.status != 200:
                raise StackFailure("kill and revive", f"kill answers {answer.status}: {answer.body!r}")
        if power:
            self._stack.disks[node_id].crash()
        else:
            self._stack.disks[node_id].end_process()

    async def revive(self, node_id: int) -> None:
        if self._stack.supervisor.local_views()[node_id].state != "running":
            self._stack.disks[node_id].end_process()
        try:
            await self._stack.supervisor.revive(node_id)
        except BargeError as error:
            if "damaged" in error.detail:
                raise StackFailure("disk remembers", error.detail) from None

    async def _crash(self, random: Random, app: App) -> None:
        node_id = random.choice(list(self._stack.addresses))
        await self._end(node_id, power=True)
        await trio.sleep(random.uniform(0.0, 1.0))
        await self.revive(node_id)

    async def _kill(self, random: Random, app: App) -> None:
        node_id = random.choice(list(self._stack.addresses))
        await self._end(node_id, power=False, app=app)
        await trio.sleep(random.uniform(0.0, 1.0))
        answer = await ask(app, "POST", f"/nodes/{node_id}/revive")
        if answer.status not in (200, 503, 504):  # 504: its disk fails just then, and what was done is not known
            raise StackFailure("kill and revive", f"revive answers {answer.status}: {answer.body!r}")

    async def _restart_all(self, random: Random, app: App) -> None:
        for node_id in self._stack.addresses:
            await self._end(node_id, power=random.random() < 0.5)
        await trio.sleep(random.uniform(0.0, 0.3))
        for node_id in self._stack.addresses:
            await self.revive(node_id)

    async def _disk(self, random: Random, app: App) -> None:
        """A disk fails at one of its next calls, or is slow for a while; a node that stopped is revived."""
        node_id = random.choice(list(self._stack.addresses))
        if random.random() < 0.5:
            self._stack.disks[node_id].fail_at[self._stack.disks[node_id].calls + random.randint(1, 8)] = EIO
        else:
            self._stack.work[node_id].latency_s = (0.01, random.uniform(0.02, 0.3))
        await trio.sleep(random.uniform(0.1, 1.0))
        self._stack.work[node_id].latency_s = (0.0002, 0.002)
        await self.revive(node_id)

    async def _pause(self, random: Random, app: App) -> None:
        """A node stands still: its timers fire late, and what comes meanwhile is there all at once."""
        until = trio.current_time() + random.uniform(0.1, 2.0)
        for node_id in list(self._stack.addresses) if random.random() < 0.1 else [random.choice(list(self._stack.addresses))]:
            self._stack.work[node_id].still_until = until

    async def _narrow(self, random: Random, app: App) -> None:
        """All connections have a bandwidth for a while."""
        self._stack.network.narrow(is_narrow=True)
        await trio.sleep(random.uniform(0.5, 3.0))
        self._stack.network.narrow(is_narrow=False)

    async def _break_connections(self, random: Random, app: App) -> None:
        for _ in range(random.randint(1, 4)):
            self._stack.network.cut_one()
