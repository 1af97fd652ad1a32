"""Leadership transfer: a leader has a follower that holds all its entries elected at once (Ongaro 3.10).

```
leader                          target                            others
begin: refuses proposals
... appends ...  ------------>  its disk holds all entries
all are committed and applied
TimeoutNow  ----------------->  candidate of the next term
                                VoteRequest(transfers)  ------->  grant it, though they hear a leader (Ongaro 4.2.3)
follower  <-------------------  VoteRequest(transfers)
```
It saves the pause of an election timeout where a leader is to stop, or another node to lead. It is given up after the longest
election timeout: the leader takes proposals again. That is safe also where the target stands for election later.
"""

from collections.abc import Collection

from bargetrio.raft import election
from bargetrio.raft.facts import TransferBegan, TransferEnded
from bargetrio.raft.messages import NodeId, TimeoutNow
from bargetrio.raft.roles import Follower, Leader, LeadershipTransfer
from bargetrio.raft.state import State

# -- the leader's side ---------------------------------------------------------------------------------------------------


def begin(state: State, among: Collection[NodeId], now: float) -> str:
    """Begin to have one of these elected, of those that can be the one that holds most entries.

    Return why none can; "" if it is under way, or if this node is among them and leads.
    """
    leader = state.role
    if not isinstance(leader, Leader):
        return f"node {state.node_id} does not lead"
    if state.node_id in among:
        return ""
    reasons = {peer: _why_not(state, leader, peer, now) for peer in among}
    able = [peer for peer, reason in reasons.items() if not reason]
    if not able:
        return "; ".join(reasons.values()) or "there is no other node"
    if leader.transfer is None:
        target = max(able, key=lambda peer: leader.progress[peer].match_index)
        leader.transfer = LeadershipTransfer(target, now + state.election_max_s)
        state.announce(TransferBegan(peer=target, term=state.current_term))
    return ""


def _why_not(state: State, leader: Leader, target: NodeId, now: float) -> str:
    progress = leader.progress.get(target)
    if progress is None:
        return f"there is no node {target}"
    if not progress.is_counted or progress.demotion:
        return f"node {target} has a disk that does not count yet: it may not be elected"
    if progress.state == "snapshot":
        return f"node {target} is still being sent a snapshot"
    if now - progress.heard_at >= state.election_min_s:
        return f"node {target} does not answer"
    if state.commit_index < leader.term_start:
        return "the leader has committed nothing in its term yet: try again"
    if leader.transfer is not None and leader.transfer.target != target:
        return f"leadership is being transferred to node {leader.transfer.target}: try again"
    return ""


def advance(state: State, leader: Leader) -> None:
    """Have the target stand for election as soon as its disk holds all entries and all are applied, so that no proposal waits."""
    transfer, last_index = leader.transfer, state.log.last_index
    if transfer is None or transfer.is_asked:
        return
    if leader.progress[transfer.target].match_index == last_index == state.last_applied:
        transfer.is_asked = True
        _ask(state, transfer.target)


def on_heartbeat_deadline(state: State, leader: Leader, now: float) -> None:
    """Ask the target once more, as the message may be lost; give the transfer up when its time is over."""
    transfer = leader.transfer
    if transfer is None:
        return
    if now >= transfer.ends_at:
        leader.transfer = None
        reason = "it was not elected in time" if transfer.is_asked else "it did not get all entries in time"
        state.announce(TransferEnded(peer=transfer.target, term=state.current_term, reason=reason))
    elif transfer.is_asked:
        _ask(state, transfer.target)


def _ask(state: State, target: NodeId) -> None:
    state.send(target, TimeoutNow(term=state.current_term, leader_id=state.node_id))


# -- the target's side ---------------------------------------------------------------------------------------------------


def on_timeout_now(state: State, message: TimeoutNow, now: float) -> None:
    """Stand for election at once, without a pre-vote: the leader that is heard asks for it (Ongaro 3.10)."""
    if message.term < state.current_term:
        return
    role = state.follow(message.term, message.leader_id, now)
    assert isinstance(role, Follower)
    if state.may_vote and not election.waits_for_disk(state, now):
        election.start_election(state, now, f"node {message.leader_id} transfers its leadership", transfers=True)
