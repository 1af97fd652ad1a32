"""Stores whose disks lost or altered synced entries: what each held, what is missing, and which invariants still apply.

Where a whole disk is lost and its node readmitted, no entry may be lost: such seeds are checked as all others. A disk that loses
a synced tail, or is set back to an old image, keeps its store id. Invariants that this may violate are suspended (damage.py), all
others hold; and a leader to which it had acknowledged more than it now holds must announce `tail_lost` when the two exchange
messages.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from bargetrio.raft.core import Core
from bargetrio.raft.effects import SendChunk
from bargetrio.raft.messages import AppendReply, Index, Message, NodeId, Term
from bargetrio.raft.roles import Leader
from bargetrio.simulator.damage import FOR_EVER, Damage
from bargetrio.simulator.memory import Breach, Committed, DiskState, Excused, Memory, StoreId
from bargetrio.simulator.server import Server
from bargetrio.simulator.world import World

ANSWERS: Final = 2
"""The first refusal of acknowledged entries may be an old answer; this many answers to later probes prove a loss."""


class _ExpectedReport:
    """A `tail_lost` that a leader has still to announce.

    `replies`: the follower's answers since; `asked_in`: the leader's read round when it took the first refusal among them.
    `is_earlier`: the entries were acknowledged in an earlier term of this leader's, and are committed. `connection_round`: the
    first round of the leader's connection to the follower when the loss was found; -1: the leader was elected since.
    `is_long`: the follower has other entries in the place of those it lost, so that its log is no shorter.
    """

    def __init__(self, term: Term, index: Index, *, is_earlier: bool, connection_round: int = -1) -> None:
        self.term = term
        self.index = index
        self.is_earlier = is_earlier
        self.connection_round = connection_round
        self.is_long = False
        self.replies: list[AppendReply] = []
        self.asked_in: int | None = None
        self.heard_at: set[float] = set()


class _Loss(NamedTuple):
    """Of a disk that lost synced records: what it knew, what was found, and what it had acknowledged to which leader and term."""

    had: DiskState
    found: DiskState
    acknowledged: dict[tuple[NodeId, Term], Index]


class Stores:
    """The stores of all nodes; `damages`: the suspensions for disks that lost synced data."""

    def __init__(
        self,
        memory: dict[NodeId, Memory],
        servers: dict[NodeId, Server],
        quorum: int,
        committed: Sequence[Committed],
        world: World,
    ) -> None:
        self.damages: list[Damage] = []
        self.expected_reports: dict[tuple[NodeId, NodeId], _ExpectedReport] = {}
        """Announcements that are due, by leader and follower."""
        self.touched: set[tuple[NodeId, StoreId]] = set()
        """Stores in use that have lost synced records."""
        self._losses: dict[tuple[NodeId, StoreId], list[_Loss]] = {}
        self._is_any_altered = False
        self._memory = memory
        self._servers = servers
        self._quorum = quorum
        self._committed = committed
        self._world = world

    # -- what disks held -------------------------------------------------------------------------------------------------

    def holds(self, node_id: NodeId, store: StoreId, index: Index, digest: int) -> bool:
        """Return whether that store holds the log with `digest` up to `index`, or did when it was last seen."""
        memory = self._memory[node_id]
        states = list(memory.former.get(store, ()))
        if store == memory.store:
            states.append(memory.disk)
        return any(_has(state, index, digest) for state in states)

    def counts_as(self, server: Server, node_id: NodeId) -> StoreId:
        """Return which store of a node counts for this server; where there is no set yet, the one that is there."""
        assert server.core is not None
        configuration = server.core.configuration
        return self._memory[node_id].store if configuration is None else configuration.stores.get(node_id, "")

    def digest(self, core: Core, index: Index) -> int:
        """Return the digest of a log at `index`, also where it is compacted."""
        return core.log.digest(index) if index >= core.log.start_index else self._committed[index].digest

    def is_on_a_majority(self, index: Index, digest: int) -> bool:
        """Return whether a majority of disks that never lost synced records hold the log with `digest` up to `index`."""
        holders = [
            node_id
            for node_id, memory in self._memory.items()
            if (node_id, memory.store) not in self.touched
            and index < len(memory.disk.digests)
            and memory.disk.digests[index] == digest
        ]
        return len(holders) >= self._quorum

    def without_entry(self, rule: str, text: str, index: Index, term: Term) -> Breach:
        """Return the violation of a rule by the leader of `term`, or for it: the committed entry `index` is not there."""
        is_excused = any(damage.excuses(index, term, self._committed) for damage in self.damages)
        return Excused(rule, text) if is_excused else Breach(rule, text)

    def second_leader(self, rule: str, text: str, term: Term) -> Breach:
        """Return the violation of a rule that a vote or a term which a disk forgot may have caused."""
        is_excused = any(damage.excuses_leader(term) for damage in self.damages)
        return Excused(rule, text) if is_excused else Breach(rule, text)

    def may_vote_again(self, store: StoreId, term: Term) -> bool:
        """Return whether this store's disk may have forgotten its vote in this term."""
        return any(damage.excuses_vote(store, term) for damage in self.damages)

    def at_a_halt(self, rule: str, text: str) -> Breach:
        """Return the violation of a rule by a cluster in which no majority may be left whose logs are alike.

        So it is also where the entry is safe: a node that held it as it was may be lost for good, another one may have followed
        a leader with the altered log.
        """
        alike = [
            node_id
            for node_id, server in self._servers.items()
            if not server.is_lost and (server.core is None or not self.is_altered(node_id, server.core))
        ]
        is_excused = self.altered_entry_may_win or len(alike) < self._quorum
        return Excused(rule, text) if is_excused else Breach(rule, text)

    @property
    def altered_entry_may_win(self) -> bool:
        """Whether an altered entry may be the cluster's: no majority of disks that may be believed held the right one."""
        return any(damage.until_term == FOR_EVER for damage in self.damages)

    # -- changes of disks ------------------------------------------------------------------------------------------------

    def disk_lost(self, node_id: NodeId) -> None:
        """Note that an empty disk has replaced this one."""
        memory = self._memory[node_id]
        memory.former.setdefault(memory.store, []).append(memory.disk)
        self._drop_expected_reports(node_id)
        memory.store, memory.standing = "", None
        memory.altered_from = memory.altered_on_disk = None
        memory.differed_in = 0
        memory.disk = DiskState(0, None, [0])
        memory.disk_if_written, memory.disk_between, memory.may_hold = None, [], None
        memory.recent.clear()

    def image_kept(self, node_id: NodeId) -> int:
        """Note that the folder is copied as it is on the disk; return the copy's number."""
        memory = self._memory[node_id]
        memory.images.append((memory.store, memory.disk))
        return len(memory.images) - 1

    def put_back(self, node_id: NodeId, number: int) -> None:
        """Note that the copy has replaced the folder."""
        memory = self._memory[node_id]
        store, state = memory.images[number]
        if store != memory.store:
            memory.former.setdefault(memory.store, []).append(memory.disk)
            memory.store, memory.disk = store, memory.former[store][-1]
        memory.disk_if_written, memory.disk_between = None, []
        memory.may_hold, memory.is_set_back = [state], True

    def log_altered(self, node_id: NodeId, index: Index) -> None:
        """Note that its log was altered from this entry on."""
        self._memory[node_id].altered_from = self._memory[node_id].altered_on_disk = index
        self._is_any_altered = True

    @property
    def may_differ(self) -> bool:
        """Whether logs may differ below the same index and term: one was altered. A second leader of a term ends the seed."""
        return self._is_any_altered

    def is_altered(self, node_id: NodeId, core: Core) -> bool:
        """Return whether the node's log differs, so that it must not acknowledge entries of the others."""
        memory, log = self._memory[node_id], core.log
        if memory.altered_from is None:
            return False
        at = max(memory.altered_from, log.start_index)
        if log.last_index < at or log.digest(at) == self._committed[at].digest:
            memory.altered_from = None  # replaced by a snapshot, or truncated
        return memory.altered_from is not None

    def takes_altered(self, node_id: NodeId, index: Index) -> bool:
        """A node has entries of another log from here on; return whether it has them from a leader whose log was altered."""
        memory = self._memory[node_id]
        if memory.altered_on_disk is not None and memory.altered_on_disk <= index:
            memory.altered_from = index  # what had taken its place was not written when the node ended
            return True
        sources = [memory for memory in self._memory.values() if memory.altered_from is not None]
        if not any(memory.altered_from <= index for memory in sources if memory.altered_from is not None):
            return False
        memory = self._memory[node_id]
        memory.altered_from = memory.altered_on_disk = index
        self.touched.add((node_id, memory.store))
        self._note_altered(index)
        return True

    def must_stop(self, node_id: NodeId) -> bool:
        """Return whether the node's log was altered, as far as its state shows when it has stopped.

        It may have said so, and have taken a snapshot in the log's place while that was on its way (OWN-156).
        """
        memory = self._memory[node_id]
        return memory.altered_from is not None or 0 < memory.term == memory.differed_in

    def power_failed(self, node_id: NodeId, *, lied: bool) -> None:
        """Note a power failure; where the disk lies, any of its last writes may be the last one on it."""
        memory = self._memory[node_id]
        if lied and memory.recent:
            memory.may_hold = list(memory.recent)
        memory.recent.clear()

    def synced(self, memory: Memory, before: DiskState, *, settles: bool) -> None:
        """Note that the disk reported a write as synced; `settles`: it and all before it cannot be lost any more."""
        if settles:
            memory.recent.clear()
        else:
            memory.recent.append(before)

    def found(self, server: Server, found: DiskState) -> bool:
        """Note what a disk has lost, and which leaders must announce it; return whether it has lost anything."""
        node_id = server.node_id
        memory = self._memory[node_id]
        had, memory.may_hold = memory.disk, None
        same = 0
        for old, new in zip(had.digests, found.digests, strict=False):
            if old != new:
                break
            same += 1
        if found[:2] == had[:2] and same == len(had.digests):
            return False
        memory.former.setdefault(memory.store, []).append(had)
        self.touched.add((node_id, memory.store))
        acknowledged = {
            (to, term): replies.match_index for (to, term, store), replies in memory.replies.items() if store == memory.store
        }
        self._losses.setdefault((node_id, memory.store), []).append(_Loss(had, found, acknowledged))
        memory.disk = found
        self._note_damage(memory, had, found, same)
        self._expect_reports(node_id, memory, same - 1)
        return True

    def _note_damage(self, memory: Memory, had: DiskState, found: DiskState, same: Index) -> None:
        """Note which entries no majority of other disks holds, and which terms are forgotten; `same`: the first lost entry."""
        if memory.altered_from is not None and memory.altered_from >= same:
            self._note_altered(memory.altered_from)
        lost = [index for index in range(same, len(had.digests)) if not self.is_on_a_majority(index, had.digests[index])]
        if found[:2] != had[:2]:
            held = [index for index, entry in enumerate(self._committed) if self.is_on_a_majority(index, entry.digest)]
            self.damages.append(Damage(len(held), had.term, found.term, memory.store))
        elif lost:
            self.damages.append(Damage(lost[0], had.term))

    def _note_altered(self, index: Index) -> None:
        """Note that an altered entry may be the cluster's, unless a majority of other disks holds it as it was committed."""
        if index < len(self._committed) and not self.is_on_a_majority(index, self._committed[index].digest):
            self.damages.append(Damage(index, FOR_EVER))

    def has_lost(self, server: Server, peer: NodeId, index: Index) -> bool:
        """Return whether the peer's store that counts for this leader has lost an entry that it had acknowledged to it.

        What it acknowledged in an earlier term must have been on its disk when that lost it: the leaders of later terms may have
        had it deleted. In the same term only this leader can, and does not (Raft 5.3); a disk that knew a later term by then, and
        is set back to this one, lacks what it acknowledged in this one all the same.
        """
        core = server.core
        assert core is not None
        return any(
            index <= acknowledged
            and leader_id == server.node_id
            and not _has(loss.found, index, self.digest(core, index))
            and (term == core.current_term or _has(loss.had, index, self.digest(core, index)))
            for loss in self._losses.get((peer, self.counts_as(server, peer)), ())
            for (leader_id, term), acknowledged in loss.acknowledged.items()
        )

    # -- required announcements ------------------------------------------------------------------------------------------

    def _expect_reports(self, node_id: NodeId, memory: Memory, last_index: Index) -> None:
        self._drop_expected_reports(node_id)
        for leader_id, server in self._servers.items():
            core = server.core
            if core is None or not isinstance(core.role, Leader) or leader_id == node_id:
                continue
            match_index, configuration = core.role.progress[node_id].match_index, core.configuration
            index = max(match_index, self._memory[leader_id].acknowledged.get((node_id, memory.store), 0))
            if index > last_index and configuration is not None and configuration.stores.get(node_id) == memory.store:
                self.expected_reports[leader_id, node_id] = _ExpectedReport(
                    core.current_term,
                    index,
                    is_earlier=index > match_index,
                    connection_round=core.role.progress[node_id].connection_round,
                )

    def left_office(self, server: Server) -> None:
        """Note what each store has acknowledged to a leader that steps down: what is committed of it, no leader has deleted."""
        core, memory = server.core, self._memory[server.node_id]
        if core is None or core.configuration is None:
            return
        for peer in core.peers:
            self._note_acknowledged(memory, peer, core.configuration.stores.get(peer, ""))

    def readmits(self, server: Server, peer: NodeId) -> None:
        """Note what the store before has acknowledged to a leader that proposes another: if that is deleted, it counts again."""
        memory = self._memory[server.node_id]
        if memory.leads and peer in memory.match_store:
            self._note_acknowledged(memory, peer, memory.match_store[peer])

    @staticmethod
    def _note_acknowledged(memory: Memory, peer: NodeId, store: StoreId) -> None:
        index = min(memory.match[peer], memory.commit_index) if memory.match_store.get(peer) == store else 0
        memory.acknowledged[peer, store] = max(index, memory.acknowledged.get((peer, store), 0))

    def took_office(self, server: Server) -> None:
        """Note what a leader must announce that led an earlier term in this life: who lacks what it had acknowledged then."""
        core = server.core
        if core is None or core.configuration is None:
            return
        for (peer, store), index in self._memory[server.node_id].acknowledged.items():
            memory = self._memory[peer]
            counts = core.configuration.stores.get(peer) == store == memory.store
            if counts and (peer, store) in self.touched and len(memory.disk.digests) <= index:
                self.expected_reports[server.node_id, peer] = _ExpectedReport(core.current_term, index, is_earlier=True)

    def _drop_expected_reports(self, node_id: NodeId) -> None:
        for pair in [pair for pair in self.expected_reports if node_id in pair]:
            del self.expected_reports[pair]

    def reply_sent(self, node_id: NodeId, to: NodeId, message: AppendReply) -> None:
        """Note an answer of a node that has lost entries.

        A leader that knows what was acknowledged to it asks for nothing below that in a later term. Where its log begins later,
        its heartbeats may ask for nothing at all.
        """
        report = self.expected_reports.get((to, node_id))
        if report is None or message.term != report.term:
            return
        report.replies.append(message)
        if not message.success:
            report.is_long = report.is_long or message.hint_index >= report.index
            return
        core = self._servers[to].core
        is_heartbeat = not message.prev_log_index and core is not None and core.log.start_index > 0
        if report.is_earlier and message.prev_log_index < report.index and not is_heartbeat:
            text = f"node {node_id} had acknowledged {report.index} to node {to} before term {report.term}"
            text += f", and is given what follows {message.prev_log_index} again"
            raise Breach("a lost tail is reported", f"{text}: node {to} does not report it")

    def sending(self, server: Server, effect: SendChunk) -> None:
        """A leader sends a node a snapshot in the place of what it has lost only if it can't know of the loss.

        It has to ask anew on each connection, and notices that of a restarted node somewhat later.
        """
        report, core = self.expected_reports.get((server.node_id, effect.to)), server.core
        if report is None or core is None or not isinstance(core.role, Leader) or core.current_term != report.term:
            return
        if len(self._memory[effect.to].disk.digests) > report.index:
            del self.expected_reports[server.node_id, effect.to]
        elif core.role.progress[effect.to].connection_round > report.connection_round and not report.is_long:
            text = (
                f"node {effect.to} had acknowledged {report.index} to node {server.node_id} by term {report.term}, and holds less"
            )
            raise Breach("a lost tail is reported", f"{text}: node {server.node_id} sends it a snapshot")

    def message_received(self, server: Server, message: Message) -> None:
        """Note that a leader received it."""
        if not isinstance(message, AppendReply):
            return
        if message.success:
            self._acknowledged(server, message)
            return
        for (leader_id, peer), report in list(self.expected_reports.items()):
            if leader_id != server.node_id or not any(message is each for each in report.replies):
                continue
            core = server.core
            if core is None or not isinstance(core.role, Leader) or core.current_term != report.term:
                del self.expected_reports[leader_id, peer]
                continue
            if message.hint_index >= report.index:
                continue  # its log is long enough, if not yet on its disk
            memory = self._memory[peer]
            if len(memory.disk.digests) > report.index:
                del self.expected_reports[leader_id, peer]
                continue
            if report.asked_in is None:
                report.asked_in = core.role.round
            elif message.round > report.asked_in:
                report.heard_at.add(self._world.now)  # messages of the same time are handled in one step
                if len(report.heard_at) > ANSWERS:
                    text = (
                        f"node {peer} had acknowledged {report.index} to node {leader_id} by term {report.term}, and holds less"
                    )
                    raise Breach("a lost tail is reported", f"{text}: node {leader_id} receives that, and does not report it")

    def _acknowledged(self, server: Server, message: AppendReply) -> None:
        """Restart the count when an acknowledgement from before the loss comes late: earlier refusals may be older than it."""
        peer, core = message.follower_id, server.core
        report = self.expected_reports.get((server.node_id, peer))
        if report is None or core is None or not isinstance(core.role, Leader) or message.term != core.current_term:
            return
        if message.match_index > core.role.progress[peer].match_index:
            report.asked_in = None
            report.heard_at.clear()

    def ended(self, node_id: NodeId) -> None:
        """Note that a process has ended: it has forgotten what was acknowledged to it, and need not announce anything."""
        self._drop_expected_reports(node_id)
        self._memory[node_id].acknowledged.clear()

    def tail_lost_reported(self, leader_id: NodeId, peer: NodeId) -> None:
        """Note that a leader announced `tail_lost`."""
        self.expected_reports.pop((leader_id, peer), None)


def _has(state: DiskState, index: Index, digest: int) -> bool:
    return index < len(state.digests) and state.digests[index] == digest
