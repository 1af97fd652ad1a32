"""When an entry is committed (Raft 5.3, 5.4.2)."""

from bargetrio.raft import membership
from bargetrio.raft.facts import CommitAdvanced
from bargetrio.raft.messages import Index
from bargetrio.raft.quorum import committed_index
from bargetrio.raft.roles import Leader
from bargetrio.raft.state import State


def advance_commit(state: State, leader: Leader) -> None:
    """Commit what a majority of disks holds, if it is of our own term (Raft 5.3, 5.4.2)."""
    matched = [progress.match_index if progress.is_counted else 0 for progress in leader.progress.values()]
    matched.append(state.durability.durable_index)
    index = committed_index(matched)
    # Counting copies commits only entries of our own term: Figure 8 shows an older one, on a majority, overwritten.
    if index >= leader.term_start:
        uncounted = state.membership.uncounted
        advance_commit_to(state, index)
        if state.membership.uncounted != uncounted:
            # Its readmission is committed: what it has acknowledged already counts, and no other acknowledgement need follow.
            advance_commit(state, leader)


def advance_commit_to(state: State, index: Index) -> None:
    """Raise the commit index; it never falls (BUG-16)."""
    if index <= state.commit_index:
        return
    assert index <= state.log.last_index
    fact = CommitAdvanced(term=state.current_term, index=index, old_index=state.commit_index, digest=state.log.digest(index))
    state.commit_index = index
    state.announce(fact)
    if state.snapshots.receiving is not None:
        state.give_up_received()
    if not state.is_settled:
        membership.maybe_admit(state)
