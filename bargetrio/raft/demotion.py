"""Followers that lost acknowledged entries, or whose log differs: detection by the leader, and what the follower does.

membership.py has an overview.
"""

from typing import Literal

from bargetrio.raft import appends, membership
from bargetrio.raft.errors import LogsDisagree
from bargetrio.raft.facts import LogsDiffer, TailLost
from bargetrio.raft.messages import AppendReply, Demotion, LogDiffers
from bargetrio.raft.progress import Progress
from bargetrio.raft.quorum import is_majority
from bargetrio.raft.roles import Follower, Leader
from bargetrio.raft.standing import REPLACED
from bargetrio.raft.state import State
from bargetrio.raft.values import Index, NodeId


def suspect(state: State, leader: Leader, progress: Progress, message: AppendReply) -> bool:
    """Check whether a refusal shows that the follower lost acknowledged entries; return whether the refusal is handled here.

    The refusal may be old, sent before the follower had the entries. So the follower is probed again, with a new round number (as
    for reads, BUG-44): if it refuses that, too, and has acknowledged nothing since, it has lost entries. What it acknowledged in
    an earlier term of this leader's counts as far as it is committed (OWN-175): no later leader had it delete that.
    """
    if progress.demotion:
        return True
    log, index, peer = state.log, progress.acknowledged_index, message.follower_id
    is_short = message.hint_index < index
    # Terms never decrease along a log: its entry at `index` has at most the hint's term (an old copy of the folder).
    is_another = index >= log.start_index and message.hint_term < log.term(index)
    if not is_short and not is_another:
        return False
    if progress.suspect_round == 0:
        leader.round += 1
        progress.suspect_round = leader.round
        appends.send_empty(state, leader, peer, progress)
    elif message.round >= progress.suspect_round:
        state.announce(TailLost(peer=peer, term=state.current_term, index=index))
        _demote(state, peer, progress, "lost")
    return True


def _demote(state: State, peer: NodeId, progress: Progress, cause: Literal["differs", "lost"]) -> None:
    progress.demotion = cause
    progress.become_probe(max(progress.next_index, progress.match_index + 1))
    membership.refresh(state)
    send_demotion(state, peer, progress)


def send_demotion(state: State, peer: NodeId, progress: Progress) -> None:
    """Send a follower its demotion; if its log differs, only once an entry of this term is committed.

    Before that the majority's log might be the follower's.
    """
    leader = state.role
    assert isinstance(leader, Leader) and progress.demotion
    if progress.demotion == "differs":
        if state.commit_index < leader.term_start:
            return
        index = progress.next_index - 1
    else:
        index = progress.acknowledged_index
    demotion = Demotion(
        term=state.current_term,
        leader_id=state.node_id,
        cause=progress.demotion,
        index=index,
        entry_term=state.log.term(index) if index >= state.log.start_index else 0,
        store=membership.store_of(state, peer),
    )
    state.send(peer, demotion)


def on_log_differs(state: State, message: LogDiffers, now: float) -> None:
    """Stop counting a follower whose log differs; raise LogsDisagree if no majority is left."""
    progress = state.progress_of(message.term, message.follower_id, now)
    if progress is None:
        return
    state.membership.differed[message.follower_id] = membership.store_of(state, message.follower_id), now
    if progress.demotion:
        return
    leader = state.role
    assert isinstance(leader, Leader)
    state.announce(LogsDiffer(peer=message.follower_id, term=state.current_term, index=message.index))
    _demote(state, message.follower_id, progress, "differs")
    others = sorted(peer for peer, each in leader.progress.items() if each.demotion == "differs")
    if not is_majority(len(state.members) - len(others), len(state.members)):
        named = ", ".join(map(str, others))
        raise LogsDisagree(f"the log differs at or before entry {message.index} from that of node {named}: no majority has it")


def report_difference(state: State, leader_id: NodeId, index: Index) -> None:
    """As a follower: report that the logs differ, instead of an acknowledgement."""
    state.announce(LogsDiffer(peer=leader_id, term=state.current_term, index=index))
    state.send(leader_id, LogDiffers(term=state.current_term, follower_id=state.node_id, index=index))


def on_demotion(state: State, message: Demotion, now: float) -> None:
    """Raise LogsDisagree (`differs`), or replace the store and wait to be readmitted (`lost`)."""
    if message.term < state.current_term:
        return
    state.follow(message.term, message.leader_id, now)
    if message.store not in ("", state.standing.store):
        return  # it is about the store that this node had before
    if message.cause == "differs":
        raise LogsDisagree(f"the log differs from the majority's at or before entry {message.index}")
    log, index = state.log, message.index
    if log.holds(index, message.entry_term) if message.entry_term else log.last_index >= index:
        return  # an old demotion: the entries are here
    if state.membership.is_writing_standing or (state.standing.origin == REPLACED and not message.store):
        return  # a repeated one, already handled; or one that will be repeated
    assert isinstance(state.role, Follower)
    membership.replace_store(state)
    membership.refresh(state)
    membership.announce(state, f"lost entries up to {index} that it had acknowledged: it counts as a node with a new disk")
