"""Membership by store: the configuration in force, which nodes vote and which are counted (BUG-37, BUG-38; Ongaro 4.1).

```
birth         unborn nodes exchange Introductions -> the lowest id has all -> WriteStanding(birth set) -> the others adopt it
readmission   operator, or a store that `replaces` its member's -> entry (node, new store), committed by a majority of all members
              without counting that node -> disk holds entry, term, vote; commit is known -> WriteStanding -> it votes
lost entries  a follower refuses what it had acknowledged -> probed again -> Demotion -> ReplaceStore -> automatic readmission
other log     LogDiffers instead of an acknowledgement -> a node whose log is not the majority's stops
```
Why the entry is committed without counting the readmitted node: what its old disk had acknowledged is on a majority, minus that
disk. Every majority that does not count the node overlaps with the rest of that one, so the leader's log has it, and so do all
logs of the majority that commits the readmission. A vote of the old disk in a higher term elects no leader: the candidate's other
voters overlap with this majority, too. A node in both had left the readmission's term, and so did not accept that entry; or its
log has the entry, the candidate's log lacks it, and it refused its vote (Raft 5.4.1).
"""

from bargetrio.raft.checks import read_configurations
from bargetrio.raft.effects import ReplaceStore, WriteStanding
from bargetrio.raft.facts import MemberChanged, MembersChanged
from bargetrio.raft.messages import Entry, Introduction
from bargetrio.raft.records import Remembered
from bargetrio.raft.roles import Leader
from bargetrio.raft.standing import EARLIER, Configuration, Standing, StoreId, as_stated, why_other_members
from bargetrio.raft.state import State
from bargetrio.raft.values import Index, NodeId


def begin(state: State, remembered: Remembered) -> None:
    """Set configuration, right to vote and commit index from the persistent state."""
    own = state.membership
    standing, snapshot = state.standing, remembered.snapshot
    _set_base(state, None if snapshot is None else snapshot.configuration)
    # Also those before the snapshot's: an append to a lagging follower lists all configurations among its entries.
    known = {each.index: each for each in (*own.configurations, *remembered.configurations)}
    own.configurations = [known[index] for index in sorted(known)]
    if standing.admitted > state.log.last_index:
        replace_store(state)
    else:
        # The entry that admitted this store is committed. Without this, a cluster in which no running node knows that could
        # commit nothing: the node's own acknowledgements would not count. Entries before it are not applied yet: the disk may
        # have been exchanged for one with another log, which the first append or acknowledgement shows by its digest.
        own.settled_index = standing.admitted
    refresh(state)


def refresh(state: State) -> None:
    """Recompute which nodes vote and are counted; call it when configurations, commit index or standing have changed."""
    own = state.membership
    configuration = state.configuration = own.configurations[-1] if own.configurations else None
    standing = state.standing
    is_committed = configuration is None or configuration.index <= max(state.commit_index, own.settled_index)
    own.uncounted = None if is_committed or configuration is None else configuration.readmitted
    if own.is_demoted:
        state.may_vote = False
    elif standing.identity:
        state.may_vote = configuration is None or configuration.stores.get(state.node_id) == standing.store
    else:
        # A configuration in the log takes precedence: a folder of an earlier version may not be in the birth set.
        state.may_vote = standing.origin == EARLIER and configuration is None
    state.is_settled = state.may_vote and standing.identity != "" and own.uncounted is None
    if isinstance(state.role, Leader):
        for peer, progress in state.role.progress.items():
            progress.is_counted = peer != own.uncounted and not progress.demotion


def why_abstains(state: State) -> str:
    """Return why this node takes no part in elections; "" if it does."""
    standing = state.standing
    if state.may_vote:
        return ""
    if state.membership.is_demoted or standing.replaces:
        return "its disk lost entries that it had acknowledged: it is taken in again once the others have committed that"
    if standing.identity:
        return "another disk has taken this one's place: the node was readmitted with it"
    if state.configuration is None:
        last = last_standings(state, float("-inf"))
        born = {peer: stated.identity for peer, stated in last.items() if stated.identity}
        for peer in born or last:
            if reason := why_other_members(peer, last[peer], state.members):
                return reason
        if len(set(born.values())) > 1:
            return "members of two clusters of this name answer: empty the folders of those that began later, then readmit them"
        if born:
            who = ", ".join(map(str, sorted(born)))
            return f"its disk is new to the cluster of node {who}: bargetrio readmit {state.node_id} takes it in"
    missing = [str(peer) for peer in state.peers if peer not in state.membership.met]
    if state.configuration is not None:
        return "its disk is new, and it has not caught up"
    others = [peer for peer, stated in last_standings(state, float("-inf")).items() if stated.origin != standing.origin]
    if others and state.configuration is None:
        who = ", ".join(map(str, others))
        return f"the cluster is not born: the folder of node {who} began with another state than this one ({standing.origin})"
    if missing:
        return f"the cluster is not born, for it has not met node {', '.join(missing)}; bargetrio bootstrap does without"
    return "the cluster is not born, or has not taken in this node's disk: bargetrio readmit"


def configuration_at(state: State, index: Index) -> Configuration | None:
    """Return the configuration in force in the log up to `index`, None if there is none yet."""
    return next((each for each in reversed(state.membership.configurations) if each.index <= index), None)


def on_appended(state: State, entries: tuple[Entry, ...], first_index: Index, indices: tuple[Index, ...]) -> None:
    """Add the configurations among entries that were just appended: they are in force from now on (Ongaro 4.1).

    The host has validated `indices` (checks.py).
    """
    for configuration in read_configurations(entries, first_index, indices):
        append(state, configuration)


def on_truncated(state: State, from_index: Index) -> None:
    """Remove the configurations of truncated entries: the one before them is in force again (BUG-40)."""
    own = state.membership
    if state.configuration is not None and state.configuration.index >= from_index:
        while own.configurations and own.configurations[-1].index >= from_index:
            own.configurations.pop()
        refresh(state)


def on_installed(state: State, configuration: Configuration | None) -> None:
    """Adopt the configuration of a snapshot that has replaced the whole log."""
    _set_base(state, configuration)
    refresh(state)


def maybe_admit(state: State) -> None:
    """Admit this node if the conditions hold; called when commit or durable index have risen while a member is not counted."""
    refresh(state)
    standing, configuration = state.standing, state.configuration
    if (
        state.may_vote
        or state.membership.is_demoted
        or state.membership.is_writing_standing
        or standing.identity
        or configuration is None
    ):
        return
    if configuration.stores.get(state.node_id) != standing.store:
        return
    if max(configuration.index, 1) > min(state.commit_index, state.durability.durable_index):
        return
    if state.voted_for is None:
        # The old disk may have voted in this term: the vote goes to the leader, which the term has already.
        if state.leader_id is None:
            return
        state.set_term(state.current_term, state.leader_id, "")
    if state.durability.hard_state_is_durable:
        write(state, Standing(store=standing.store, identity=configuration.identity, admitted=configuration.index))


def standing_written(state: State, standing: Standing, now: float) -> None:
    """Put a standing in force that is now on the disk, and introduce this node with it to the peers."""
    own = state.membership
    old, state.standing, own.is_writing_standing, own.is_demoted = (
        state.standing,
        standing,
        False,
        False,
    )
    own.birth_under_way = None
    if not own.configurations:
        _set_base(state, None)
    refresh(state)
    if standing.identity and not old.identity:
        if standing.admitted:
            reason = f"is admitted with its new disk by entry {standing.admitted}: it votes"
        else:
            reason = f"the cluster is born, or has its set of disks now: nodes {', '.join(map(str, sorted(standing.birth)))}"
        announce(state, reason)
        introduce(state, asks=False)


def learn_commit(state: State) -> None:
    """Before becoming leader, take from the votes that the last readmission is committed: after a restart it may not be known.

    Without this, where a majority needs the readmitted node, its acknowledgements would never count and nothing would commit. The
    commit index is not raised: no voter has compared its log with this one yet, as an acknowledgement of an append does.
    """
    own = state.membership
    configuration = state.configuration
    if own.uncounted is not None and configuration is not None and own.known_commit >= configuration.index:
        own.settled_index = configuration.index
        refresh(state)


def introduce(state: State, *, asks: bool) -> None:
    standing = as_stated(state.membership.birth_under_way or state.standing, state.members)
    for peer in state.peers:
        state.send(peer, Introduction(term=state.current_term, node_id=state.node_id, standing=standing, asks=asks))


def last_standings(state: State, then: float) -> dict[NodeId, Standing]:
    """Return each peer's newest standing, of a hello or an introduction, if it is newer than `then`."""
    return {peer: standing for peer, (standing, at) in last_stated(state).items() if at > then}


def last_stated(state: State) -> dict[NodeId, tuple[Standing, float]]:
    """Return each peer's newest standing, of a hello or an introduction, and when it came; also of a node that is no member."""
    newest: dict[NodeId, tuple[Standing, float]] = {}
    met, hellos = state.membership.met, state.membership.last_hello
    for peer in dict.fromkeys((*state.peers, *hellos)):
        stated, hello = met.get(peer), hellos.get(peer)
        if stated is None or (hello is not None and hello[1] > stated[1]):
            stated = hello
        if stated is not None:
            newest[peer] = stated
    return newest


def store_of(state: State, peer: NodeId) -> StoreId:
    """Return the store of a peer that counts, "" if there is no configuration."""
    return "" if state.configuration is None else state.configuration.stores[peer]


def append(state: State, configuration: Configuration) -> None:
    state.membership.configurations.append(configuration)
    refresh(state)
    node = configuration.readmitted
    if node is not None:
        store = configuration.stores[node]
        state.announce(MembersChanged(peer=node, term=state.current_term, index=configuration.index, store=store))


def announce(state: State, reason: str) -> None:
    state.announce(MemberChanged(term=state.current_term, index=state.commit_index, may_vote=state.may_vote, reason=reason))


def write(state: State, standing: Standing) -> None:
    state.membership.is_writing_standing = True
    state.emit(WriteStanding(standing))


def replace_store(state: State) -> None:
    own = state.membership
    own.is_demoted = own.is_writing_standing = True
    own.settled_index = 0  # the log may lose the entries that it covers
    state.emit(ReplaceStore())


def _set_base(state: State, configuration: Configuration | None) -> None:
    """Reset the list of configurations to this one, or to the birth set."""
    standing = state.standing
    if configuration is None and standing.birth:
        configuration = Configuration(index=0, identity=standing.identity, stores=standing.birth)
    state.membership.configurations = [] if configuration is None else [configuration]
