"""Injects the faults of a plan, at times drawn from the seed, until all heals."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from bargetrio.raft.messages import NodeId
from bargetrio.raft.roles import Leader
from bargetrio.simulator.goals import Goals
from bargetrio.simulator.losses import Losses
from bargetrio.simulator.network import SimulatedNetwork
from bargetrio.simulator.operator import Operator
from bargetrio.simulator.plan import ROOM_BYTES, Plan
from bargetrio.simulator.server import Server
from bargetrio.simulator.world import World
from bargetrio.storage.snapshots import snapshot_name

EIO: Final = 5
EVERY_S: Final = 4.0
"""Mean time between two faults of one kind."""


class Nemesis:
    """Schedules all faults at the beginning; each fault schedules its own end."""

    def __init__(
        self,
        plan: Plan,
        world: World,
        network: SimulatedNetwork,
        servers: Sequence[Server],
        record: Callable[[str], None],
        goals: Goals,
        burst: Callable[[NodeId, int], None],
    ) -> None:
        self._plan = plan
        self._world = world
        self._network = network
        self._servers = servers
        self._record = record
        self._goals = goals
        self._burst = burst
        """Called with a node id and a number of writes: a client sends that many at once."""
        self._starves_until = 0.0
        self.operator: Operator | None = None
        self.losses: Losses | None = None
        happen = {
            "slow_links": self._slow_link,
            "one_way_cuts": self._cut_one_way,
            "bridge": self._bridge,
            "ring": self._ring,
            "partitions": self._partition,
            "stranded_leader": self._strand,
            "crashes": self._crash,
            "kills": self._kill,
            "pauses": self._pause,
            "fsync_errors": self._fail_disk,
            "full_disks": self._fill_disk,
            "filling_disks": self._nearly_fill_disk,
            "hanging_syncs": self._hang,
            "starvation": self._starve,
            "restart_all": self._restart_all,
            "short_files": self._shorten,
            "backups": self._back_up,
            "transfers": self._transfer,
        }
        for kind in plan.kinds:
            random = world.random(f"nemesis {kind}")  # one kind more or less changes nothing for the others
            if kind in happen:
                moment = random.expovariate(1 / EVERY_S)
                while moment < plan.heal_at:
                    world.at(moment, happen[kind], random)
                    moment += random.expovariate(1 / EVERY_S)
            if kind == "lost_for_good" and plan.nodes > 2:
                world.at(random.uniform(1, plan.heal_at), self._lose_for_good, random)
        world.at(plan.heal_at, self._heal)

    # -- links -----------------------------------------------------------------------------------------------------------

    def _links(self) -> list[tuple[int, int]]:
        ids = range(len(self._servers))
        return [(source, target) for source in ids for target in ids if source != target]

    def _for_a_while(self, random: Random, cut: set[tuple[int, int]]) -> None:
        if cut:
            self._cut(cut, random.uniform(0.2, 3))

    def _cut(self, cut: set[tuple[int, int]], seconds: float) -> None:
        """Cut these links for a while; what other faults have cut meanwhile may heal with them."""
        self._record(f"cut: {_listed(cut)}")
        for source, target in cut:
            self._network.cut(source, target)
        self._world.after(seconds, self._mend, cut)

    def _mend(self, cut: set[tuple[int, int]]) -> None:
        self._record(f"mended: {_listed(cut)}")
        for source, target in cut:
            self._network.mend(source, target)

    def _slow_link(self, random: Random) -> None:
        links = self._links()
        if links:
            link = random.choice(links)
            source, target = link
            seconds = self._network.links[source][target].slow_s = random.uniform(0.05, 1.5)
            self._record(f"link {_listed({link})} is {seconds * 1000:.0f} ms slower")
            self._world.after(random.uniform(0.5, 3), self._speed_up, link)

    def _speed_up(self, link: tuple[int, int]) -> None:
        source, target = link
        self._network.links[source][target].slow_s = 0.0
        self._record(f"link {_listed({link})} is as fast as before")

    def _cut_one_way(self, random: Random) -> None:
        links = self._links()
        if links:
            self._for_a_while(random, set(random.sample(links, random.randint(1, max(1, len(links) // 3)))))

    def _partition(self, random: Random) -> None:
        groups = [random.randrange(1 + random.randint(1, 2)) for _ in self._servers]
        self._for_a_while(random, {link for link in self._links() if groups[link[0]] != groups[link[1]]})

    def _strand(self, random: Random) -> None:
        count, seconds = random.randint(5, 30), random.uniform(1, 5)
        leader = self._leader()
        if leader is not None:
            node_id = leader.node_id
            self._record(f"node {node_id} is cut off when {count} writes come")
            self._burst(node_id, count)
            self._cut({link for link in self._links() if node_id in link}, seconds)

    def _bridge(self, random: Random) -> None:
        ids = [server.node_id for server in self._servers]
        random.shuffle(ids)
        bridge, half = ids[0], len(ids) // 2
        left = set(ids[1 : half + 1])
        cut = {link for link in self._links() if bridge not in link and (link[0] in left) != (link[1] in left)}
        self._for_a_while(random, cut)

    def _ring(self, random: Random) -> None:
        count = len(self._servers)
        self._for_a_while(random, {link for link in self._links() if (link[0] - link[1]) % count not in (1, count - 1)})

    # -- processes -------------------------------------------------------------------------------------------------------

    def _leader(self) -> Server | None:
        """Return the leader of the highest term."""
        leaders = [server for server in self._servers if server.core is not None and isinstance(server.core.role, Leader)]
        return max(leaders, key=lambda server: server.core.current_term if server.core else 0, default=None)

    def _starve(self, random: Random) -> None:
        """A leader's process stands still again and again, longer than a heartbeat; in half of the cases it is cut off, too."""
        leader, seconds, is_cut = self._leader(), random.uniform(3, 9), random.random() < 0.5
        if leader is None or self._world.now < self._starves_until:
            return
        self._starves_until = self._world.now + seconds
        self._record(f"node {leader.node_id} gets hardly any time for {seconds:.1f} s")
        self._goals.starved(leader, is_cut=is_cut)
        if is_cut:
            self._cut({link for link in self._links() if leader.node_id in link}, seconds)
        moment = self._world.now
        while moment < min(self._starves_until, self._plan.heal_at):
            pause_s = random.uniform(0.06, 0.2)
            self._world.at(moment, leader.pause, pause_s)
            moment += pause_s + random.uniform(0.001, 0.01)
        self._world.at(moment, self._goals.fed, leader)

    def _any(self, random: Random) -> Server:
        return random.choice(self._servers)

    def _crash(self, random: Random) -> None:
        self._end(random, self._any(random), power=True)

    def _kill(self, random: Random) -> None:
        self._end(random, self._any(random), power=False)

    def _restart_all(self, random: Random) -> None:
        power = random.random() < 0.5
        for server in self._servers:
            server.crash(power=power)
            self._revive_later(random, server)

    def _end(self, random: Random, server: Server, *, power: bool) -> None:
        if random.random() < 0.5:
            server.crash(power=power)
            self._revive_later(random, server)
        else:
            server.crash_in_next_write(power, lambda doomed: self._revive_later(random, doomed))

    def _revive_later(self, random: Random, server: Server) -> None:
        self._world.after(random.choice((0.02, 0.3, 1.0, 3.0, 8.0)), self.revive, server)

    def _lose_for_good(self, random: Random) -> None:
        """A node, whose disk the cluster can do without at this moment."""
        if all(other.core is None or not other.core.current_term for other in self._servers):
            self._world.after(1.0, self._lose_for_good, random)  # a cluster is born when all its members have met
            return
        server = self._any(random)
        if self.operator is not None and not self.operator.can_spare_for_good(server):
            if self._world.now < self._plan.heal_at:
                self._world.after(1.0, self._lose_for_good, random)
            return
        self._record(f"node {server.node_id} is lost for good")
        server.lose_for_good()

    def revive(self, server: Server) -> None:
        """Start the server if it is down; again a little later if its disk does not let it."""
        if server.core is not None or server.is_lost or server.first_start > self._world.now:
            return
        if server.start():
            self._network.restarted(server.node_id)
        else:
            self._world.after(0.2, self.revive, server)

    def _pause(self, random: Random) -> None:
        seconds = random.uniform(0.02, 2)
        for server in self._servers if random.random() < 0.1 else [self._any(random)]:
            self._record(f"node {server.node_id} stands still for {seconds * 1000:.0f} ms")
            server.pause(seconds)

    # -- disks -----------------------------------------------------------------------------------------------------------

    def _fail_disk(self, random: Random) -> None:
        server = self._any(random)
        self._record(f"disk of node {server.node_id}: one of its next calls fails")
        server.disk.fail_at[server.disk.calls + random.randint(1, 12)] = EIO
        self._world.after(random.uniform(0.5, 2), self.revive, server)

    def _fill_disk(self, random: Random) -> None:
        server = self._any(random)
        self._record(f"disk of node {server.node_id} is full")
        server.disk.fill()
        self._world.after(random.uniform(0.5, 2), self._free_disk, server)

    def _nearly_fill_disk(self, random: Random) -> None:
        server = self._any_or_leader(random)
        self._record(f"disk of node {server.node_id} is nearly full")
        server.disk.free_space(random.randint(ROOM_BYTES // 2, ROOM_BYTES))
        self._world.after(random.uniform(1, 5), self._free_disk, server)

    def _free_disk(self, server: Server) -> None:
        self._record(f"disk of node {server.node_id} has space again")
        server.disk.free_space()
        self.revive(server)

    def _shorten(self, random: Random) -> None:
        """The newest snapshot's file of a node ends too early when it is read for sending; in its next life, too."""
        server = self._any(random)
        snapshot = None if server.core is None else server.core.snapshot
        if snapshot is not None:
            name, end = snapshot_name(snapshot.last_index, snapshot.last_term), random.randrange(snapshot.size)
            server.machine.readable[name] = end
            self._record(f"snapshot {snapshot.last_index} of node {server.node_id} can be read up to {end}")

    def _back_up(self, random: Random) -> None:
        server = self._any(random)
        self._record(f"node {server.node_id} is asked for a snapshot")
        server.ask_for_snapshot()

    def _transfer(self, random: Random) -> None:
        """The operator asks the leader to have another node elected; which ones could be is for the leader to know."""
        target, leader = self._any(random).node_id, self._leader()
        if leader is not None and leader.node_id != target:
            leader.call(
                lambda core, now: self._record(f"transfer to {target}: {core.transfer_leadership((target,), now) or 'under way'}")
            )

    def _hang(self, random: Random) -> None:
        """The write in flight, and those that begin meanwhile, end when the disk answers again; a restart makes it."""
        seconds, is_restarted = random.uniform(0.5, 8), random.random() < 0.3
        for server in self._servers if random.random() < 0.1 else [self._any_or_leader(random)]:
            self._record(f"disk of node {server.node_id} hangs for {seconds:.1f} s")
            server.machine.disk_hangs_until = self._world.now + seconds
            if is_restarted:
                self._world.after(random.uniform(0.5, 1) * seconds, self._restart, random, server)

    def _any_or_leader(self, random: Random) -> Server:
        leader = self._leader()
        return leader if leader is not None and random.random() < 0.5 else self._any(random)

    def _restart(self, random: Random, server: Server) -> None:
        if self._world.now < self._plan.heal_at:
            server.crash(power=random.random() < 0.5)
            self._revive_later(random, server)

    # -- the end ---------------------------------------------------------------------------------------------------------

    def _heal(self) -> None:
        """End all faults and start all servers; clocks keep their rates."""
        self._record("all faults healed")
        self._network.heal()
        for server in self._servers:
            server.spare()
            server.disk.fail_at.clear()
            server.disk.free_space()
            if server.node_id not in self._plan.late_disks:
                server.machine.disk_s = (0.0002, 0.002)
            server.machine.save_s = server.machine.piece_s = (0.0002, 0.02)
            server.machine.paused_until = min(server.machine.paused_until, self._world.now)
            server.machine.disk_hangs_until = 0.0
        if self.losses is not None:
            self.losses.heal()
        for server in self._servers:
            self.revive(server)

    def heal_disks(self) -> None:
        """Disks that were late, also after the healing, are as quick as all others."""
        for server in self._servers:
            server.machine.disk_s = (0.0002, 0.002)


def _listed(links: set[tuple[int, int]]) -> str:
    return ", ".join(f"{source} → {target}" for source, target in sorted(links))
