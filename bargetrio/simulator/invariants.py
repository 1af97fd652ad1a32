"""Invariants checked after every step, in every life and across lives (Figure 3, and what it assumes).

Digests stand for logs: `log.digest(i)` covers everything up to `i`, so one number a place is compared, not entries. A check
considers only what a step has changed.
"""

from collections.abc import Sequence
from typing import Final

from bargetrio.eventlog.host_facts import DiskFailed, HostFact, NodeCrashed, NodeKilled
from bargetrio.kv.commands import Stored
from bargetrio.kv.store import Outcome, Store
from bargetrio.raft.core import Core
from bargetrio.raft.facts import (
    Applied,
    CommitAdvanced,
    Fact,
    LogsDiffer,
    LogTruncated,
    MembersChanged,
    PreVoteRequested,
    RoleChanged,
    SnapshotInstalled,
    TailLost,
    VoteGranted,
)
from bargetrio.raft.log import Log
from bargetrio.raft.messages import Index, NodeId, SnapshotMeta, Term
from bargetrio.raft.records import HardState, Install, Record
from bargetrio.raft.roles import Follower, Leader
from bargetrio.raft.standing import decode_configuration
from bargetrio.simulator import accounts
from bargetrio.simulator.answers import Asker
from bargetrio.simulator.leadership import Leadership
from bargetrio.simulator.membership import Membership
from bargetrio.simulator.memory import Breach, Committed, DiskState, Fate, Memory, disk_after, fate_of
from bargetrio.simulator.observer import Look
from bargetrio.simulator.outcomes import Outcomes
from bargetrio.simulator.promises import Promises
from bargetrio.simulator.server import Server
from bargetrio.simulator.snapshot_labels import check_label
from bargetrio.simulator.stores import Stores
from bargetrio.simulator.world import World


class Invariants:
    """Raises Breach as soon as an invariant is violated."""

    def __init__(self, nodes: int, world: World) -> None:
        self.committed: list[Committed] = [Committed(0, 0, 0)]
        """By index; entries stay also when the nodes that reported them are gone."""
        self.states: list[dict[str, Stored]] = [{}]
        """What all keys hold after each committed entry: kept by a store without faults."""
        self._reference = Store()
        self._results: list[Outcome] = [None]
        self.outcomes = Outcomes(self.committed, self._results)
        self.quorum = nodes // 2 + 1
        self.servers: dict[NodeId, Server] = {}
        self._memory = {node_id: Memory() for node_id in range(nodes)}
        self._accounts = {node_id: accounts.Account() for node_id in range(nodes)}
        self._leaders: dict[Term, NodeId] = {}
        self._began_with: dict[Term, list[int]] = {}
        """The digests of each leader's log when it was elected, by term; none of a log that was altered."""
        self.must_not_commit = False
        """The folders began with different logs: no node may acknowledge anything."""
        self._entries: dict[tuple[Index, Term], int] = {}
        self._asked: dict[Asker, tuple[Index, float]] = {}
        self._world = world
        self.stores = Stores(self._memory, self.servers, self.quorum, self.committed, world)
        self.membership = Membership(self._memory, self.stores, self.committed)
        self.promises = Promises(self._memory, self.stores, self.membership, world)
        self.leadership = Leadership(self._memory, self.stores, self.quorum, world)
        self.looks: Final[dict[type[Fact | HostFact], Look[Server]]] = {
            RoleChanged: self._check_role,
            LogTruncated: self._check_truncation,
            CommitAdvanced: self._check_commit,
            PreVoteRequested: self.leadership.check_silence,
            VoteGranted: self.leadership.check_patience,
            Applied: self._check_applied,
            SnapshotInstalled: self._check_installed,
            MembersChanged: lambda server, fact: self.stores.readmits(server, fact.peer),
            TailLost: self._check_lost,
            LogsDiffer: self._check_difference,
            NodeKilled: lambda server, fact: self.stores.ended(server.node_id),
            NodeCrashed: lambda server, fact: self.stores.ended(server.node_id),
            DiskFailed: lambda server, fact: self.stores.ended(server.node_id),
        }
        """Checks of single facts, by kind."""

    def begin_with(self, log: Log, states: dict[NodeId, DiskState]) -> None:
        """The folders hold parts of this log, or all of it, before the seed begins: it counts as committed."""
        for index in range(1, log.last_index + 1):
            self.committed.append(Committed(log.term(index), log.digest(index), log.term(index)))
            self._results.append(self._reference.apply(log.entry(index).command, index))
            self.states.append(dict(self._reference.stored))
            self._entries[index, log.term(index)] = log.digest(index)
        for node_id, state in states.items():
            self.begin_again(node_id, state)

    def begin_again(self, node_id: NodeId, state: DiskState) -> None:
        """Note the content of the folder of a node that is down."""
        self._memory[node_id].disk = state

    # -- reports of the server -------------------------------------------------------------------------------------------

    def writing(self, server: Server, records: Sequence[Record]) -> None:
        """From now on two states of the disk are possible, or a few more if a snapshot is put in place."""
        memory = self._memory[server.node_id]
        memory.disk_between = []
        for place, record in enumerate(records):
            if type(record) is Install:
                before = disk_after(self.committed, memory.disk, records[:place])
                self._check_install(server, before, record)
                memory.disk_between = [before, disk_after(self.committed, before, [record])]
        memory.disk_if_written = disk_after(self.committed, memory.disk, records)
        memory.writes_since, memory.stood_still_s = server.local_now, server.stood_still_s

    def _check_install(self, server: Server, disk: DiskState, record: Install) -> None:
        """What follows a snapshot's last entry in a log may be acknowledged: it stays (Figure 13, 6; BUG-32)."""
        last = record.snapshot.last_index
        if len(disk.digests) > last + 1 and disk.digests[last] == record.snapshot.digest:
            text = f"node {server.node_id} drops entries {last + 1} to {len(disk.digests) - 1}, and its log holds entry {last}"
            raise Breach("what follows a snapshot stays", text)

    def holds_uncommitted(self, server: Server) -> bool:
        """Return whether the server's disk holds an entry that is not the committed one at its place."""
        digests = self._memory[server.node_id].disk.digests
        return len(digests) > len(self.committed) or digests[-1] != self.committed[len(digests) - 1].digest

    def synced(self, server: Server, records: Sequence[Record]) -> None:
        """Now only the later state is possible."""
        memory = self._memory[server.node_id]
        before = memory.disk
        memory.disk = memory.disk_if_written or disk_after(self.committed, memory.disk, records)
        memory.disk_if_written, memory.disk_between = None, []
        memory.writes_since = -1.0
        if server.disk.lies:
            self.stores.synced(memory, before, settles=any(type(record) in (HardState, Install) for record in records))

    def _or_snapshot(self, state: DiskState, start: Index) -> DiskState:
        """Return what a node recovers whose log ends as `state` says, and whose snapshot holds what is committed to `start`."""
        if len(state.digests) > start:
            return state
        return DiskState(state.term, state.voted_for, [entry.digest for entry in self.committed[: start + 1]])

    def recovered(self, server: Server) -> Fate:
        """The disk gave back all that was synced, and of the write that was in flight all or nothing; return which."""
        memory, core = self._memory[server.node_id], _core(server)
        start = core.log.start_index
        self._check_start(server, core)
        digests = [self.committed[index].digest for index in range(start)]
        digests += [core.log.digest(index) for index in range(start, core.log.last_index + 1)]
        found = DiskState(core.current_term, core.voted_for, digests)
        written = [memory.disk_if_written] if memory.disk_if_written is not None else []
        possible = [
            memory.disk,
            *memory.disk_between,
            *written,
            *[self._or_snapshot(state, start) for state in memory.may_hold or ()],
        ]
        altered_from = memory.altered_from
        if altered_from is not None and digests[:altered_from] == list(memory.disk.digests[:altered_from]):
            memory.may_hold = [found]
        elif not any((state.term, state.voted_for, list(state.digests)) == found for state in possible):
            had = f"term {memory.disk.term}, vote {memory.disk.voted_for}, {len(memory.disk.digests) - 1} entries"
            got = f"term {found.term}, vote {found.voted_for}, {len(digests) - 1} entries"
            raise Breach("disk remembers", f"node {server.node_id} had synced {had} and recovered {got}")
        memory.writes_since = -1.0
        fate = fate_of(memory, found)
        if memory.may_hold is not None and self.stores.found(server, found) and altered_from is None:
            fate = "set back" if memory.is_set_back else "synced tail lost"
        memory.is_set_back = False
        memory.disk, memory.disk_if_written, memory.disk_between = found, None, []
        memory.digests = [0]
        memory.last_index, memory.last_digest = 0, 0
        memory.term, memory.voted_for = core.current_term, core.voted_for
        memory.commit_index = memory.applied_index = core.last_applied
        memory.snapshot_index = 0 if core.snapshot is None else core.snapshot.last_index
        memory.start_index = None
        self._check_state(server, core.last_applied)
        memory.led = None
        memory.leads = False
        memory.heard_at = -1e9
        self.membership.standing_written(server, core.standing)
        self._note_log(server.node_id, core)
        return fate

    def _check_applied(self, server: Server, fact: Applied) -> None:
        """Every entry is applied once, in order, and only what is committed; the fact comes right after."""
        first, last = fact.first_index, fact.index
        memory, core = self._memory[server.node_id], _core(server)
        if first != memory.applied_index + 1:
            raise Breach("applied once, in order", f"node {server.node_id} applied {first} after {memory.applied_index}")
        memory.applied_index = last
        if last >= len(self.committed) or self.committed[last].digest != core.log.digest(last):
            raise Breach("state machine safety", f"node {server.node_id} applied entry {last}, which is not what was committed")
        if server.store.last_index != last:
            raise Breach("applied once, in order", f"node {server.node_id}'s store is at {server.store.last_index}, not {last}")
        self._check_state(server, last)

    def snapshot_saved(self, server: Server, snapshot: SnapshotMeta) -> None:
        """Check the file of a snapshot (snapshot_labels.py)."""
        check_label(server, snapshot, self.committed, self.states)

    def read_asked(self, asker: Asker) -> None:
        """A read was called: it must see everything that was reported committed before."""
        self._asked.setdefault(asker, (len(self.committed) - 1, self._world.now))

    def read_served(self, server: Server, asker: Asker) -> None:
        """A read sees what was committed before it was asked, and a majority has spoken in this term since (Ongaro 6.4)."""
        floor, asked_at = self._asked[asker]
        term = _core(server).current_term
        tellers = [
            peer
            for peer, memory in self._memory.items()
            if (replies := memory.replies.get((server.node_id, term, self.stores.counts_as(server, peer)))) is not None
            and replies.at >= asked_at
            and peer != _core(server).membership.uncounted
        ]
        if len(tellers) + 1 < self.quorum:
            text = f"node {server.node_id} serves a read since which only {tellers} have answered it"
            raise Breach("reads are confirmed", text)
        if server.store.last_index < floor:
            text = f"node {server.node_id} reads at entry {server.store.last_index}, entry {floor} was committed before"
            raise self.stores.without_entry("reads see the past", text, server.store.last_index + 1, term)

    def passed(self, server: Server, now: float) -> None:
        """Check what a step may have changed."""
        core = server.core
        if core is None:
            return
        memory, log, role = self._memory[server.node_id], core.log, core.role
        if core.current_term != memory.term or core.voted_for != memory.voted_for:
            self._check_hard_state(server, core, memory)
        if core.commit_index < memory.commit_index:
            raise Breach("commit never falls", f"node {server.node_id}: {memory.commit_index} to {core.commit_index}")
        memory.commit_index = core.commit_index
        # What a snapshot's label says never changes: the same object says the same.
        if (
            log.start_index != memory.start_index
            or core.snapshot is not memory.snapshot
            or core.snapshots.installing is not memory.installing
        ):
            self._check_snapshot(server, core, memory)
        is_changed = log.last_index != memory.last_index or log.last_digest != memory.last_digest
        if is_changed:
            self._note_log(server.node_id, core)
        if type(role) is Leader:
            if is_changed or memory.led is None or memory.led[0] != core.current_term:
                self._check_append_only(server, core, memory)
            self.leadership.check_office(server, core, role, memory, now)
        else:
            memory.led = None
            if type(role) is Follower and role.heard_leader_at is not None:
                memory.heard_at = role.heard_leader_at
        accounts.check(server, core, self._accounts[server.node_id])

    # -- the rules -------------------------------------------------------------------------------------------------------

    def _check_state(self, server: Server, index: Index) -> None:
        """Equal logs make equal keys: after each slice, after loading, after recovery (Raft 5.4.3; BUG-48)."""
        if server.store.stored != self.states[index]:
            raise Breach("equal states", f"node {server.node_id}'s keys after entry {index} are not what the log makes of them")

    def _check_start(self, server: Server, core: Core) -> None:
        """What a log no longer holds was committed, and is what was committed."""
        start, log = core.log.start_index, core.log
        if start >= len(self.committed) or (log.term(start), log.digest(start)) != self.committed[start][:2]:
            raise Breach("a snapshot is what its label says", f"node {server.node_id}'s log begins after another entry {start}")

    def _check_hard_state(self, server: Server, core: Core, memory: Memory) -> None:
        if core.current_term < memory.term:
            raise Breach("terms never fall", f"node {server.node_id}: {memory.term} to {core.current_term}")
        if core.current_term == memory.term and memory.voted_for not in (None, core.voted_for):
            raise Breach("one vote a term", f"node {server.node_id} takes back its vote of term {core.current_term}")
        memory.term, memory.voted_for = core.current_term, core.voted_for

    def _check_snapshot(self, server: Server, core: Core, memory: Memory) -> None:
        """The snapshot that stands for the beginning of the log never gets older (BUG-31), and leaves no gap (BUG-30)."""
        held = 0 if core.snapshot is None else core.snapshot.last_index
        if held < memory.snapshot_index:
            raise Breach("snapshots go forward", f"node {server.node_id}: {memory.snapshot_index} to {held}")
        memory.snapshot_index = held
        installing = 0 if core.snapshots.installing is None else core.snapshots.installing.last_index
        if core.log.start_index > max(held, installing):
            text = f"node {server.node_id}'s log begins after entry {core.log.start_index}, its snapshot ends at {held}"
            raise Breach("no gap behind a snapshot", text)
        memory.start_index, memory.snapshot, memory.installing = core.log.start_index, core.snapshot, core.snapshots.installing

    def _check_installed(self, server: Server, fact: SnapshotInstalled) -> None:
        memory = self._memory[server.node_id]
        if fact.index < memory.applied_index:
            text = f"node {server.node_id} had applied {memory.applied_index} and installs {fact.index}"
            raise Breach("snapshots go forward", text)
        memory.applied_index = fact.index
        self._check_state(server, fact.index)

    def _check_role(self, server: Server, fact: RoleChanged) -> None:
        self._memory[server.node_id].leads = fact.new == "leader"
        if fact.new == "leader":
            self._check_new_leader(server, fact.term)
            self.stores.took_office(server)
        elif fact.old == "leader":
            self.stores.left_office(server)

    def _check_new_leader(self, server: Server, term: Term) -> None:
        node_id, core = server.node_id, _core(server)
        if term in self._leaders:
            text = f"term {term} is led by node {self._leaders[term]} and by node {node_id}"
            raise self.stores.second_leader("election safety", text, term)
        self._leaders[term] = node_id
        self.promises.note_vote(server, term, node_id)
        voters = [voter for voter in self._memory if self.promises.has_voted(server, voter, term)]
        if len(voters) < self.quorum:
            raise Breach("elected by a majority", f"node {node_id} leads term {term} with the votes of {voters}")
        memory = self._memory[node_id]
        memory.quorum_at = server.local_now
        memory.elected_at = self._world.now
        memory.match, memory.match_store = dict.fromkeys((*self._memory, *core.peers), 0), {}
        index = len(self.committed) - 1
        while index and self.committed[index].in_term >= term:
            index -= 1
        if self.stores.is_altered(node_id, core):
            return
        if not self._has_committed(core, index):
            first = next(at for at in range(core.log.start_index, index + 1) if not self._has_committed(core, at))
            text = f"node {node_id} leads term {term} without the committed entry {first}"
            raise self.stores.without_entry("leader completeness", text, first, term)
        digests = [self.committed[at].digest for at in range(core.log.start_index)]
        self._began_with[term] = digests + [core.log.digest(at) for at in range(core.log.start_index, core.log.last_index + 1)]

    def _check_later_leaders(self, index: Index, term: Term) -> None:
        """Leader completeness, where an entry is found to be committed after a leader of a later term was elected."""
        for later in [each for each in self._began_with if each > term]:
            digests = self._began_with[later]
            if index >= len(digests) or digests[index] != self.committed[index].digest:
                text = f"entry {index} is committed in term {term}, and the leader of term {later} was elected without it"
                raise self.stores.without_entry("leader completeness", text, index, term)

    def _has_committed(self, core: Core, index: Index) -> bool:
        return core.log.last_index >= index and self.stores.digest(core, index) == self.committed[index].digest

    def _check_truncation(self, server: Server, fact: LogTruncated) -> None:
        if self._memory[server.node_id].leads:
            raise Breach("leader append-only", f"node {server.node_id}, a leader, deletes entries from {fact.index}")
        if fact.index <= self._memory[server.node_id].commit_index:
            text = f"node {server.node_id} deletes entry {fact.index}, which it knew to be committed"
            raise self.stores.without_entry("committed for ever", text, fact.index, fact.term)

    def _check_commit(self, server: Server, fact: CommitAdvanced) -> None:
        core = _core(server)
        if self.must_not_commit:
            raise Breach(
                "backups are not mixed", f"node {server.node_id} commits {fact.index}, and the folders did not begin alike"
            )
        known = len(self.committed) - 1
        for index in range(fact.old_index + 1, fact.index + 1):
            term, digest = core.log.term(index), core.log.digest(index)
            if index < len(self.committed):
                before = self.committed[index]
                if before.digest != digest or before.term != term:
                    text = f"node {server.node_id} calls entry {index} of term {term} committed, "
                    text += f"which was committed with term {before.term} before"
                    raise self.stores.without_entry("state machine safety", text, index, fact.term)
            else:
                self.committed.append(Committed(term, digest, fact.term))
                self._check_later_leaders(index, fact.term)
                command = core.log.entry(index).command
                if b'"op":"members"' in bytes(command):
                    self.membership.committed(decode_configuration(command, index))
                self._results.append(self._reference.apply(command, index))
                self.states.append(dict(self._reference.stored))
                self.outcomes.committed(index, term)
        if self._memory[server.node_id].leads:
            if core.log.term(fact.index) != fact.term:
                text = f"node {server.node_id} commits entry {fact.index} of term {core.log.term(fact.index)} by counting"
                raise Breach("only the own term's by counting", text)
            holders = self._holders(server, core, fact, known)
            if len(holders) < self.quorum:
                raise Breach("a quorum has synced", f"entry {fact.index} is called committed and is on the disks of {holders}")

    def _holders(self, server: Server, core: Core, fact: CommitAdvanced, known: Index) -> list[NodeId]:
        """Return whose store, of those that count for this leader, held the entry; one that is being readmitted does not count.

        What was committed up to `known` before is committed, also where this leader applies it only now.
        """
        newest = next((each for each in reversed(core.membership.configurations) if each.index <= fact.index), core.configuration)
        uncounted = newest.readmitted if newest is not None and newest.index > max(fact.old_index, known) else None
        return [
            node_id
            for node_id in self._memory
            if node_id != uncounted
            and (
                self.stores.holds(node_id, self.stores.counts_as(server, node_id), fact.index, fact.digest)
                or (newest is not None and self.stores.holds(node_id, newest.stores[node_id], fact.index, fact.digest))
            )
        ]

    def _check_lost(self, server: Server, fact: TailLost) -> None:
        """A leader announces `tail_lost` only of a store that has lost what it had acknowledged to this leader."""
        if not self.stores.has_lost(server, fact.peer, fact.index):
            text = f"node {server.node_id} says that node {fact.peer} lost entries up to {fact.index}; its disk has not"
            raise Breach("nobody is accused in error", text)
        self.stores.tail_lost_reported(server.node_id, fact.peer)

    def _check_difference(self, server: Server, fact: LogsDiffer) -> None:
        """Logs differ only where one was altered."""
        if not self.stores.may_differ:
            text = f"node {server.node_id} says that its log differs from node {fact.peer}'s at {fact.index}; none was altered"
            raise Breach("nobody is accused in error", text)
        memory = self._memory[server.node_id]
        if memory.altered_from is not None:
            memory.differed_in = fact.term

    def _check_append_only(self, server: Server, core: Core, memory: Memory) -> None:
        if memory.led is not None and memory.led[0] == core.current_term:
            _, index, digest = memory.led
            if core.log.last_index < index or self.stores.digest(core, index) != digest:
                raise Breach("leader append-only", f"node {server.node_id} changed its log before entry {index}")
        memory.led = (core.current_term, core.log.last_index, core.log.last_digest)

    def _note_log(self, node_id: NodeId, core: Core) -> None:
        """Log matching: one digest for each (index, term), whoever holds it, whenever."""
        memory, log = self._memory[node_id], core.log
        mirror, start = memory.digests, log.start_index
        del mirror[log.last_index + 1 :]
        if len(mirror) <= start or mirror[start] != log.digest(start):
            self._check_start(self.servers[node_id], core)
            mirror[:] = [committed.digest for committed in self.committed[: start + 1]]
        while mirror[-1] != log.digest(len(mirror) - 1):
            mirror.pop()
        is_altered = self.stores.is_altered(node_id, core)
        for index in range(len(mirror), log.last_index + 1):
            digest = log.digest(index)
            is_other = is_altered and index >= (memory.altered_from or 0)
            if not is_other and self._entries.setdefault((index, log.term(index)), digest) != digest:
                is_altered = self.stores.takes_altered(node_id, index)
                if not is_altered:
                    text = f"node {node_id}'s log up to entry {index} differs from another with the same term"
                    raise Breach("log matching", text)
            mirror.append(digest)
        memory.last_index, memory.last_digest = log.last_index, mirror[-1]


def _core(server: Server) -> Core:
    assert server.core is not None
    return server.core
