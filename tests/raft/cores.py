"""Cores in chosen states, and a small cluster whose messages are delivered when the test says so.

Here a core is driven with no Replica around it, the one place where that is so (docs/testing.md): a test of a rule of the paper
gives single inputs, chooses when a write ends, and compares single effects, which a Replica has already carried out or batched.
"""

from collections.abc import Callable
from random import Random
from typing import assert_never

from msgspec import Raw, structs

from bargetrio.raft.core import Core
from bargetrio.raft.effects import (
    Announce,
    Apply,
    Compact,
    Effect,
    LoadSnapshot,
    Persist,
    ProposalRefused,
    ProposalsUnknown,
    ReadFailed,
    ReadReady,
    ReplaceStore,
    Send,
    SendChunk,
    StoreChunk,
    WriteStanding,
)
from bargetrio.raft.facts import Fact
from bargetrio.raft.log import Log
from bargetrio.raft.messages import AppendReply, AppendRequest, Entry, Message, SnapshotMeta, SnapshotRequest, VoteReply
from bargetrio.raft.progress import Progress
from bargetrio.raft.records import Append, HardState, LogStart, Remembered
from bargetrio.raft.roles import Leader
from bargetrio.raft.snapshot_state import SnapshotLabel, SnapshotPolicy
from bargetrio.raft.standing import Configuration, Standing, as_stated, encode_configuration, identity_of, why_refused
from bargetrio.simulator.accounts import wrong_in

HEARTBEAT_S = 0.05
ELECTION_S = (0.3, 0.6)
THREE = (0, 1, 2)
FIVE = (0, 1, 2, 3, 4)
STORES = {0: "store-0", 1: "store-1", 2: "store-2"}
IDENTITY = identity_of(STORES)


def entries(log: str) -> tuple[Entry, ...]:
    """Return entries of the terms written: "1 1 2"; each command names its index and term."""
    return tuple(
        Entry(int(term), Raw(b'{"op":"put","key":"i%d","value":"t%s"}' % (index, term.encode())))
        for index, term in enumerate(log.split(), 1)
    )


def terms(log: Log) -> list[int]:
    """Return the terms of a log's entries, without compacted ones."""
    return [log.term(index) for index in range(log.start_index + 1, log.last_index + 1)]


def snapshot(log: str, *, size: int = 100, checksum: int = 7, nodes: tuple[int, ...] = THREE) -> SnapshotMeta:
    """Return the metadata of a snapshot of a whole log of these terms."""
    whole = Log(entries(log))
    return SnapshotMeta(
        last_index=whole.last_index,
        last_term=whole.last_term,
        digest=whole.digest(whole.last_index),
        members=nodes,
        size=size,
        checksum=checksum,
    )


class Bench:
    """One core, with its effects sorted by kind; a write is synced when `sync` is called."""

    def __init__(
        self,
        node_id: int = 0,
        *,
        nodes: tuple[int, ...] = THREE,
        log: str = "",
        term: int = 0,
        voted_for: int | None = None,
        saved: int = 0,
        compacted: int = 0,
        policy: SnapshotPolicy | None = None,
        standing: Standing | None = None,
        configurations: tuple[Configuration, ...] = (),
        saved_configuration: Configuration | None = None,
    ) -> None:
        """Of `log` the first `saved` entries are in a snapshot, and the first `compacted` of those are not in the log.

        `configurations` are those of the log's entries, `saved_configuration` is the snapshot's.
        """
        least = max([int(text) for text in log.split()], default=0)
        whole = Log(entries(log))
        saved_snapshot = structs.replace(snapshot(" ".join(log.split()[:saved]), nodes=nodes), configuration=saved_configuration)
        remembered = Remembered(
            hard_state=HardState(term=max(term, least), voted_for=voted_for),
            snapshot=saved_snapshot if saved else None,
            start=LogStart(index=compacted, term=whole.term(compacted), digest=whole.digest(compacted)),
            entries=entries(log)[compacted:],
            configurations=configurations,
        )
        self.core = Core(
            node_id=node_id,
            node_ids=nodes,
            remembered=remembered,
            heartbeat_s=HEARTBEAT_S,
            election_s=ELECTION_S,
            random=Random(node_id),
            now=0.0,
            snapshot_policy=policy,
            standing=standing,
        )
        self.now = 0.0
        self.standings: list[WriteStanding | ReplaceStore] = []
        """What is to be written to `meta`."""
        self.sent: list[tuple[int, Message]] = []
        self.facts: list[Fact] = []
        self.on_fact: Callable[[int, Fact], None] = lambda node_id, fact: None
        self.writes: list[Persist] = []
        self.applied: list[Apply] = []
        self.taking: list[SnapshotLabel] = []
        self.compacted: list[Compact] = []
        self.pieces: list[tuple[int, SnapshotRequest]] = []
        """Pieces of snapshots that are to be sent, without their data."""
        self.storing: list[StoreChunk] = []
        self.loading: list[LoadSnapshot] = []
        self.ended: dict[object, str] = {}
        self.may_apply = True
        self.is_judged = True
        """Whether what the core has counted is counted anew; not where a test has set what no core comes to by itself."""

    def step(self, message: Message) -> "Bench":
        """Step the core with a message and perform its effects."""
        self.core.step(message, self.now)
        return self.perform()

    def tick(self, seconds: float) -> "Bench":
        """Let time pass, calling `tick` at each deadline."""
        end = self.now + seconds
        while self.core.next_deadline() <= end:
            self.now = max(self.now, self.core.next_deadline())
            self.core.tick(self.now)
            self.perform()
        self.now = end
        return self

    def perform(self) -> "Bench":
        """Sort the effects, and begin a snapshot that is due."""
        for effect in self.core.take_effects(may_apply=self.may_apply):
            self._sort(effect)
        label = self.core.begin_snapshot() if self.core.snapshots.is_due else None
        if label is not None:
            self.taking.append(label)
        assert not self.is_judged or wrong_in(self.core) == ""
        return self

    def sync(self) -> "Bench":
        """Complete every write, and those that follow from it."""
        while self.writes:
            persist = self.writes.pop(0)
            self.sent += [(send.to, send.message) for send in persist.then]
            self.core.persisted(persist.number, self.now)
            self.perform()
        return self

    def write_standings(self) -> "Bench":
        """Write what is to be written to `meta`; a replaced store is called "new"."""
        while self.standings:
            effect = self.standings.pop(0)
            if isinstance(effect, WriteStanding):
                standing = effect.standing
            else:
                standing = Standing(store="new", origin="replaced", replaces=self.core.standing.store)
            self.core.standing_written(standing, self.now)
            self.perform()
        return self

    def take_pieces(self) -> list[tuple[int, int]]:
        """Return (receiver, offset) of the chunks to be sent, and clear them."""
        pieces, self.pieces = self.pieces, []
        return [(to, request.offset) for to, request in pieces]

    def stored(self, bytes_stored: int) -> "Bench":
        """Report that the chunk being written is on the disk."""
        self.core.chunk_stored(self.storing.pop().snapshot, bytes_stored, self.now)
        return self.perform()

    def take_sent(self) -> list[tuple[int, Message]]:
        """Return the messages sent, and clear them."""
        sent, self.sent = self.sent, []
        return sent

    def replies(self) -> list[Message]:
        """Return the messages sent, without their receivers, and clear them."""
        return [message for _, message in self.take_sent()]

    def announced(self, kind: str) -> list[Fact]:
        """Return the facts of a kind."""
        return [fact for fact in self.facts if fact.kind == kind]

    def _sort(self, effect: Effect) -> None:
        match effect:
            case Send():
                self.sent.append((effect.to, effect.message))
            case Persist():
                self.writes.append(effect)
                for record in effect.records:
                    if isinstance(record, Append):
                        assert record.configurations == _configurations_in(record)
            case Announce():
                self.facts.append(effect.fact)
                self.on_fact(self.core.node_id, effect.fact)
            case Apply():
                self.applied.append(effect)
                for ticket in effect.tickets:
                    if ticket is not None:
                        self._end(ticket, "applied")
            case Compact():
                self.compacted.append(effect)
            case SendChunk():
                self.pieces.append((effect.to, effect.message))
            case StoreChunk():
                self.storing.append(effect)
            case LoadSnapshot():
                self.loading.append(effect)
            case WriteStanding() | ReplaceStore():
                self.standings.append(effect)
            case ReadReady():
                for ticket in effect.tickets:
                    self._end(ticket, f"read at {effect.index}")
            case ReadFailed():
                for ticket in effect.tickets:
                    self._end(ticket, effect.reason)
            case ProposalRefused():
                self._end(effect.ticket, effect.reason)
            case ProposalsUnknown():
                for ticket in effect.tickets:
                    self._end(ticket, "unknown")
            case _:
                assert_never(effect)

    def _end(self, ticket: object, how: str) -> None:
        assert ticket not in self.ended, f"{ticket} ended twice: {self.ended[ticket]}, {how}"
        self.ended[ticket] = how


def _configurations_in(record: Append) -> tuple[int, ...]:
    """Return the indices of the entries that hold a configuration."""
    found = enumerate(record.entries, record.first_index)
    return tuple(index for index, entry in found if bytes(entry.command).startswith(b'{"op":"members"'))


def follower(**options: object) -> Bench:
    """A node that has just started."""
    return Bench(**options)  # type: ignore[arg-type]  # the options are Bench's own


def candidate(**options: object) -> Bench:
    """A node that has the pre-votes of all others and asks for votes; its own vote is on the disk."""
    from bargetrio.raft.messages import PreVoteReply

    bench = follower(**options)
    bench.tick(0.61)
    while bench.core.role.name == "pre_candidate":
        for peer in bench.core.peers:
            reply = PreVoteReply(term=bench.core.current_term + 1, voter_id=peer, granted=True)
            bench.step(reply)
    assert bench.core.role.name == "candidate"
    bench.sync()
    bench.take_sent()
    return bench


def leader(**options: object) -> Bench:
    """A node that was elected; its no-op is on its own disk and, if `settled`, on all disks and committed."""
    settled = options.pop("settled", True)
    bench = follower(**options) if len(options.get("nodes", THREE)) == 1 else candidate(**options)  # type: ignore[arg-type]
    if not bench.core.peers:
        bench.tick(0.61).sync()
    for peer in bench.core.peers:
        bench.step(VoteReply(term=bench.core.current_term, voter_id=peer, granted=True))
    assert bench.core.role.name == "leader"
    bench.sync()
    if settled:
        for peer in bench.core.peers:
            acknowledge(bench, peer, bench.core.log.last_index)
        bench.take_sent()
        bench.perform()
    bench.take_sent()
    return bench


def acknowledge(bench: Bench, peer: int, match_index: int, round: int = 0) -> None:
    """Acknowledge the log up to `match_index` as a follower."""
    reply = AppendReply(
        term=bench.core.current_term,
        follower_id=peer,
        success=True,
        match_index=match_index,
        prev_log_index=match_index,
        round=round,
    )
    bench.step(reply)


def append(
    *, term: int = 1, leader_id: int = 1, prev: tuple[int, int] = (0, 0), log: str = "", commit: int = 0, round: int = 0
) -> AppendRequest:
    """An AppendEntries of entries after `prev` = (index, term)."""
    found = tuple(
        Entry(int(text), Raw(b'{"op":"put","key":"i%d","value":"t%s"}' % (prev[0] + number, text.encode())))
        for number, text in enumerate(log.split(), 1)
    )
    return AppendRequest(
        term=term,
        leader_id=leader_id,
        prev_log_index=prev[0],
        prev_log_term=prev[1],
        entries=found,
        leader_commit=commit,
        round=round,
    )


class Table:
    """A cluster without a clock or network: messages are queued until they are delivered, in order, or dropped."""

    def __init__(self, size: int = 3, logs: dict[int, str] | None = None, standings: dict[int, Standing] | None = None) -> None:
        """`standings`: of nodes that are no members since a birth."""
        self.ids = tuple(range(size))
        self.benches = {
            node_id: Bench(node_id, nodes=self.ids, log=(logs or {}).get(node_id, ""), standing=(standings or {}).get(node_id))
            for node_id in self.ids
        }
        self.now = 0.0
        self.down: set[int] = set()
        self.refused: set[tuple[int, int]] = set()
        """(who, whom): hellos that were refused."""

    def core(self, node_id: int) -> Core:
        """Return a node's core."""
        return self.benches[node_id].core

    def settle(self, *, lost: Callable[[int, int], bool] = lambda source, target: False) -> None:
        """Sync every write and deliver every message, until there are none."""
        moved = True
        while moved:
            moved = False
            for node_id, bench in sorted(self.benches.items()):
                bench.perform().sync()
                bench.write_standings()
                for to, message in bench.take_sent():
                    moved = True
                    if not lost(node_id, to) and not self.down & {node_id, to} and self._is_welcome(node_id, to):
                        self.benches[to].now = self.now
                        self.benches[to].step(message)

    def pass_time(self, seconds: float, *, lost: Callable[[int, int], bool] = lambda source, target: False) -> None:
        """Let time pass for all, in steps of a millisecond."""
        for _ in range(round(seconds * 1000)):
            self.now += 0.001
            for node_id, bench in self.benches.items():
                if node_id not in self.down:
                    bench.now = self.now
                    bench.core.tick(self.now)
            self.settle(lost=lost)

    def _is_welcome(self, source: int, target: int) -> bool:
        """Check the source's standing as the target's handshake does."""
        core, standing = self.core(target), as_stated(self.core(source).standing, self.core(source).members)
        if core.membership.seen.get(source, (None, 0.0))[0] != standing:
            core.hello_received(source, standing, self.now)
        is_welcome = not why_refused(core.standing, core.configuration, source, standing, core.members)
        if not is_welcome:
            self.refused.add((target, source))
            answered = as_stated(core.standing, core.members)  # the answer to a hello tells it, before the refusal
            self.core(source).hello_received(target, answered, self.now)
        return is_welcome

    def replace(self, node_id: int, bench: Bench) -> None:
        """Restart a node with the disk of `bench`."""
        bench.now = bench.core.snapshots.idle_since = self.now
        self.benches[node_id] = bench

    def leaders(self) -> list[int]:
        """Return the ids of the leaders."""
        return [node_id for node_id in self.benches if self.core(node_id).role.name == "leader"]


def readmission(index: int, node: int, store: str = "new") -> Configuration:
    """The configuration of an entry that takes a node in."""
    return Configuration(index=index, identity=IDENTITY, stores={**STORES, node: store}, readmitted=node)


def append_readmission(prev: tuple[int, int], term: int, node: int, commit: int = 0) -> AppendRequest:
    """An append of one entry, which takes `node` in."""
    index = prev[0] + 1
    entry = Entry(term, encode_configuration(readmission(index, node)))
    return structs.replace(append(term=term, prev=prev, commit=commit), entries=(entry,), configurations=(index,))


def progress(bench: Bench, peer: int) -> Progress:
    assert isinstance(bench.core.role, Leader)
    return bench.core.role.progress[peer]
