"""Injects the faults of a seed of ring 2, one after another, through the interfaces of an operator: REST and cluster/."""

from collections import Counter
from collections.abc import Callable
from errno import EIO
from random import Random
from typing import Any, Final

import trio

from bargetrio.node.room import ROOM_SEGMENTS
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.views import Faults, LinkFault
from bargetrio.simulator.altered import alter, newest_snapshot
from bargetrio.simulator.disk import Image
from bargetrio.simulator.plan import ELECTION_S, draw_late_disks
from bargetrio.simulator.stack.http import ask
from bargetrio.simulator.stack.processes import DIFFERS, Processes
from bargetrio.simulator.stack.stack import Stack, StackFailure
from bargetrio.transport.peer_link import REDIAL_REFUSED_S
from bargetrio.web.guard import App

POLL_S: Final = 0.1
"""Interval of the checks whether a node's disk can be spared."""
OTHER_BACKUP: Final = "folder began with another state"
ALIKE_AT_S: Final = (2.5, 4.0)
"""When the operator restores the same backup everywhere."""
REPORT_TIMEOUT_S: Final = 3.0
"""By then some of them have met, whatever faults there are."""
OTHERS_S: Final = 1.0
"""How long a node is in another cluster before its folder is emptied: it may be just being born."""
GONE_S: Final = REDIAL_REFUSED_S[1] + 0.5
"""How long after a node with a refused store was stopped its leader may not know that: until then it dials the node again."""
TIME_SCALE: Final = 0.4
"""What ring 1 has in its 20 s of faults is to happen in the 8 s of ring 2."""


class StackNemesis:
    """Each fault ends by itself, or with the healing; a node whose disk was lost is readmitted by `readmit`."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.processes = Processes(stack)
        self._needing: set[int] = set()
        """Nodes with another disk, or that came after the birth, and that do not vote yet."""
        self._not_asked: set[int] = set()
        """Nodes for which the operator does not ask yet."""
        self._asked_for: int | None = None
        """The node whose readmission is asked for now: the answer may take seconds, and then takes in the disk that is there."""
        self._altered: dict[int, int] = {}
        """Nodes whose log was altered, from which entry on, and that have not stopped since."""
        self._others_since: dict[int, float] = {}
        """Nodes in another cluster than the majority, and since when that is seen."""

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
            "old_folders": self._copy_folder,
            "altered_logs": self._alter_log,
            "other_nodes": self._start_with_other_nodes,
            "late_syncs": self._slow_syncs,
            "hanging_syncs": self._hang,
            "filling_disks": self._fill,
        }
        links = [kind for kind in self._stack.kinds if kind in ("loss", "delay", "one_way_cuts", "partitions")]
        others = [kind for kind in self._stack.kinds if kind in happen]
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._take_in_until, app, end)
            nursery.start_soon(self._start_late, app)
            nursery.start_soon(self._restore_alike)
            while trio.current_time() < end and (links or others):
                await trio.sleep(random.uniform(0.05, 0.6))
                kind = random.choice([*links, *others])
                if kind in links:
                    await self._stack.cluster.set_faults(self._link_faults(random, kind))
                else:
                    await happen[kind](random, app)
            await trio.sleep_until(end)
            nursery.cancel_scope.cancel()
        self._not_asked.clear()
        await self._stack.cluster.set_faults(Faults())

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
        others = [view for view in self._stack.local.views() if view.id != node_id]
        missing = self._stack.absent | self._needing | self._altered.keys() | self._stack.tails.lacking()
        is_nobody_missing = not missing - {node_id}
        are_in_order = is_nobody_missing and all(view.state == "running" and view.may_vote for view in others)
        return are_in_order and len(others) > (len(others) + 1) // 2

    async def _lose_disk(self, random: Random, app: App) -> None:
        """A disk is lost, the leader's as often as not, and an empty one is in its place."""
        leader = self._stack.local.leader_hint()
        node_id = random.choice(list(self._stack.addresses)) if leader is None or random.random() < 0.5 else leader
        if not self._can_spare(node_id):
            return
        await self.processes.end(node_id, power=True)
        self._stack.disks[node_id].lose()
        self._needing.add(node_id)
        self._stack.hit("disk_lost")
        is_lost_again = random.random() < 0.5 and "pauses" not in self._stack.kinds and node_id != self._asked_for
        if is_lost_again:
            self._not_asked.add(node_id)
        await trio.sleep(random.uniform(0.0, 0.5))
        await self.processes.revive(node_id)
        if is_lost_again:
            self._nursery.start_soon(self._lose_again, node_id, random.uniform(0.1, 0.5))

    async def _lose_again(self, node_id: int, after_s: float) -> None:
        """Stop a node before it is readmitted, and delete its folder: a store that is gone is not readmitted (OWN-186)."""
        await trio.sleep(after_s)
        if self._stack.local.view(node_id).state != "running":
            self._not_asked.discard(node_id)
            return
        store = self._store_of(node_id)
        await self.processes.end(node_id, power=False)
        self._stack.disks[node_id].lose()
        await trio.sleep(GONE_S)
        self._not_asked.discard(node_id)
        await trio.sleep(1.0)  # the operator asks
        if any(self._stores_known(other).get(node_id) == store for other in self._stack.local.running_ids()):
            raise StackFailure("what is readmitted is there", f"node {node_id}'s store {store} was deleted before `readmit`")
        self._stack.hit("lost_before_readmission")
        await self.processes.revive(node_id)

    def _stores_known(self, node_id: int) -> dict[int, str]:
        """Return the members' stores by this node's newest configuration."""
        configuration = self._stack.living[node_id].replica.core.configuration
        return {} if configuration is None else configuration.stores

    async def _lie(self, random: Random, app: App) -> None:
        """A power failure takes entries that a disk said to have synced, half of the times only such that all others hold."""
        node_id, held_by_all = random.choice(list(self._stack.addresses)), random.random() < 0.5
        disk = self._stack.disks[node_id]
        disk.lie(random.randint(1, 4))
        await trio.sleep(random.uniform(0.05, 0.5))
        views = {view.id: view for view in self._stack.local.views()}
        view = views.pop(node_id)
        last = (view.last_log_index or 0) if held_by_all else 0
        is_behind = any((other.last_log_index or 0) < last for other in views.values())
        if view.state == "running" and self._can_spare(node_id) and not is_behind:
            await self.processes.end(node_id, power=True, may_lose_synced=True)
            await trio.sleep(random.uniform(0.0, 0.3))
            await self.processes.revive(node_id)
        disk.lies = 0
        disk.settle()  # or a later power failure takes what was synced meanwhile

    async def _copy_folder(self, random: Random, app: App) -> None:
        """Keep a copy of a folder, and put it back a while later."""
        node_id, seconds, down = self._any_or_leader(random), random.uniform(0.2, 3.0), random.uniform(0.0, 0.5)
        if node_id in self._stack.local.running_ids():
            store, image = self._store_of(node_id), self._stack.disks[node_id].image()
            self._nursery.start_soon(self._put_back, node_id, store, image, seconds, down)

    async def _put_back(self, node_id: int, store: str, image: Image, seconds: float, down: float) -> None:
        await trio.sleep(seconds)
        while node_id not in self._stack.local.running_ids() or not self._can_spare(node_id):
            await trio.sleep(POLL_S)
        if self._store_of(node_id) != store:
            return
        self._stack.tails.may_lose(node_id, forgets=True)
        await self.processes.end(node_id, power=False)
        self._stack.disks[node_id].put_back(image)
        self._stack.hit("old_folder_put_back")
        await trio.sleep(down)
        await self.processes.revive(node_id)

    async def _alter_log(self, random: Random, app: App) -> None:
        """A committed entry of a log, which all hold, is another one when its node starts again: it must stop."""
        node_id, stack = random.choice(list(self._stack.addresses)), self._stack
        if node_id not in stack.local.running_ids() or node_id in self._altered or not self._can_spare(node_id):
            return
        core = stack.living[node_id].replica.core
        above = max(core.log.start_index, core.standing.admitted)
        last = min(core.commit_index, *(node.replica.core.durability.durable_index for node in stack.living.values()))
        await self.processes.end(node_id, power=False)
        index = alter(stack.disks[node_id], random, max(above, newest_snapshot(stack.disks[node_id])), last)
        if index is not None:
            self._altered[node_id] = index
            stack.tails.altered.add((node_id, core.standing.store))
            stack.hit("log_altered")
        await trio.sleep(random.uniform(0.0, 0.3))
        await self.processes.revive(node_id)

    async def _empty_stopped(self) -> None:
        """Give a node that has stopped, as its log is not the others', an empty folder; so does the operator."""
        for node_id, index in list(self._altered.items()):
            view = self._stack.local.views()[node_id]
            if view.state == "crashed" and DIFFERS in (view.reason or ""):
                self._stack.hit("log_that_differs_stops")
                await self.processes.end(node_id, power=False)
                self._stack.disks[node_id].lose()
                self._needing.add(node_id)
                del self._altered[node_id]
                await self.processes.start(node_id)
            elif view.state == "running" and newest_snapshot(self._stack.disks[node_id]) >= index:
                del self._altered[node_id]  # a leader's snapshot has taken its place

    async def _start_with_other_nodes(self, random: Random, app: App) -> None:
        """Start a node with a `nodes:` list that lacks some, or has one too many; it is refused, and the right one is not."""
        stack = self._stack
        node_id, right = random.choice(list(stack.addresses)), list(stack.addresses)
        wrong = [other for other in right if other == node_id or random.random() < 0.6]
        if node_id not in stack.local.running_ids() or node_id in self._not_asked:
            return
        await self.processes.end(node_id, power=False)
        stack.listed[node_id] = wrong if len(wrong) < len(right) else [*right, len(right)]
        try:
            answer = await stack.cluster.revive(node_id)
        except BargeError as error:
            if "the configuration names nodes" in error.detail:  # else its disk has failed before that was checked
                stack.hit("other_nodes_refused")
        else:
            if answer.state == "running":  # else it was killed meanwhile
                raise StackFailure(
                    "a folder is one of its cluster's nodes", f"node {node_id} starts with {stack.listed[node_id]}"
                )
        finally:
            del stack.listed[node_id]
        await self.processes.revive(node_id)

    def _store_of(self, node_id: int) -> str:
        return self._stack.living[node_id].replica.core.standing.store

    async def _take_in_until(self, app: App, end: float) -> None:
        while trio.current_time() < end:
            await trio.sleep(0.3)
            await self.take_in(app)

    async def take_in(self, app: App) -> None:
        """Request the readmission of each node with another disk, once; docs/operations.md says to ask again."""
        await self._empty_other_clusters()
        await self._empty_stopped()
        for node_id in sorted(self._needing - self._stack.absent - self._not_asked):
            view = self._stack.local.views()[node_id]
            if view.state == "running" and view.may_vote:
                self._needing.discard(node_id)
                self._stack.hit("taken_in")
                continue
            if node_id in self._not_asked:  # since another one was asked for
                continue
            self._asked_for = node_id
            answer = await ask(app, "POST", f"/nodes/{node_id}/readmit")
            self._asked_for = None
            if answer.status not in (200, 400, 503, 504):
                raise StackFailure("readmit", f"readmit answers {answer.status}: {answer.body!r}")

    # -- nodes that come late --------------------------------------------------------------------------------------------

    async def _start_late(self, app: App) -> None:
        """Start nodes for the first time; if the operator does not wait for them, first let the cluster be born without them."""
        stack, began = self._stack, trio.current_time()
        if stack.absent and stack.bootstraps_at is not None:
            self._needing |= stack.absent
            await trio.sleep(stack.bootstraps_at * TIME_SCALE)
            while not self._is_born():
                answer = await ask(app, "POST", "/bootstrap")
                if answer.status not in (200, 400, 503, 504):
                    raise StackFailure("bootstrap", f"it answers {answer.status}: {answer.body!r}")
                await trio.sleep(0.1)
            stack.hit("bootstrapped")
        for node_id in sorted(stack.absent, key=stack.first_starts.__getitem__):
            await trio.sleep_until(began + stack.first_starts[node_id] * TIME_SCALE)
            stack.absent.discard(node_id)
            stack.hit("first_start_late")
            await self.processes.revive(node_id)

    async def _restore_alike(self) -> None:
        """Where the folders began with different backups, end all nodes after a while, and restore the same one everywhere."""
        stack = self._stack
        if not stack.tails.must_not_commit:
            return
        await trio.sleep(stack.random("restored alike").uniform(*ALIKE_AT_S))
        deadline = trio.current_time() + REPORT_TIMEOUT_S
        while not any(event.kind == "link_down" and OTHER_BACKUP in event.detail["reason"] for event in stack.events()):
            if trio.current_time() > deadline:
                raise StackFailure("a mixed restore is reported", "nodes with different backups meet, and none reports it")
            await trio.sleep(0.2)
        stack.hit("other_backup_refused")
        for node_id in stack.addresses:
            await self.processes.end(node_id, power=False)
        while running := stack.local.running_ids():  # one was started meanwhile
            await self.processes.end(running[0], power=False)
        stack.restore_alike()
        stack.hit("restored_alike")
        for node_id in stack.addresses:
            await self.processes.revive(node_id)

    def _identities(self) -> dict[int, str]:
        """Return, of each node that runs, which cluster it was born in, "" if it was not."""
        cores = {node_id: self._stack.living[node_id].replica.core for node_id in self._stack.local.running_ids()}
        return {node_id: core.standing.identity for node_id, core in cores.items()}

    def _is_born(self) -> bool:
        return self._majority_of(self._identities()) != ""

    def _majority_of(self, identities: dict[int, str]) -> str:
        counts = Counter(identity for identity in identities.values() if identity)
        return next((identity for identity, count in counts.items() if count > len(self._stack.addresses) // 2), "")

    async def _empty_other_clusters(self) -> None:
        """Empty the folders of nodes in another cluster: there may be two if a node died during a birth (operator.py)."""
        identities, now = self._identities(), trio.current_time()
        right = self._majority_of(identities)
        are_many = right or len(set(identities.values()) - {""}) > 1
        others = [node_id for node_id, identity in sorted(identities.items()) if are_many and identity not in ("", right)]
        self._others_since = {node_id: self._others_since.get(node_id, now) for node_id in others}
        for node_id in [node_id for node_id in others if now - self._others_since[node_id] > OTHERS_S]:
            await self.processes.end(node_id, power=False)
            self._stack.disks[node_id].lose()
            self._needing.add(node_id)
            await self.processes.revive(node_id)

    # -- processes -------------------------------------------------------------------------------------------------------

    async def _crash(self, random: Random, app: App) -> None:
        node_id = random.choice(list(self._stack.addresses))
        await self.processes.end(node_id, power=True)
        await trio.sleep(random.uniform(0.0, 1.0))
        await self.processes.revive(node_id)

    async def _kill(self, random: Random, app: App) -> None:
        """By REST, as the page does it: a disk that hangs is waited for by who starts the node again."""
        node_id = random.choice(list(self._stack.addresses))
        answer = await ask(app, "POST", f"/nodes/{node_id}/kill")
        if answer.status != 200:
            raise StackFailure("kill and revive", f"kill answers {answer.status}: {answer.body!r}")
        await trio.sleep(random.uniform(0.0, 1.0))
        answer = await ask(app, "POST", f"/nodes/{node_id}/revive")
        if answer.status == 409 and b"damaged" in answer.body:
            raise StackFailure("disk remembers", f"revive answers {answer.body!r}")
        # 409: it can't start, as its disk fails or is full; 504: its disk fails just then, and what was done is not known
        if answer.status not in (200, 409, 503, 504):
            raise StackFailure("kill and revive", f"revive answers {answer.status}: {answer.body!r}")

    async def _restart_all(self, random: Random, app: App) -> None:
        for node_id in self._stack.addresses:
            await self.processes.end(node_id, power=random.random() < 0.5)
        await trio.sleep(random.uniform(0.0, 0.3))
        for node_id in self._stack.addresses:
            await self.processes.revive(node_id)

    async def _disk(self, random: Random, app: App) -> None:
        """A call of a disk fails, or the kernel's next sync, or it is slow for a while; a node that stopped is revived."""
        node_id = random.choice(list(self._stack.addresses))
        disk, work, how = self._stack.disks[node_id], self._stack.work[node_id], random.random()
        if how < 0.2 and disk.gives_descriptors:
            work.fails_kernel_sync = True
        elif how < 0.5:
            disk.fail_at[disk.calls + random.randint(1, 8)] = EIO
        else:
            work.latency_s = work.sync_s = (0.01, random.uniform(0.02, 0.3))
        await trio.sleep(random.uniform(0.1, 1.0))
        self._stack.work[node_id].be_quick()
        await self.processes.revive(node_id)

    async def _slow_syncs(self, random: Random, app: App) -> None:
        """Syncs outlast elections for a while, on one node, some or all; half of the times a process, mostly a leader, ends."""
        late = draw_late_disks(random, self._stack.nodes)
        if any(work.sync_s[1] > ELECTION_S[0] for work in self._stack.work.values()):
            return
        for node_id, seconds in late.items():
            self._stack.work[node_id].sync_s = seconds
        self._nursery.start_soon(self._after, random.uniform(1.5, 4.0), [self._stack.work[node_id].be_quick for node_id in late])
        if random.random() < 0.5:
            self._nursery.start_soon(self._restart, random.uniform(0.0, 0.5), self._any_or_leader(random), False)

    async def _hang(self, random: Random, app: App) -> None:
        """No call of a disk ends for a while, now and then of all; some are restarted meanwhile, as machines or processes."""
        seconds = random.uniform(0.5, 2.5) if random.random() < 0.4 else random.uniform(2.5, 6.0)
        is_restarted = random.random() < 0.25
        hanging = list(self._stack.addresses) if random.random() < 0.1 else [self._any_or_leader(random)]
        if any(work.hangs for work in self._stack.work.values()):
            return
        for node_id in hanging:
            self._stack.work[node_id].hang(trio.current_time() + seconds)
            if is_restarted:
                self._nursery.start_soon(self._restart, random.uniform(0.1, 1.0) * seconds, node_id, random.random() < 0.5)

    async def _restart(self, after_s: float, node_id: int, power: bool) -> None:
        await trio.sleep(after_s)
        await self.processes.end(node_id, power=power)
        await self.processes.revive(node_id)

    async def _fill(self, random: Random, app: App) -> None:
        """A disk is nearly full for a while, full, or first the one and then the other; then files are deleted."""
        node_id = self._any_or_leader(random)
        self._nursery.start_soon(self._fill_and_free, node_id, random.random(), random.uniform(1.2, 3.0), random)

    async def _fill_and_free(self, node_id: int, how: float, seconds: float, random: Random) -> None:
        disk, segment_bytes = self._stack.disks[node_id], self._stack.segment_bytes
        if how < 0.8:
            disk.free_space(random.randint(segment_bytes // 2, ROOM_SEGMENTS * segment_bytes))
            await trio.sleep(seconds)
        if how > 0.5:
            disk.fill()
            await trio.sleep(random.uniform(0.3, 2.5))
        disk.free_space()

    def _any_or_leader(self, random: Random) -> int:
        leader = self._stack.local.leader_hint()
        return leader if leader is not None and random.random() < 0.7 else random.choice(list(self._stack.addresses))

    async def _after(self, seconds: float, actions: list[Callable[[], None]]) -> None:
        await trio.sleep(seconds)
        for action in actions:
            action()

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
