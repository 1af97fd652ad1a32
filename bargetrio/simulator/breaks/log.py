"""Planted bugs about the log and its persistence."""

from collections.abc import Sequence

from msgspec import structs

from bargetrio.raft import replication
from bargetrio.raft.core import Core
from bargetrio.raft.durability import Durability
from bargetrio.raft.log import Log
from bargetrio.raft.messages import AppendReply, AppendRequest, Entry
from bargetrio.raft.progress import Progress
from bargetrio.raft.records import Truncate
from bargetrio.raft.roles import Leader
from bargetrio.simulator.breaks.registry import Patches, as_of_this_term, breaks, lets_through, misreads


@breaks("an append is answered only when its entries are on the disk", "3.8; BUG-50")
def append_answered_before_sync(patches: Patches) -> None:
    lets_through(patches, AppendReply)


@breaks("an append of an old term is rejected", "5.1")
def old_term_append(patches: Patches) -> None:
    def misread(core: Core, message: AppendRequest) -> AppendRequest:
        return message if isinstance(core.role, Leader) else as_of_this_term(core, message)

    misreads(patches, replication, "on_append_request", misread)


@breaks("entries are appended only after an entry that both logs hold", "5.3")
def previous_entry_unchecked(patches: Patches) -> None:
    def misread(core: Core, message: AppendRequest) -> AppendRequest:
        if not core.log.start_index <= message.prev_log_index <= core.log.last_index:
            return message
        return structs.replace(message, prev_log_term=core.log.term(message.prev_log_index))

    misreads(patches, replication, "on_append_request", misread)


@breaks("entries that conflict are deleted", "5.3; BUG-23")
def conflict_kept(patches: Patches) -> None:
    def first_conflict(self: Log, prev_log_index: int, entries: Sequence[Entry]) -> int:
        return max(0, min(len(entries), self.last_index - prev_log_index))

    patches.set(Log, "first_conflict", first_conflict)


@breaks("only entries that conflict are deleted", "5.3; BUG-22")
def unconditional_truncation(patches: Patches) -> None:
    patches.set(Log, "first_conflict", lambda self, prev_log_index, entries: 0)


@breaks("a truncation is remembered over a restart", "5.3; BUG-40")
def truncation_not_written(patches: Patches) -> None:
    old = Durability.queue_truncation

    def queue_truncation(self: Durability, from_index: int, last_term: int, digest: int) -> None:
        old(self, from_index, last_term, digest)
        self._log_records.pop()

    patches.set(Durability, "queue_truncation", queue_truncation)


@breaks("a write proves nothing about entries that were truncated while it ran", "BUG-26")
def truncation_during_write(patches: Patches) -> None:
    def queue_truncation(self: Durability, from_index: int, last_term: int, digest: int) -> None:
        self._log_records.append(Truncate(from_index=from_index, last_term=last_term, digest=digest))
        self._queued_covers = from_index - 1

    patches.set(Durability, "queue_truncation", queue_truncation)


@breaks("after a rejection the leader probes further back", "5.3; BUG-27")
def rejection_ignored(patches: Patches) -> None:
    def on_refusal(core: Core, progress: Progress, message: AppendReply) -> None:
        progress.probe_sent = False

    patches.set(replication, "_on_refusal", on_refusal)


@breaks("what was acknowledged leaves the window", "10.2.1; BUG-27")
def window_never_freed(patches: Patches) -> None:
    old = replication._on_success

    def on_success(core: Core, progress: Progress, message: AppendReply) -> None:
        kept, size = list(progress.in_flight), progress.in_flight_bytes
        old(core, progress, message)
        progress.in_flight.clear()
        progress.in_flight.extend(kept)
        progress.in_flight_bytes = size

    patches.set(replication, "_on_success", on_success)
