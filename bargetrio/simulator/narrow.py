"""After the healing of a seed with narrow links: they are narrow again, nothing else is wrong, and everything must go on.

```
values   a follower is down; values are written one after another, each of which takes longer to cross than an election timeout
snapshot the follower comes back and needs the leader's snapshot; small writes go on
```
No leader may change from beginning to end, and the snapshot must cross in at most twice the ideal time; where nothing is lost,
no piece but the first is sent twice. In half of the seeds a byte is on its way for 0.15 s, too, and in half the network's
queues hide what has not arrived. Time is virtual, so a seed keeps the bounds or breaks them, whatever the machine does. The
ideal time is what can't be avoided: the encoded bytes of each piece once, the heartbeats beside them, and for each piece the
way there and back and the disks' longest times.
"""

from typing import Final

from bargetrio.protocol.requests import Put, PutAnswer
from bargetrio.raft.core import Core
from bargetrio.raft.roles import Leader
from bargetrio.raft.snapshot_state import SnapshotPolicy
from bargetrio.simulator.answers import AnyAnswer
from bargetrio.simulator.cluster import SimulatedCluster
from bargetrio.simulator.memory import Breach
from bargetrio.simulator.plan import HEARTBEAT_S, LONG_TIMEOUT_S, NarrowEnd
from bargetrio.simulator.server import Server
from bargetrio.simulator.timed_jobs import STEP_S

VALUES: Final = 3
SMALL_WRITE_S: Final = 0.2
"""How often a small write is made while the snapshot crosses."""
POLL_S: Final = 0.05
HEARTBEAT_BYTES: Final = 250
"""Upper bound of an encoded heartbeat or its answer, in bytes."""
PIECE_BYTES: Final = 400
"""Upper bound of a piece's message without its data, in bytes."""
AIR_S: Final = 0.0022
"""The longest delay of a message without faults (network.py)."""
BEGIN_S: Final = 1.0
"""Until the follower has recovered, its link is dialled, and the leader has found out what it lacks."""
REST_S: Final = 10.0


class NarrowLinkStage:
    """The stage of one seed; `run` raises Breach."""

    def __init__(self, cluster: SimulatedCluster, plan: NarrowEnd) -> None:
        self._cluster = cluster
        self._plan = plan
        self._random = cluster.world.random("narrow end")
        self._restart_all()
        alive = [server for server in cluster.servers if not server.is_lost]
        leaders = [server for server in alive if server.core is not None and isinstance(server.core.role, Leader)]
        self._leader = max(leaders, key=lambda server: _core(server).current_term)
        self._term = _core(self._leader).current_term
        self._followers = [server for server in alive if server is not self._leader]
        self._can_stop_one = len(alive) - 1 >= len(cluster.servers) // 2 + 1
        self._written = 0

    def _restart_all(self) -> None:
        """Start all nodes again, with larger pieces; and they give up on no request, as a value takes long to cross."""
        cluster = self._cluster
        for server in cluster.servers:
            server.chunk_bytes, server.request_timeout_s = self._plan.chunk_bytes, LONG_TIMEOUT_S
            server.crash(power=False)
        for server in cluster.servers:
            cluster.nemesis.revive(server)
        until = cluster.world.now + REST_S
        while not cluster.is_whole():
            cluster.go_on(cluster.world.now + POLL_S)
            if cluster.world.now > until:
                raise Breach("it heals", f"the nodes did not become equal within {REST_S:.0f} s after all were started again")

    def run(self) -> None:
        """Run both parts, then wait until all nodes have the same state again."""
        if not self._followers:
            return
        cluster, plan = self._cluster, self._plan
        cluster.referee.fault(f"all links are narrow: {plan.bytes_s:.0f} bytes/s")
        cluster.network.widen(plan.bytes_s, plan.far_s)
        away = self._random.choice(self._followers) if self._can_stop_one else None
        if away is not None:
            away.crash(power=False)
            away.is_lost = True  # a fault of before, which planned its return, does not bring it back
        self._write_values()
        if away is not None:
            self._send_snapshot(away)
        cluster.network.widen(0.0)
        until = cluster.world.now + REST_S
        while not cluster.is_whole():
            self._look()
            if cluster.world.now > until:
                raise Breach("it heals", f"the nodes did not become equal within {REST_S:.0f} s after links were wide again")

    def _write_values(self) -> None:
        """One at a time; a quorum is at the other end of narrow links, and needs each of them whole."""
        share = self._plan.bytes_s - 2 * HEARTBEAT_BYTES / HEARTBEAT_S
        longest = 2 * (self._plan.value_bytes * 1.1 / share + 0.5)
        for number in range(VALUES):
            write = self._write(f"narrow {number}", "x" * self._plan.value_bytes)
            until = self._cluster.world.now + longest
            while write.index is None:
                self._look()
                if self._cluster.world.now > until:
                    text = f"a value of {self._plan.value_bytes} bytes was not committed within {longest:.1f} s over narrow links"
                    raise Breach("narrow links", text)
        self._cluster.referee.goals.hit("narrow_value")

    def _send_snapshot(self, away: Server) -> None:
        """Have one taken that `away` needs, start it, and wait until it has installed that."""
        core, cluster = _core(self._leader), self._cluster
        core.snapshots.change_policy(SnapshotPolicy(entries=1 << 60, bytes=1 << 60, trailing=0))
        index = core.log.last_index
        until = cluster.world.now + REST_S
        while core.snapshot is None or core.snapshot.last_index < index or core.log.start_index < index:
            if not core.snapshots.is_taking and not core.snapshots.is_asked:
                if core.snapshot is not None and core.snapshot.last_index >= index:
                    # Taken under the policy of before, which keeps entries behind it; none is taken twice at one index.
                    self._write("narrow again", "x")
                    index = core.log.last_index
                self._leader.ask_for_snapshot()
            self._look()
            if cluster.world.now > until:
                raise Breach("narrow links", f"no snapshot up to entry {index} was taken within {REST_S:.0f} s")
        ideal = self._ideal_s(core.snapshot.size)
        away.is_lost = False
        cluster.nemesis.revive(away)
        began = cluster.world.now
        next_write = began
        before = cluster.referee.goals.counts["piece_sent_again"], cluster.network.lost
        while away.core is None or away.core.last_applied < index:
            if cluster.world.now >= next_write:
                self._write("narrow", "small")
                next_write += SMALL_WRITE_S
            self._look()
            took = cluster.world.now - began
            if took > 2 * ideal + BEGIN_S:
                text = f"a snapshot of {core.snapshot.size} bytes had not crossed after {took:.1f} s, ideal are {ideal:.1f} s"
                raise Breach("narrow links", text)
        sent_again, lost = cluster.referee.goals.counts["piece_sent_again"], cluster.network.lost
        if sent_again > before[0] and lost == before[1]:
            raise Breach("narrow links", "a piece of a snapshot was sent again, though nothing was lost")
        cluster.referee.goals.hit("narrow_snapshot")

    def _ideal_s(self, size: int) -> float:
        plan = self._plan
        pieces = -(-size // plan.chunk_bytes)
        encoded = pieces * PIECE_BYTES + size * 4 / 3
        a_piece_s = 2 * (AIR_S + plan.far_s) + 2 * STEP_S[1]
        return encoded / (plan.bytes_s - HEARTBEAT_BYTES / HEARTBEAT_S) + pieces * a_piece_s

    def _write(self, key: str, value: str) -> "_Write":
        write = _Write()
        if not self._leader.take_request(write, Put(id=0, key=key, value=value)):
            raise Breach("narrow links", "the leader is down")
        return write

    def _look(self) -> None:
        """Let a moment pass; the leader must be the same."""
        self._cluster.go_on(self._cluster.world.now + POLL_S)
        core = self._leader.core
        if core is None or core.current_term != self._term or not isinstance(core.role, Leader):
            now = "down" if core is None else f"{core.role.name} in term {core.current_term}"
            text = f"node {self._leader.node_id}, leader of term {self._term}, is {now}, and nothing is wrong but narrow links"
            raise Breach("narrow links", text)


class _Write:
    """Waits for a write; implements answers.Asker."""

    def __init__(self) -> None:
        self.index: int | None = None

    def answered(self, answer: AnyAnswer) -> None:
        """Note that it was applied; an error comes only from a leader that steps down, which is checked elsewhere."""
        if isinstance(answer, PutAnswer):
            self.index = answer.index


def _core(server: Server) -> Core:
    assert server.core is not None
    return server.core
