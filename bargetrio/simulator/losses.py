"""The faults of disks and members in a plan: lost, lying and old disks, late nodes, other lists, other backups."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from bargetrio.eventlog.host_facts import HostFact
from bargetrio.raft.facts import Fact, PreVoteGranted
from bargetrio.raft.messages import Message, NodeId, VoteReply
from bargetrio.raft.roles import Candidate, Leader, PreCandidate
from bargetrio.simulator import beginnings
from bargetrio.simulator.altered import alter, newest_snapshot
from bargetrio.simulator.goals import Goals
from bargetrio.simulator.invariants import Invariants
from bargetrio.simulator.memory import MOST_LIES, Breach
from bargetrio.simulator.network import SimulatedNetwork
from bargetrio.simulator.observer import Look, LookAtMessage
from bargetrio.simulator.operator import Operator
from bargetrio.simulator.plan import LOSE_SYNCED_DATA, Plan
from bargetrio.simulator.server import Server
from bargetrio.simulator.world import World

EVERY_S: Final = 4.0
"""Mean time in seconds between two faults of one kind."""
ALIKE_AT: Final = (5.0, 12.0)
"""When the operator restores the same backup everywhere."""


class Losses:
    """Schedules all of them at the beginning of a seed; the operator repairs what does not recover by itself."""

    def __init__(
        self,
        plan: Plan,
        world: World,
        network: SimulatedNetwork,
        servers: Sequence[Server],
        operator: Operator,
        invariants: Invariants,
        record: Callable[[str], None],
        goals: Goals,
        revive: Callable[[Server], None],
    ) -> None:
        self._plan = plan
        self._world = world
        self._network = network
        self._servers = servers
        self._invariants = invariants
        self._operator = operator
        self._record = record
        self._goals = goals
        self._revive = revive
        self.looks: dict[type[Fact | HostFact], Look[Server]] = {}
        self.sent: dict[type[Message], LookAtMessage[Server]] = {}
        if "standing_candidate" in plan.kinds:
            self.looks[PreVoteGranted] = self._pre_vote_granted
            self.sent[VoteReply] = self._vote_sent
        self._disks_lost: list[NodeId] = []
        self._stage: _Stage | None = None
        self._begin()
        happen = {
            "lost_disks": self._lose_disk,
            "standing_candidate": self._set_the_stage,
            "lying_disks": self._lie,
            "old_folders": self._copy_or_put_back,
            "altered_logs": self._alter_log,
            "other_nodes": self._start_with_other_nodes,
        }
        for kind in plan.kinds:
            if kind in happen:
                random = world.random(f"losses {kind}")
                moment = random.expovariate(1 / EVERY_S)
                while moment < plan.heal_at:
                    world.at(moment, happen[kind], random)
                    moment += random.expovariate(1 / EVERY_S)

    # -- the beginning ---------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Make the folders, and start the nodes at their times."""
        plan, world = self._plan, self._world
        if "other_nodes" in plan.kinds and not any(plan.begun_with):
            self._maybe_begin_with_other_nodes(world.random("losses first nodes"))
        self._goals.began_with(plan.begun_with)
        if any(plan.begun_with):
            states = {server.node_id: beginnings.begin(server, plan.begun_with[server.node_id]) for server in self._servers}
            self._invariants.begin_with(beginnings.log_before(plan), states)
        for server in self._servers:
            if server.first_start:
                world.at(server.first_start, self._start_late, server)
            else:
                self._revive(server)
        if len(set(plan.begun_with)) > 1:
            self._invariants.must_not_commit = True
            world.at(world.random("losses backups").uniform(*ALIKE_AT), self._restore_alike)

    def _start_late(self, server: Server) -> None:
        self._record(f"node {server.node_id} starts for the first time")
        self._goals.hit("first_start_late")
        self._revive(server)

    def _restore_alike(self) -> None:
        """Restore the same backup everywhere: no node has acknowledged anything yet, so nothing is lost."""
        if not self._goals.counts["other_backup_refused"]:
            raise Breach("a mixed restore is reported", "nodes that began with different backups have met, and none reported it")
        self._record("the operator restores the same backup everywhere")
        self._goals.hit("restored_alike")
        for server in self._servers:
            server.lose_disk()
            server.disk.fail_at.clear()
            server.disk.free_space()
            self._invariants.begin_again(server.node_id, beginnings.begin(server, "tuesday"))
        self._invariants.must_not_commit = False
        for server in self._servers:
            self._revive(server)

    # -- lost disks ------------------------------------------------------------------------------------------------------

    def _leader(self) -> Server | None:
        leaders = [server for server in self._servers if server.core is not None and isinstance(server.core.role, Leader)]
        return max(leaders, key=lambda server: server.core.current_term if server.core else 0, default=None)

    def _lose_disk(self, random: Random) -> None:
        """Replace a disk by an empty one; one at a time, and only while the others are a majority without it."""
        leader = self._leader() if random.random() < 0.3 else None
        server = random.choice(self._servers) if leader is None else leader
        starts_after = random.choice((0.02, 0.3, 1.0, 3.0))
        if not server.is_lost and server.first_start <= self._world.now and self._operator.can_spare(server):
            self._replace_disk(server, starts_after)

    def _replace_disk(self, server: Server, starts_after: float, again_s: float = 1.0) -> None:
        self._record(f"the disk of node {server.node_id} is lost, and replaced")
        self._goals.hit("leader_disk_lost" if server is self._leader() else "disk_lost")
        if server.node_id in self._disks_lost:
            self._goals.hit("disk_lost_again")
        self._disks_lost.append(server.node_id)
        server.lose_disk()
        self._world.after(starts_after, self._revive, server)
        self._operator.take_in(server, again_s)

    # -- a candidate that stands still -----------------------------------------------------------------------------------

    def _set_the_stage(self, random: Random) -> None:
        """Cut three followers off from the others, so that one of them asks for votes in a higher term while the leader lives on.

        The first voter's vote waits at the candidate, which stands still from then on; the voter's disk is lost and replaced; the
        third node is asked for its vote late, and hears no leader until then.
        """
        leader = self._leader()
        if leader is None or self._stage is not None:
            return
        followers = [
            server for server in self._servers if server is not leader and server.core is not None and not server.is_lost
        ]
        if len(self._servers) != 5 or len(followers) < 4:
            return
        three = random.sample(followers, 3)
        ids = {server.node_id for server in three}
        cut = {(a, b) for a in range(5) for b in range(5) if (a in ids) != (b in ids)}
        self._record(f"nodes {', '.join(map(str, sorted(ids)))} are cut off, until one of them asks for votes")
        for source, target in cut:
            self._network.links[source][target].is_cut = True
        self._stage = _Stage(ids, cut, random.uniform(4, 9))
        self._world.after(1.5, self._strike, self._stage)

    def _pre_vote_granted(self, voter: Server, fact: PreVoteGranted) -> None:
        """Choose, before the answer arrives, which of the two others is asked late."""
        stage, candidate_id = self._stage, fact.peer
        if stage is None or stage.third is not None or voter.node_id not in stage.ids or candidate_id not in stage.ids:
            return
        candidate = self._servers[candidate_id].core
        stage.agreed[candidate_id].add(voter.node_id)
        if len(stage.agreed[candidate_id]) == 2 and candidate is not None and isinstance(candidate.role, PreCandidate):
            (stage.third,) = stage.ids - {voter.node_id, candidate_id}
            stage.candidate = candidate_id
            self._network.links[candidate_id][stage.third].slow_s += stage.seconds - 0.3

    def _vote_sent(self, voter: Server, candidate_id: NodeId, message: VoteReply) -> None:
        """Pause the candidate from now on, and lose the disk of its voter."""
        stage = self._stage
        if message.granted and stage is not None and not stage.is_played and stage.candidate == candidate_id:
            stage.is_played = True
            self._world.after(0.004, self._play, stage, voter)

    def _play(self, stage: "_Stage", voter: Server) -> None:
        assert stage.candidate is not None and stage.third is not None
        candidate = self._servers[stage.candidate]
        if (
            candidate.core is None
            or not isinstance(candidate.core.role, Candidate)
            or voter.node_id not in stage.ids - {stage.third}
            or not self._operator.can_spare(voter)
        ):
            stage.until = 0.0
            self._strike(stage)
            return
        stage.until = self._world.now + stage.seconds
        self._goals.hit("candidate_stands_still")
        self._record(f"node {candidate.node_id} stands still, with the vote of node {voter.node_id}")
        candidate.pause(stage.seconds)
        for source, target in stage.cut:
            self._network.links[source][target].is_cut = stage.third in (source, target)
        self._replace_disk(voter, 0.02, 0.1)
        self._world.after(stage.seconds + 0.5, self._strike, stage)

    def _strike(self, stage: "_Stage") -> None:
        if stage is self._stage and not (stage.is_played and self._world.now < stage.until):
            self._stage = None
            for source, target in stage.cut:
                self._network.links[source][target].is_cut = False
            if stage.candidate is not None and stage.third is not None:
                self._network.links[stage.candidate][stage.third].slow_s = 0.0

    # -- disks that lose synced data -------------------------------------------------------------------------------------

    def _lie(self, random: Random) -> None:
        """Have a power failure soon lose some synced writes."""
        server, after, down = random.choice(self._servers), random.uniform(0.1, 2), random.choice((0.02, 0.3, 1.0))
        if server.core is not None and self._operator.can_spare(server):
            server.disk.lie(random.randint(1, MOST_LIES))
            self._record(f"the disk of node {server.node_id} lies about its syncs")
            self._world.after(after, self._power_fails, server, down)

    def _power_fails(self, server: Server, down: float) -> None:
        if server.core is not None and server.disk.lies and self._operator.can_spare(server):
            server.crash(power=True)
            self._world.after(down, self._revive, server)

    def _copy_or_put_back(self, random: Random) -> None:
        """Keep a copy of a folder, and soon put it back."""
        server, after, down = random.choice(self._servers), random.uniform(0.2, 4), random.choice((0.02, 0.3, 1.0))
        if server.core is not None:
            server.keep_image()
            self._world.after(after, self._put_back, server, len(server.images) - 1, down)

    def _put_back(self, server: Server, number: int, down: float) -> None:
        if server.is_lost or self._world.now > self._plan.heal_at or not self._operator.can_spare(server):
            return
        self._record(f"the folder of node {server.node_id} is set back to an old copy")
        self._goals.hit("old_folder_put_back")
        server.put_back(number)
        self._world.after(down, self._revive, server)
        self._world.after(down + 3, self._look_after, server)

    def _look_after(self, server: Server) -> None:
        """Have the operator readmit a node that the others refuse; the copy may be of a time when its list of nodes was wrong."""
        if not self._invariants.membership.is_in_order(server.node_id):
            self._operator.take_in(server)
            self._empty_if_new(server)

    def _alter_log(self, random: Random) -> None:
        """Start a node with a log in which one committed entry is altered; it must stop."""
        server, down = random.choice(self._servers), random.choice((0.02, 0.3, 1.0))
        if server.core is None or not self._operator.can_spare(server):
            return
        core = server.core
        held = max(core.log.start_index, core.standing.admitted)
        last = min(core.commit_index, core.durability.durable_index)
        server.crash(power=False)
        # A complete snapshot not reported to the core is on the disk, too; a log that is another one below it is damaged.
        index = alter(server.disk, random, max(held, newest_snapshot(server.disk)), last)
        if index is not None:
            self._record(f"entry {index} in the log of node {server.node_id} is another one")
            self._goals.hit("log_altered")
            self._invariants.stores.log_altered(server.node_id, index)
        self._world.after(down, self._revive, server)

    # -- another list ----------------------------------------------------------------------------------------------------

    def _start_with_other_nodes(self, random: Random) -> None:
        """Start a node with a `nodes:` list that lacks a node, or has one too many, and later with the right one.

        In half of the times it has a new disk, too, and the operator wants it readmitted.
        """
        server, seconds = random.choice(self._servers), random.uniform(0.3, 3)
        right = tuple(range(len(self._servers)))
        wrong = self._other_list(random, server)
        is_new = random.random() < 0.5
        if server.core is None or server.is_lost or server.node_ids != right:
            return
        if is_new and len(wrong) > 1 and not LOSE_SYNCED_DATA & set(self._plan.kinds) and self._operator.can_spare(server):
            self._replace_disk(server, 0.02)
            server.node_ids = wrong
            self._record(f"node {server.node_id} is set up with nodes {wrong}")
            self._world.after(2 + 2 * seconds, self._correct_nodes, server, right)  # the operator asks every second
            return
        server.crash(power=False)
        server.node_ids = wrong
        self._record(f"node {server.node_id} is started with nodes {list(wrong)}")
        if not server.start():
            self._goals.hit("other_nodes_refused")
        self._world.after(seconds, self._correct_nodes, server, right)

    def _other_list(self, random: Random, server: Server) -> tuple[NodeId, ...]:
        right = range(len(self._servers))
        wrong = [node for node in right if node == server.node_id or random.random() < 0.6]
        if len(wrong) == len(right):
            wrong.append(len(right))
        return tuple(wrong)

    def _maybe_begin_with_other_nodes(self, random: Random) -> None:
        """In half of the seeds a node starts with another list for the first time.

        Not with its own node alone: it would rightly begin a cluster of one.
        """
        server, seconds = random.choice(self._servers), random.uniform(1, 6)
        wrong = self._other_list(random, server)
        if random.random() < 0.5 and len(wrong) > 1:
            self._record(f"node {server.node_id} is set up with nodes {wrong}")
            server.node_ids = wrong
            self._world.at(server.first_start + seconds, self._correct_nodes, server, tuple(range(len(self._servers))))

    def _correct_nodes(self, server: Server, right: tuple[NodeId, ...]) -> None:
        if server.node_ids != right:
            server.crash(power=False)
            server.node_ids = right
            self._record(f"node {server.node_id} has the right list of nodes again")
            self._revive(server)
            self._empty_if_new(server)

    def _empty_if_new(self, server: Server) -> None:
        """Empty a folder that was made with the wrong list; retry where a fault of the disk hides that."""
        if server.node_ids != tuple(range(len(self._servers))):
            return  # it was started with another list meanwhile: its folder may be a member's by now
        if "the configuration names nodes" in server.refusal:
            self._operator.empty(server, "it was new when the list was wrong")
        elif server.core is None and not server.is_lost:
            self._world.after(1.0, self._empty_if_new, server)

    # -- the end ---------------------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """Start the late nodes, with the right list; the operator goes on."""
        if self._stage is not None:
            self._stage.until = 0.0
            self._strike(self._stage)
        for server in self._servers:
            server.first_start = min(server.first_start, self._world.now)
            server.disk.lies = 0
            server.disk.settle()
            self._correct_nodes(server, tuple(range(len(self._servers))))
            if not self._invariants.membership.is_in_order(server.node_id):
                self._world.after(2.0, self._look_after, server)


class _Stage:
    """Three nodes that are cut off: one becomes a candidate, one votes for it, and the third is asked late."""

    def __init__(self, ids: set[NodeId], cut: set[tuple[NodeId, NodeId]], seconds: float) -> None:
        self.ids = ids
        self.cut = cut
        self.seconds = seconds
        self.agreed: dict[NodeId, set[NodeId]] = {node_id: set() for node_id in ids}
        self.candidate: NodeId | None = None
        self.third: NodeId | None = None
        self.is_played = False
        self.until = float("inf")
