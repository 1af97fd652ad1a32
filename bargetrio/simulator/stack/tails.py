"""Ring 2's checker for disks that lose synced data: which losses must be reported, and what may be lost.

It sees what nodes report, and their cores at that moment. A lost tail or an old folder keeps its store id, so a leader that had
the acknowledgement must report that (`tail_lost`) before it sends the node one of those entries again: a leader in the same term
all that was acknowledged to it, and one that led before, in the same process, what it knew then to be committed. No other node
is reported.

simulator/damage.py has the invariants that such a loss suspends. A leader without a committed entry that a majority of untouched
disks held is a failure; without another one, the seed ends without a result. So does one in which a forgotten vote or term elects
a leader.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from bargetrio.eventlog.host_facts import HostFact, NodeCrashed, NodeKilled, NodeRecovered
from bargetrio.raft.core import Core
from bargetrio.raft.facts import (
    AppendAccepted,
    CommitAdvanced,
    Fact,
    LogsDiffer,
    ReadServed,
    RoleChanged,
    SnapshotInstalled,
    TailLost,
)
from bargetrio.raft.messages import Index, NodeId, Term
from bargetrio.raft.quorum import is_majority
from bargetrio.raft.roles import Leader
from bargetrio.raft.standing import StoreId
from bargetrio.simulator.damage import Damage
from bargetrio.simulator.memory import Breach, Committed, Excused

REPORTED: Final = "a lost tail is reported"
ACCUSED: Final = "no false accusation"
MIXED: Final = "a mixed restore begins no cluster"
COMPLETE: Final = "leader completeness"
SAFETY: Final = "state machine safety"


class Held(NamedTuple):
    """What a disk held: hard state, and the log's digests up to what was synced, above its snapshot."""

    store: StoreId
    term: Term
    voted_for: NodeId | None
    start_index: Index
    last_index: Index
    digests: Mapping[Index, int]


class _ExpectedTailReport(NamedTuple):
    """A `tail_lost` that a leader must announce: in this term, or, of what it knew to be committed, in any term (None)."""

    store: StoreId
    last_index: Index
    term: Term | None
    is_long: bool
    """Whether the follower has other entries in the place of those it lost, so that its log is no shorter."""


class Tails:
    """The checker of one seed. `end` is called once, with what ends the seed: a failure, or the end of possible checks."""

    def __init__(self, core_of: Callable[[NodeId], Core], count: int, hit: Callable[..., None]) -> None:
        self.committed: list[Committed] = [Committed(0, 0, 0)]
        self.end: Callable[[Breach], None] = lambda problem: None
        self.touched: set[tuple[NodeId, StoreId]] = set()
        """Stores in use that have lost synced entries, a vote or a term."""
        self.altered: set[tuple[NodeId, StoreId]] = set()
        """Stores in whose log an entry is another one."""
        self.must_not_commit = False
        """Whether the nodes began with different backups."""
        self.running: set[NodeId] = set()
        self.forgotten: dict[NodeId | None, list[float]] = {}
        """When nodes started on disks that had forgotten a vote or a term."""
        self._core_of = core_of
        self._count = count
        self._hit = hit
        self._damages: list[Damage] = []
        self._leaders: dict[Term, NodeId] = {}
        self._losing: dict[NodeId, tuple[Held, bool]] = {}
        """What the disks held that may be found with less."""
        self._lacks: dict[NodeId, tuple[StoreId, Index]] = {}
        """Up to where the log went that a store has lost a part of."""
        self._acknowledged: dict[NodeId, dict[NodeId, tuple[StoreId, Index]]] = {}
        """By leader: what each peer's store had acknowledged to this process of what is committed."""
        self._expected_reports: dict[tuple[NodeId, NodeId], list[_ExpectedTailReport]] = {}
        """By leader and follower."""

    # -- disks -----------------------------------------------------------------------------------------------------------

    def may_lose(self, node_id: NodeId, *, forgets: bool) -> None:
        """Note what the disk of a running node holds, which is about to lose some of it; `forgets`: maybe its vote and term."""
        self._losing[node_id] = held_by(self._core_of(node_id)), forgets

    def opened(self, node_id: NodeId, core: Core, now: float) -> None:
        """Note what a starting node has found on its disk."""
        had, forgets = self._losing.pop(node_id, (None, False))
        if had is None or had.store != core.standing.store:
            return
        found = held_by(core)
        same = last_same(had, found)
        forgot = forgets and (found.term, found.voted_for) != (had.term, had.voted_for)
        if same >= had.last_index and not forgot:
            return
        self.touched.add((node_id, had.store))
        self._lacks[node_id] = had.store, had.last_index
        if same < had.last_index:
            self._hit("synced_tail_lost")
            self._note_owed(node_id, had.store, same, found.last_index)
        if forgot:
            self.forgotten.setdefault(node_id, []).append(now)
            safe = [index for index, entry in enumerate(self.committed) if self._is_on_a_majority(index, entry.digest, node_id)]
            self._damages.append(Damage(len(safe), had.term, found.term, had.store))
            return
        # What was in its snapshot only is committed; it is lost, too, where the copy of the folder is older than that.
        lost = {index: had.digests.get(index, self._digest(index)) for index in range(same + 1, had.last_index + 1)}
        unsafe = [index for index, digest in lost.items() if not self._is_on_a_majority(index, digest, node_id)]
        if unsafe:
            self._damages.append(Damage(unsafe[0], had.term))

    def lacking(self) -> set[NodeId]:
        """Return the nodes that still lack entries which they had acknowledged: their disks count as lost."""
        for node_id, (store, last_index) in list(self._lacks.items()):
            core = self._core_of(node_id)
            if core.standing.store != store or core.durability.durable_index >= last_index:
                del self._lacks[node_id]
        return set(self._lacks)

    def _is_on_a_majority(self, index: Index, digest: int | None, but: NodeId) -> bool:
        """Return whether a majority of untouched disks hold the log with that digest up to `index`."""
        count = 0
        for node_id in self.running - {but}:
            core = self._core_of(node_id)
            if (node_id, core.standing.store) in self.touched or core.durability.durable_index < index:
                continue
            start_index = core.log.start_index
            count += self._digest(index) == digest if index < start_index else core.log.digest(index) == digest
        return is_majority(count, self._count)

    def _digest(self, index: Index) -> int | None:
        return self.committed[index].digest if index < len(self.committed) else None

    def _note_owed(self, node_id: NodeId, store: StoreId, same: Index, last_index: Index) -> None:
        for leader_id in self.running - {node_id}:
            core = self._core_of(leader_id)
            reports = []
            configuration, (before_store, before) = core.configuration, self._before(leader_id, node_id)
            if isinstance(core.role, Leader) and configuration is not None and configuration.stores.get(node_id) == store:
                index = core.role.progress[node_id].match_index
                reports.append(_ExpectedTailReport(store, index, core.current_term, last_index >= index))
            if before_store == store:
                reports.append(_ExpectedTailReport(store, before, None, last_index >= before))
            self._expected_reports[leader_id, node_id] = [each for each in reports if each.last_index > same]

    def _before(self, leader_id: NodeId, peer: NodeId) -> tuple[StoreId, Index]:
        return self._acknowledged.get(leader_id, {}).get(peer, ("", 0))

    # -- what nodes report -----------------------------------------------------------------------------------------------

    def take(self, node_id: NodeId, fact: Fact | HostFact) -> None:
        """Check a fact as it is reported."""
        match fact:
            case CommitAdvanced():
                self._commit(node_id, fact)
            case RoleChanged(new="leader"):
                self._elected(node_id, fact.term)
            case ReadServed():
                self._leads_again(node_id, fact.term)
            case TailLost():
                self._tail_lost(node_id, fact)
            case LogsDiffer():
                if not any((each, self._core_of(each).standing.store) in self.altered for each in (node_id, fact.peer)):
                    self.end(Breach(ACCUSED, f"node {node_id} says that its log and that of node {fact.peer} differ"))
            case AppendAccepted():
                self._accepted(node_id, fact)
            case SnapshotInstalled():
                self._installed(node_id, fact)
            case NodeRecovered():
                self.running.add(node_id)
            case NodeKilled() | NodeCrashed():
                self.running.discard(node_id)
                self._acknowledged.pop(node_id, None)
                for pair in [pair for pair in self._expected_reports if node_id in pair]:
                    del self._expected_reports[pair]
            case _:
                pass

    def _commit(self, node_id: NodeId, fact: CommitAdvanced) -> None:
        if self.must_not_commit:
            self.end(Breach(MIXED, f"node {node_id} commits entry {fact.index}"))
            return
        core, known = self._core_of(node_id), len(self.committed)
        log = core.log
        if fact.index >= known:
            terms_and_digests = [(log.term(index), log.digest(index)) for index in range(known, fact.index + 1)]
            self.committed += [Committed(term, digest, fact.term) for term, digest in terms_and_digests]
        elif fact.digest != self.committed[fact.index].digest:
            self._without(fact.index, fact.term, SAFETY, f"node {node_id} commits another entry {fact.index}")
        if isinstance(core.role, Leader) and core.configuration is not None:
            self._leads_again(node_id, fact.term)
            noted = self._acknowledged.setdefault(node_id, {})
            for peer, progress in core.role.progress.items():
                store, index = core.configuration.stores.get(peer, ""), min(progress.match_index, fact.index)
                if progress.is_counted:
                    before_store, before = self._before(node_id, peer)
                    noted[peer] = store, max(index, before if before_store == store else 0)

    def _elected(self, node_id: NodeId, term: Term) -> None:
        """A leader has all that was committed in earlier terms (Raft 5.4)."""
        if self.must_not_commit:
            self.end(Breach(MIXED, f"node {node_id} leads term {term}"))
        if (node_id, self._core_of(node_id).standing.store) in self.altered:
            return  # no node takes its entries; that it commits another one is found when it does
        first = self._leaders.setdefault(term, node_id)
        if any(damage.excuses_leader(term) for damage in self._damages):
            self.end(Excused(COMPLETE, f"node {node_id} leads term {term}, in which a disk may vote again, first node {first}"))
            return
        log = self._core_of(node_id).log
        last = max((index for index, entry in enumerate(self.committed) if entry.in_term < term), default=0)
        for index in range(log.start_index, last + 1):
            if index > log.last_index or log.digest(index) != self.committed[index].digest:
                self._without(index, term, COMPLETE, f"node {node_id} leads term {term} without the committed entry {index}")
                return

    def _leads_again(self, node_id: NodeId, term: Term) -> None:
        """A leader may go on after a later one was elected, if a disk forgot that it had left its term."""
        is_excused = any(damage.excuses_leader(term) for damage in self._damages)
        if is_excused and max(self._leaders, default=0) > term and self._leaders.get(term) == node_id:
            self.end(Excused(COMPLETE, f"node {node_id} goes on in term {term}, which a disk left and forgot"))

    def _without(self, index: Index, term: Term, rule: str, text: str) -> None:
        is_excused = any(damage.excuses(index, term, self.committed) for damage in self._damages)
        self.end(Excused(rule, text) if is_excused else Breach(rule, text))

    # -- expected reports ------------------------------------------------------------------------------------------------

    def _tail_lost(self, node_id: NodeId, fact: TailLost) -> None:
        configuration = self._core_of(node_id).configuration
        store = "" if configuration is None else configuration.stores.get(fact.peer, "")
        if (fact.peer, store) not in self.touched:
            self.end(Breach(ACCUSED, f"node {node_id} says that node {fact.peer} lost entries up to {fact.index}"))
        self._expected_reports.pop((node_id, fact.peer), None)

    def _accepted(self, node_id: NodeId, fact: AppendAccepted) -> None:
        if not fact.count or not self._expected_reports:
            return
        store = self._core_of(node_id).standing.store
        for (leader_id, peer), reports in self._expected_reports.items():
            if peer != node_id:
                continue
            reports[:] = [report for report in reports if report.store == store]  # it is another one since: that was reported
            if leader_id == fact.peer:
                for report in reports:
                    if report.term in (None, fact.term) and fact.first_index <= report.last_index:
                        text = f"node {node_id} had acknowledged {report.last_index} to node {leader_id} and lost it"
                        text += f": in term {fact.term} it is given {fact.first_index} again, and nothing is said"
                        self.end(Breach(REPORTED, text))
            else:  # it may have again what it lacked
                reports[:] = [report for report in reports if report.last_index > fact.index]

    def _installed(self, node_id: NodeId, fact: SnapshotInstalled) -> None:
        """A leader whose log begins later asks first. It can't distinguish a log that is no shorter from a whole one."""
        store = self._core_of(node_id).standing.store
        for (leader_id, peer), reports in self._expected_reports.items():
            if peer != node_id:
                continue
            for report in reports:
                if leader_id == fact.peer and report.store == store and report.term in (None, fact.term) and not report.is_long:
                    text = f"node {node_id} had acknowledged {report.last_index} to node {leader_id} and lost it"
                    self.end(Breach(REPORTED, f"{text}: in term {fact.term} it is sent a snapshot, and nothing is reported"))
            reports[:] = [report for report in reports if report.last_index > fact.index]


def held_by(core: Core) -> Held:
    """Return what the disk of a node is known to hold."""
    log, last = core.log, max(core.durability.durable_index, core.log.start_index)
    digests = {index: log.digest(index) for index in range(log.start_index, last + 1)}
    return Held(core.standing.store, core.current_term, core.voted_for, log.start_index, last, digests)


def last_same(had: Held, found: Held) -> Index:
    """Return up to where both hold the same log; below both snapshots it is the committed one."""
    same = min(had.start_index, found.last_index)
    for index in range(max(had.start_index, found.start_index), min(had.last_index, found.last_index) + 1):
        if had.digests[index] != found.digests[index]:
            break
        same = index
    return same
