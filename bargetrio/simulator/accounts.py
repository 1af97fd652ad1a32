"""Counters must equal a recount after each step of a server, and nothing may be left at the end.

Sums and flags are maintained incrementally, because a recount costs too much. A forgotten decrement breaks no rule of
the paper: a window stays full, a snapshot is never taken again, memory is never given back.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import cast

from bargetrio.raft import core as limits
from bargetrio.raft.core import Core
from bargetrio.raft.durability import Durability, _QueuedEntries
from bargetrio.raft.messages import Index, NodeId
from bargetrio.raft.progress import Progress
from bargetrio.raft.roles import Leader
from bargetrio.replica.ports import JobKind
from bargetrio.replica.replica import Replica
from bargetrio.replica.sessions import Ticket
from bargetrio.simulator.memory import Breach
from bargetrio.simulator.server import Server

RULE = "accounts are right"


class Account:
    """What was last seen of one server's log."""

    __slots__ = ("core", "last_index", "start_index")

    def __init__(self) -> None:
        self.core: Core | None = None
        self.start_index: Index = 0
        self.last_index: Index = 0


def check(server: Server, core: Core, account: Account) -> None:
    """Compare a server's counters with a recount after a step; raise Breach."""
    role, log, replica = core.role, core.log, server.replica
    wrong = wrong_in(core)
    if wrong:
        _fail(server, wrong)
    if type(role) is Leader:
        if replica.requests.waiting or role.tickets or role.new_reads or role.rounds or role.confirmed:
            _check_waiting(server, role, replica.requests.waiting)
    elif any([not ticket.is_deferred for ticket in replica.requests.waiting]):
        _fail(server, f"does not lead, and {len(replica.requests.waiting)} requests are not answered")
    own, jobs = core.snapshots, server.life.jobs
    if jobs.running or own.is_taking or own.receiving or own.installing or core.membership.is_writing_standing:
        _check_jobs(server, core, jobs.count)
    if log.last_index != account.last_index or log.start_index != account.start_index or core is not account.core:
        _check_log(server, core, account)


def wrong_in(core: Core) -> str:
    """Return in words what a core whose effects were just taken has counted wrongly, "" if nothing; tests ask, too."""
    role, durability = core.role, core.durability
    last_index, durable_index = core.log.last_index, durability.durable_index
    if type(role) is Leader:
        uncounted = core.membership.uncounted
        held = [durable_index]
        for peer, progress in role.progress.items():
            wrong, is_counted = _wrong_progress(progress), progress.is_counted
            if not wrong and is_counted is not (peer != uncounted and not progress.demotion):
                wrong = f"is_counted is {is_counted}; not counted is {uncounted}, demotion {progress.demotion!r}"
            if wrong:
                return f"progress of node {peer}: {wrong}"
            if is_counted:
                held.append(progress.match_index)
        first = max(core.last_applied + 1, role.term_start)
        if len(role.tickets) != last_index + 1 - first:
            return f"{len(role.tickets)} tickets for {last_index + 1 - first} entries of its own that are not applied"
        majority = len(core.members) // 2 + 1
        if len(held) >= majority:
            held.sort()
            by_majority = held[-majority]
            if by_majority > core.commit_index and by_majority >= role.term_start:
                return f"{core.commit_index} is committed, a majority holds {by_majority}"
    if durability._in_flight is None:
        # A step ends with the next write, so now there is nothing to be written.
        if durable_index != last_index or not durability.hard_state_is_durable or _holds_anything(durability):
            return f"nothing is being written, but of entry {last_index} {durable_index} is durable"
    elif durability._in_flight.covers > last_index or durable_index > last_index:
        return f"a write covers entries behind {last_index}"
    if durability._log_records or durability._queued_bytes:
        queued = [
            sum([len(entry.command) for entry in tail.entries])
            for tail in durability._log_records
            if type(tail) is _QueuedEntries
        ]
        if sum(queued) != durability._queued_bytes:
            return f"{sum(queued)} bytes wait to be written, {durability._queued_bytes} are counted"
    return _wrong_members(core)


def _wrong_members(core: Core) -> str:
    """Who counts follows from the configurations that the log holds, what is committed, and what `meta` says."""
    membership, snapshots, standing = core.membership, core.snapshots, core.standing
    newest = membership.configurations[-1] if membership.configurations else None
    if core.configuration is not newest:
        return f"counts by {core.configuration}, the log's newest is {newest}"
    held = core.snapshot if snapshots.installing is None else snapshots.installing
    if held is not None and held.configuration is not None and (newest is None or newest.index < held.configuration.index):
        return f"counts by {newest}, its snapshot holds {held.configuration}"
    if membership.is_demoted and not membership.is_writing_standing:
        return "is demoted, and no new store id is being written"
    uncounted = None
    if newest is not None:
        if newest.index > core.log.last_index:
            return f"has a configuration of entry {newest.index}, the log ends at {core.log.last_index}"
        if newest.index > core.commit_index and newest.index > membership.settled_index:
            uncounted = newest.readmitted
        if standing.identity:
            is_member = newest.stores.get(core.node_id) == standing.store
            if core.may_vote is not (is_member and not membership.is_demoted):
                return f"may_vote is {core.may_vote} by {newest}"
    if membership.uncounted != uncounted:
        return f"does not count {membership.uncounted}; the log says {uncounted}, and {core.commit_index} is committed"
    if core.is_settled is not (core.may_vote and standing.identity != "" and uncounted is None):
        return f"is_settled is {core.is_settled}"
    return ""


def check_overloaded(server: Server) -> None:
    """A write was refused because too much is not committed, or not on the leader's own disk; raise Breach if it is not so."""
    core = server.core
    assert core is not None
    if core.lacks_room:
        return  # the disk is nearly full, whatever waits
    settled = min(core.commit_index, core.durability.durable_index)
    entries = core.log._entries[max(settled - core.log.start_index, 0) :]
    size = sum([len(entry.command) for entry in entries])
    if len(entries) < limits.UNCOMMITTED_ENTRIES and size < limits.UNCOMMITTED_BYTES:
        _fail(server, f"is overloaded by {len(entries)} entries of {size} bytes")


def check_quiet(server: Server, alive: Collection[NodeId]) -> None:
    """Check that a server keeps nothing, some heartbeats after the last request of a healed cluster; raise Breach."""
    core = server.core
    if core is None:
        return
    left = left_in(core, alive)
    left += left_in_replica(server.replica)
    if server.life.session.unanswered:
        left.append(f"{server.life.session.unanswered} requests without an answer")
    if server.life.jobs.running or not server.is_at_rest:
        left.append("work that does not end")
    if left:
        raise Breach("nothing is left when all is quiet", f"node {server.node_id} has {'; '.join(left)}")


def left_in(core: Core, alive: Collection[NodeId]) -> list[str]:
    """Return what the core of a healed cluster without requests still has to do, or keeps for no reason."""
    left = []
    if type(core.role) is Leader:
        for peer, progress in core.role.progress.items():
            if peer in alive and (progress.in_flight or progress.in_flight_bytes or progress.state != "replicate"):
                what = f"{len(progress.in_flight)} appends, {progress.in_flight_bytes} bytes"
                left.append(f"{what} under way to node {peer} in state {progress.state}")
        if core.role.tickets or core.role.new_reads or core.role.rounds or core.role.confirmed:
            left.append("requests that wait")
    if core.log.forgotten:
        left.append(f"{len(core.log.forgotten)} entries of a log that is gone")
    if core.snapshots.receiving is not None:
        left.append(f"a half-received snapshot up to {core.snapshots.receiving.snapshot.last_index}")
    if core.snapshots.installing is not None:
        left.append(f"a snapshot up to {core.snapshots.installing.last_index} to be installed")
    if _holds_anything(core.durability):
        left.append("something to be written")
    return left


def left_in_replica(replica: Replica) -> list[str]:
    """Return what a replica keeps, once all is quiet, for requests that have ended."""
    inbox, snapshots = replica.inbox, replica.snapshots
    found = {
        "requests that wait": len(replica.requests.waiting),
        "writes that have not ended": replica.writes_under_way + len(inbox.writes),
        "messages": len(inbox.messages),
        "requests": len(inbox.requests),
        "calls of the core": len(inbox.calls),
        "clients to be answered": len(replica.requests.to_flush),
        "clients with reads that may be executed": len(inbox.sessions_with_room),
        "snapshots that are read": len(snapshots.pins),
        "pieces to be read": len(snapshots._reading) + len(snapshots._to_read),
        "files to be deleted": len(snapshots._to_trim) + snapshots._is_trimming,
    }
    left = [f"{count} {what}" for what, count in found.items() if count]
    return [*left, "a snapshot that is taken"] if replica.core.snapshots.is_taking else left


def _fail(server: Server, text: str) -> None:
    raise Breach(RULE, f"node {server.node_id}: {text}")


def _wrong_progress(progress: Progress) -> str:
    in_flight = progress.in_flight
    if (progress.transfer is None) == (progress.state == "snapshot"):
        return f"state {progress.state}, transfer {progress.transfer}"
    if progress.next_index <= progress.match_index and progress.state != "snapshot":  # `resume` sets it
        return f"next_index {progress.next_index}, match_index {progress.match_index}"
    if not in_flight:
        return f"nothing is under way, {progress.in_flight_bytes} bytes are counted" if progress.in_flight_bytes else ""
    if progress.state != "replicate":
        return f"appends are under way in state {progress.state}"
    if in_flight[0][0] <= progress.match_index or in_flight[-1][0] != progress.next_index - 1:
        last = f"{in_flight[0][0]} to {in_flight[-1][0]}"
        return f"appends up to {last} are under way, match_index {progress.match_index}, next_index {progress.next_index}"
    size = 0
    for _, bytes_sent in in_flight:
        size += bytes_sent
    return "" if size == progress.in_flight_bytes else f"{size} bytes are under way, {progress.in_flight_bytes} counted"


def _check_waiting(server: Server, role: Leader, waiting: Iterable[Ticket]) -> None:
    """The replica's waiting tickets are the core's.

    A write that was not committed in time keeps its ticket in the core, which is done: its client was answered "outcome unknown".
    """
    reads = writes = 0
    for ticket in waiting:
        if not ticket.done and not ticket.is_deferred:
            if ticket.read is None:
                writes += 1
            else:
                reads += 1
    kept = sum([ticket is not None and not cast("Ticket", ticket).done for ticket in role.tickets])
    if writes != kept:
        _fail(server, f"{writes} writes are not answered, {kept} tickets are kept")
    rounds = [*role.confirmed, *role.rounds]
    kept = len(role.new_reads) + sum(len(each.tickets) for each in rounds)
    if reads != kept:
        _fail(server, f"{reads} reads are not answered, {kept} are kept")
    numbers = [each.number for each in rounds]
    # Not each round is one of reads: a follower that is suspected of having lost entries is asked in one of its own.
    if numbers != sorted(set(numbers)) or (numbers and numbers[-1] > role.round):
        _fail(server, f"rounds {numbers} wait, the last one was {role.round}")


def _holds_anything(durability: Durability) -> bool:
    return bool(
        durability.is_queued
        or durability._hard_state is not None
        or durability._log_records
        or durability._then
        or durability._held
    )


def _check_jobs(server: Server, core: Core, jobs: Mapping[JobKind, int]) -> None:
    """What the core believes to be under way is under way."""
    if jobs["standing"] != core.membership.is_writing_standing:
        _fail(server, f"is_writing_standing is {core.membership.is_writing_standing}, {jobs['standing']} are being written")
    saving, storing, loading = jobs["save"] > 0, jobs["store"] > 0, jobs["load"] > 0
    if core.snapshots.is_taking != saving:
        _fail(server, f"is_taking is {core.snapshots.is_taking}, saving {saving}")
    receiving = core.snapshots.receiving
    if (receiving is not None and receiving.is_busy) != storing:
        _fail(server, f"a piece is being stored: {storing}; it has {receiving}")
    installing = core.snapshots.installing
    if installing is None:
        if loading:
            _fail(server, "a snapshot is being loaded, and nothing is waited for")
    elif (core.snapshot == installing) != loading:
        _fail(server, f"installs the snapshot up to {installing.last_index}; loading {loading}")


def _check_log(server: Server, core: Core, account: Account) -> None:
    """The sizes and digests beside the entries are correct; where entries were only appended, those alone are checked."""
    log = core.log
    entries, sizes = log._entries, log._bytes
    count = len(entries)
    if not (len(sizes) - 1 == len(log._digests) - 1 == log.last_index - log.start_index == count):
        _fail(server, f"{count} entries, {len(sizes)} sizes, {len(log._digests)} digests after {log.start_index}")
    grew = core is account.core and log.start_index == account.start_index and log.last_index > account.last_index
    first = account.last_index - log.start_index if grew else 0
    size = sum([len(entry.command) for entry in (entries[first:] if first else entries)])
    if sizes[-1] - sizes[first] != size:
        _fail(server, f"entries from {first + log.start_index + 1} on have {size} bytes, {sizes[-1] - sizes[first]} are counted")
    account.core, account.start_index, account.last_index = core, log.start_index, log.last_index
