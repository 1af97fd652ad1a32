"""How a node with another disk is readmitted by an entry of the log (BUG-37; Ongaro 4.1).

membership.py has an overview, and the reason why the entry is committed without counting the node.
"""

from typing import Final

from bargetrio.raft import membership
from bargetrio.raft.messages import Entry
from bargetrio.raft.progress import Progress
from bargetrio.raft.quorum import is_majority, majority_of
from bargetrio.raft.roles import Leader
from bargetrio.raft.standing import ABSENT, Configuration, Standing, StoreId, encode_configuration, why_other_members
from bargetrio.raft.state import State
from bargetrio.raft.values import NodeId

WHAT_IS_LEFT: Final = (
    "what is left is a backup, restored into a new cluster (bargetrio snapshot restore), and what a member that still has its"
    " disk shows by bargetrio list --all --read stale; see docs/operations.md"
)


def on_hello(state: State, peer: NodeId, standing: Standing, now: float) -> None:
    """Record the standing in a peer's hello, accepted or refused; readmit a store that `replaces` the member's present one.

    A node that this node's configuration does not name may say hello, too: its own names both. Only the newest is kept.
    """
    if peer not in state.peers:
        hellos = state.membership.last_hello
        for other in [each for each in hellos if each not in state.peers]:
            del hellos[other]
        hellos[peer] = (standing, now)
        return
    state.membership.seen[peer] = state.membership.last_hello[peer] = (standing, now)
    if standing.replaces:
        readmit_replaced(state, now)


def readmit_replaced(state: State, now: float) -> None:
    """As a leader: readmit the nodes that have replaced their store themselves, as soon as that is possible."""
    configuration = state.configuration
    if configuration is None or not isinstance(state.role, Leader):
        return
    for peer, (standing, _) in list(state.membership.seen.items()):
        if standing.replaces and standing.replaces == configuration.stores.get(peer):
            readmit(state, peer, now)


def readmit(state: State, node_id: NodeId, now: float) -> str:
    """Propose the store in the last hello of `node_id` as the member's new store; return why not, "" if it is under way or done.

    One change at a time, and only after an entry of the leader's own term is committed (BUG-37; Ongaro 4.1).
    """
    leader, configuration = state.role, state.configuration
    if not isinstance(leader, Leader):
        return f"node {state.node_id} does not lead"
    if node_id == state.node_id:
        return f"node {node_id} leads: its disk is in use"
    if node_id not in leader.progress:
        return f"there is no node {node_id}"
    if configuration is None:
        return (
            "the disks of an earlier version have no birth set yet: start all members with their disks, or, if one is lost,"
            f" begin the cluster without it (bargetrio bootstrap), then readmit node {node_id}"
        )
    if not is_majority(len(state.members) - 1, len(state.members)):
        return no_majority_without(node_id, len(state.members))
    standing, _ = state.membership.seen.get(node_id, (None, 0.0))
    if standing is None:
        return f"node {node_id} has not connected yet: start it with its new disk, then try again"
    if other := why_other_members(node_id, standing, configuration.stores, is_born=True):
        return other
    if standing.store == configuration.stores[node_id]:
        if now - leader.progress[node_id].heard_at < state.election_max_s or state.membership.uncounted == node_id:
            return ""
        return f"node {node_id} does not answer: start it with its new disk, then try again"
    if standing.identity or standing.store in configuration.former:
        return f"node {node_id}'s folder is one of an older member, or of another cluster: give it an empty one, then try again"
    if state.commit_index < leader.term_start:
        return "the leader has committed nothing in its term yet: try again"
    if leader.transfer is not None:
        return "the leader transfers its leadership: try again"
    if state.membership.uncounted is not None:
        return f"node {state.membership.uncounted} is being readmitted: try again when that is committed"
    _propose(state, leader, node_id, standing.store, now)
    return ""


def no_majority_without(node_id: NodeId, members: int) -> str:
    """Return the text that `members` nodes can't readmit this one, whichever of them run, and what the operator can do."""
    return f"of {members} members a majority of {majority_of(members)} can't be had without node {node_id}: {WHAT_IS_LEFT}"


def _propose(state: State, leader: Leader, node_id: NodeId, store: StoreId, now: float) -> None:
    old = state.configuration
    assert old is not None
    index = state.log.last_index + 1
    stores = {**old.stores, node_id: store}
    former = old.former if old.stores[node_id] == ABSENT else (*old.former, old.stores[node_id])
    configuration = Configuration(index=index, identity=old.identity, stores=stores, readmitted=node_id, former=former)
    state.append_own(leader, [Entry(state.current_term, encode_configuration(configuration))], (index,))
    leader.tickets.append(None)
    # What is recorded of its log was true of the old disk.
    state.note_acknowledged(node_id, leader.progress[node_id])
    before = state.membership.acknowledged.get((node_id, store), 0)
    leader.progress[node_id] = Progress(next_index=index + 1, heard_at=now, acknowledged_before=before)
    membership.append(state, configuration)
