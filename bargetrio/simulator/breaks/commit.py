"""Planted bugs about commitment."""

from collections.abc import Callable

from bargetrio.raft import commit, replication
from bargetrio.raft.core import Core
from bargetrio.raft.messages import AppendReply, AppendRequest
from bargetrio.raft.progress import Progress
from bargetrio.raft.quorum import majority_of
from bargetrio.raft.roles import Leader
from bargetrio.simulator.breaks.registry import Patches, as_of_this_term, breaks, misreads


def _commits(patches: Patches, choose: Callable[[Core, Leader], int]) -> None:
    """The leader commits up to what `choose` returns."""

    def advance_commit(core: Core, leader: Leader) -> None:
        commit.advance_commit_to(core, choose(core, leader))

    patches.set(commit, "advance_commit", advance_commit)


def _matched(core: Core, leader: Leader, own: int, count: int) -> int:
    matched = [*(progress.match_index for progress in leader.progress.values()), own]
    return sorted(matched, reverse=True)[count - 1]


@breaks("only entries of the own term are committed by counting", "5.4.2, Figure 8; BUG-15")
def figure_8(patches: Patches) -> None:
    _commits(patches, lambda core, leader: _matched(core, leader, core.durability.durable_index, majority_of(len(core.members))))


@breaks("an entry is committed when a majority holds it", "5.3")
def minority_commits(patches: Patches) -> None:
    def choose(core: Core, leader: Leader) -> int:
        index = _matched(core, leader, core.durability.durable_index, max(1, majority_of(len(core.members)) - 1))
        return index if index >= leader.term_start else 0

    _commits(patches, choose)


@breaks("the leader's own copy counts when it is on its disk", "10.2.1; BUG-50")
def leader_counts_unsynced(patches: Patches) -> None:
    def choose(core: Core, leader: Leader) -> int:
        index = _matched(core, leader, core.log.last_index, majority_of(len(core.members)))
        return index if index >= leader.term_start else 0

    _commits(patches, choose)


@breaks("a follower commits only what this append verified", "5.3; BUG-17")
def commit_beyond_verified(patches: Patches) -> None:
    old = replication.on_append_request

    def on_append_request(core: Core, message: AppendRequest, now: float) -> None:
        old(core, message, now)
        prev = message.prev_log_index
        agrees = core.log.start_index <= prev <= core.log.last_index and core.log.term(prev) == message.prev_log_term
        if agrees and message.term == core.current_term:
            commit.advance_commit_to(core, min(message.leader_commit, core.log.last_index))

    patches.set(replication, "on_append_request", on_append_request)


@breaks("the commit index never falls", "Figure 2; BUG-16")
def commit_falls(patches: Patches) -> None:
    old = commit.advance_commit_to

    def advance_commit_to(core: Core, index: int) -> None:
        old(core, index)
        if not isinstance(core.role, Leader):
            core.commit_index = index

    patches.set(commit, "advance_commit_to", advance_commit_to)


@breaks("match_index only rises", "Figure 2; BUG-18")
def match_falls(patches: Patches) -> None:
    old = replication._on_success

    def on_success(core: Core, progress: Progress, message: AppendReply) -> None:
        old(core, progress, message)
        if message.match_index <= core.log.last_index:
            progress.match_index = message.match_index

    patches.set(replication, "_on_success", on_success)


@breaks("an answer to an earlier term's append proves nothing", "5.1; BUG-19")
def old_append_reply_counts(patches: Patches) -> None:
    def misread(core: Core, message: AppendReply) -> AppendReply:
        return as_of_this_term(core, message) if isinstance(core.role, Leader) else message

    misreads(patches, replication, "on_append_reply", misread)
