"""Membership by store: how a cluster is born, and how a node with another disk is readmitted (BUG-37, BUG-38; dissertation 4.1).

```
birth         unborn nodes exchange Introductions -> the lowest id has met all -> WriteStanding(birth set) -> the others adopt it
readmission   operator, or a store that `replaces` its member's -> entry (node, new store), committed by a majority of all members
              without counting that node -> disk holds entry, term, vote; commit is known -> WriteStanding -> it votes
lost tail     a follower refuses what it had acknowledged -> probed again -> Demotion -> ReplaceStore -> automatic readmission
other log     LogDiffers instead of an acknowledgement -> a node whose log is not the majority's stops
```
Why the entry is committed without counting the readmitted node: what its old disk had acknowledged is on a majority, less that
disk. Every majority that does not count the node overlaps with the rest of that one, so the leader's log holds it, and so do all
logs of the majority that commits the entry. A vote that the old disk gave in a higher term elects no leader: the other voters of
that candidate overlap with this majority, too. A node in both had left the entry's term, and so did not accept the entry; or its
log holds the entry, which the candidate's log lacks, and it refused its vote (5.4.1).
"""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal

from msgspec import structs

from bargetrio.raft import replication
from bargetrio.raft.checks import read_configurations
from bargetrio.raft.effects import ReplaceStore, WriteStanding
from bargetrio.raft.errors import ConsensusViolation
from bargetrio.raft.facts import LogsDiffer, MemberChanged, MembersChanged, TailLost
from bargetrio.raft.messages import AppendReply, Demotion, Entry, Introduction, LogDiffers
from bargetrio.raft.progress import Progress
from bargetrio.raft.quorum import is_majority, majority_of
from bargetrio.raft.records import Remembered
from bargetrio.raft.roles import Follower, Leader
from bargetrio.raft.standing import (
    ABSENT,
    EARLIER,
    EMPTY,
    REPLACED,
    Configuration,
    Standing,
    StoreId,
    encode_configuration,
    identity_of,
)
from bargetrio.raft.values import Index, NodeId

if TYPE_CHECKING:
    from bargetrio.raft.core import Core

MET_S: Final = 2.0
"""Seconds: a node whose last introduction is older does not take part in a birth."""
ASKED_S: Final = 2.0
"""Seconds after which a node has dialled every peer once: a dial and a hello time out after one second each."""
TOLD_S: Final = 10.0
"""Seconds for which a peer's last standing counts in a birth; a peer that refuses this node is dialled every 3 s at least."""

WHAT_IS_LEFT: Final = (
    "what is left is a backup, restored into a new cluster (bargetrio snapshot restore), and what a member that still has its"
    " disk shows by bargetrio list --all --read stale; see docs/operations.md"
)


# -- the configuration in force ------------------------------------------------------------------------------------------


def begin(core: "Core", remembered: Remembered, now: float) -> None:
    """Set configuration, right to vote and commit index from what the disk remembers."""
    standing, snapshot = core.standing, remembered.snapshot
    _set_base(core, None if snapshot is None else snapshot.configuration)
    # Those before the snapshot's too: an append to a follower that lags names all configurations among its entries.
    known = {each.index: each for each in (*core.configurations, *remembered.configurations)}
    core.configurations = [known[index] for index in sorted(known)]
    if standing.admitted > core.log.last_index:
        _replace_store(core)
    else:
        # The entry that admitted this store is committed. Without this, a cluster in which no running node knows that could not
        # commit anything: the node's own acknowledgements would not count. What lies before it is not applied yet: this disk's
        # log may have become another one, which the first append or acknowledgement shows by its digest.
        core.settled_index = standing.admitted
    refresh(core)
    _maybe_be_born(core, now)


def refresh(core: "Core") -> None:
    """Compute anew who votes and who is counted; call it when configurations, commit index or standing have changed."""
    configuration = core.configuration = core.configurations[-1] if core.configurations else None
    standing = core.standing
    is_committed = configuration is None or configuration.index <= max(core.commit_index, core.settled_index)
    core.uncounted = None if is_committed or configuration is None else configuration.readmitted
    if core.is_demoted:
        core.may_vote = False
    elif standing.identity:
        core.may_vote = configuration is None or configuration.stores.get(core.node_id) == standing.store
    else:
        # Where the log has a configuration, that decides: a folder of an earlier version may have been absent at the birth.
        core.may_vote = standing.origin == EARLIER and configuration is None
    core.is_settled = core.may_vote and standing.identity != "" and core.uncounted is None
    if isinstance(core.role, Leader):
        for peer, progress in core.role.progress.items():
            progress.is_counted = peer != core.uncounted and not progress.demotion


def why_abstains(core: "Core") -> str:
    """Return why this node takes no part in elections; "" if it does."""
    standing = core.standing
    if core.may_vote:
        return ""
    if core.is_demoted or standing.replaces:
        return "its disk lost entries that it had acknowledged: it is taken in again once the others have committed that"
    if standing.identity:
        return "another disk has taken this one's place: the node was readmitted with it"
    if core.configuration is None:
        born = {peer: told.identity for peer, told in _last_standings(core, float("-inf")).items() if told.identity}
        if len(set(born.values())) > 1:
            return "members of two clusters of this name answer: empty the folders of those that began later, then readmit them"
        if born:
            who = ", ".join(map(str, sorted(born)))
            return f"its disk is new to the cluster of node {who}: bargetrio readmit {core.node_id} takes it in"
    missing = [str(peer) for peer in core.peers if peer not in core.met]
    if core.configuration is not None:
        return "its disk is new, and it has not caught up"
    others = [peer for peer, told in _last_standings(core, float("-inf")).items() if told.origin != standing.origin]
    if others and core.configuration is None:
        who = ", ".join(map(str, others))
        return f"the cluster is not born: the folder of node {who} began with another state than this one ({standing.origin})"
    if missing:
        return f"the cluster is not born, for it has not met node {', '.join(missing)}; bargetrio bootstrap does without"
    return "the cluster is not born, or has not taken in this node's disk: bargetrio readmit"


def configuration_at(core: "Core", index: Index) -> Configuration | None:
    """Return the configuration in force in the log up to `index`, None if there is none yet."""
    return next((each for each in reversed(core.configurations) if each.index <= index), None)


def on_appended(core: "Core", entries: tuple[Entry, ...], first_index: Index, indices: tuple[Index, ...]) -> None:
    """Note the configurations among entries that were just appended: they are in force from now on (dissertation 4.1).

    The host has checked `indices` (checks.py).
    """
    for configuration in read_configurations(entries, first_index, indices):
        _append(core, configuration)


def on_truncated(core: "Core", from_index: Index) -> None:
    """Forget the configurations of truncated entries: the one before them is in force again (BUG-40)."""
    if core.configuration is not None and core.configuration.index >= from_index:
        while core.configurations and core.configurations[-1].index >= from_index:
            core.configurations.pop()
        refresh(core)


def on_installed(core: "Core", configuration: Configuration | None) -> None:
    """Take the configuration of a snapshot that has replaced the whole log."""
    _set_base(core, configuration)
    refresh(core)


def settle(core: "Core") -> None:
    """Admit this node if it may be: the commit index or the durable index has risen while a member is not counted yet."""
    refresh(core)
    standing, configuration = core.standing, core.configuration
    if core.may_vote or core.is_demoted or core.is_writing_standing or standing.identity or configuration is None:
        return
    if configuration.stores.get(core.node_id) != standing.store:
        return
    if max(configuration.index, 1) > min(core.commit_index, core.durability.durable_index):
        return
    if core.voted_for is None:
        # The old disk may have voted in this term: the vote goes to the leader, which the term has already.
        if core.leader_id is None:
            return
        core.set_term(core.current_term, core.leader_id, "")
    if core.durability.hard_state_is_durable:
        _write(core, Standing(store=standing.store, identity=configuration.identity, admitted=configuration.index))


def standing_written(core: "Core", standing: Standing, now: float) -> None:
    """Put a standing in force that the folder holds, and tell the peers."""
    old, core.standing, core.is_writing_standing, core.is_demoted = core.standing, standing, False, False
    core.birth_under_way = None
    if not core.configurations:
        _set_base(core, None)
    refresh(core)
    if standing.identity and not old.identity:
        if standing.admitted:
            reason = f"is admitted with its new disk by entry {standing.admitted}: it votes"
        else:
            reason = f"the cluster is born, or has its set of disks now: nodes {', '.join(map(str, sorted(standing.birth)))}"
        _announce(core, reason)
        _introduce(core, asks=False)


def _set_base(core: "Core", configuration: Configuration | None) -> None:
    """Let the list of configurations begin with this one, or with the birth set."""
    standing = core.standing
    if configuration is None and standing.birth:
        configuration = Configuration(index=0, identity=standing.identity, stores=standing.birth)
    core.configurations = [] if configuration is None else [configuration]


def _append(core: "Core", configuration: Configuration) -> None:
    core.configurations.append(configuration)
    refresh(core)
    node = configuration.readmitted
    if node is not None:
        store = configuration.stores[node]
        core.announce(MembersChanged(peer=node, term=core.current_term, index=configuration.index, store=store))


def _announce(core: "Core", reason: str) -> None:
    core.announce(MemberChanged(term=core.current_term, index=core.commit_index, may_vote=core.may_vote, reason=reason))


def _write(core: "Core", standing: Standing) -> None:
    core.is_writing_standing = True
    core.emit(WriteStanding(standing))


def _replace_store(core: "Core") -> None:
    core.is_demoted = core.is_writing_standing = True
    core.settled_index = 0  # the log may lose the entries that it was told about
    core.emit(ReplaceStore())


# -- birth ---------------------------------------------------------------------------------------------------------------


def tick(core: "Core", now: float) -> None:
    """Introduce this node to all others every heartbeat, while it is unborn."""
    if not core.standing.identity and now >= core.introduce_at:
        core.introduce_at = now + core.heartbeat_s
        _introduce(core, asks=True)
        _maybe_be_born(core, now)


def on_introduction(core: "Core", message: Introduction, now: float) -> None:
    """Note a peer's standing; a node that has a birth set answers with it."""
    core.met[message.node_id] = (message.standing, now)
    if not core.standing.identity:
        _maybe_be_born(core, now)
    elif message.asks:
        core.send(message.node_id, Introduction(term=core.current_term, node_id=core.node_id, standing=core.standing, asks=False))


def bootstrap(core: "Core", now: float) -> str:
    """Begin a cluster with the members that have introduced themselves; return why not, "" if it is under way.

    By it an operator says that the absent ones have never been members; they are readmitted later.
    A born member refuses the store of this node and closes each connection at once, so its last hello counts for TOLD_S.
    """
    if core.standing.identity:
        return f"node {core.node_id} belongs to a cluster already: absent members are taken in by bargetrio readmit"
    if core.birth_under_way is not None:
        return ""
    if core.configuration is not None:
        return f"node {core.node_id}'s log is one of a cluster that is born: bargetrio readmit {core.node_id} takes it in"
    if core.standing.origin == REPLACED or core.is_demoted:
        return f"node {core.node_id}'s disk lost what it had promised: bargetrio readmit {core.node_id} takes it in"
    if len(core.members) > 1 and now - core.began_at < ASKED_S:
        return f"node {core.node_id} has just started, and asks the other members who they are: ask again"
    for peer, standing in _last_standings(core, now - TOLD_S).items():
        if standing.identity:
            return f"node {peer} belongs to a cluster that is born: bargetrio readmit takes this node into it"
        if standing.origin == EMPTY and core.standing.origin == EARLIER:
            continue  # A lost disk: its node is absent from the birth, and is readmitted later.
        if standing.origin != core.standing.origin:
            return f"node {peer}'s folder began with another state ({standing.origin}): all begin empty, or with the same backup"
    here = _met_unborn(core, now)
    if not is_majority(len(here), len(core.members)):
        there = f"{len(here)} of {len(core.members)} members are here"
        return f"{there} ({', '.join(map(str, sorted(here)))}), and a majority of them, {majority_of(len(core.members))}, must be"
    if core.is_writing_standing:
        return f"node {core.node_id} is being given another place: ask again"
    _be_born(core, {node_id: here.get(node_id, ABSENT) for node_id in core.members})
    return ""


def _introduce(core: "Core", *, asks: bool) -> None:
    standing = core.birth_under_way or core.standing
    for peer in core.peers:
        core.send(peer, Introduction(term=core.current_term, node_id=core.node_id, standing=standing, asks=asks))


def _maybe_be_born(core: "Core", now: float) -> None:
    """Adopt a born member's set if this store is in it; the lowest id makes the set when it has met every member unborn.

    Only that node makes it, so that there is one set.
    """
    own = core.standing
    if own.identity or own.origin == REPLACED or core.is_writing_standing:
        return
    born = _born_standings(core, float("-inf"))
    if birth := _set_to_adopt(core, _born_standings(core, now - TOLD_S) or born):
        _be_born(core, birth)
    if born or core.configuration is not None or core.node_id != core.members[0]:
        return
    here = _met_unborn(core, now)
    if len(here) == len(core.members):
        _be_born(core, here)


def _set_to_adopt(core: "Core", born: list[Standing]) -> dict[NodeId, StoreId]:
    """Return the birth set that this node adopts, {} if none; `born` are the last standings of peers that have one.

    Where two sets were made at the same moment, by nodes that could not reach each other, each store that is in both adopts the
    one that most have, so that one gets a majority (OWN-137). That is safe if no member has another store in the one than in
    the other: a store is in one set for ever, so at most one of them gets a majority. A set that too few can still adopt is out
    of the choice (OWN-140). Where a store differs, or a set that can get a majority is without this store, a disk was lost
    between them, and one may be the older cluster: the operator decides.
    """
    own, sets = core.standing.store, {standing.identity: standing.birth for standing in born}
    if any(tuple(sorted(birth)) != core.members for birth in sets.values()):
        return {}
    for node_id in core.members:
        stores = {birth[node_id] for birth in sets.values()} | ({own} if node_id == core.node_id else set())
        if len(stores - {ABSENT}) > 1:
            return {}
    set_of = {standing.store: standing.identity for standing in born}
    possible = dict[str, dict[NodeId, StoreId]]()
    for identity, birth in sets.items():
        count = sum(store != ABSENT and set_of.get(store, identity) == identity for store in birth.values())
        if is_majority(count, len(core.members)):
            possible[identity] = birth
    if not possible or any(birth[core.node_id] == ABSENT for birth in possible.values()):
        return {}
    having = Counter(set_of.values())
    return possible[max(possible, key=lambda identity: (having[identity], identity))]


def _present(birth: Mapping[NodeId, StoreId]) -> int:
    """Return how many members have a store in this set: with fewer than a majority nobody could be elected, nor readmitted."""
    return sum(store != ABSENT for store in birth.values())


def _last_standings(core: "Core", then: float) -> dict[NodeId, Standing]:
    """Return each peer's newest standing, of a hello or an introduction, if it is newer than `then`."""
    newest: dict[NodeId, Standing] = {}
    for peer in core.peers:
        received = [each[peer] for each in (core.met, core.last_hello) if peer in each]
        standing, at = max(received, key=lambda one: one[1], default=(None, then))
        if standing is not None and at > then:
            newest[peer] = standing
    return newest


def _born_standings(core: "Core", then: float) -> list[Standing]:
    """Return the last standings, newer than `then`, of the peers that are born."""
    return [standing for standing in _last_standings(core, then).values() if standing.identity]


def _met_unborn(core: "Core", now: float) -> dict[NodeId, StoreId]:
    """Return the stores of the unborn members that were heard within MET_S and began with the same state, this node's too."""
    own = core.standing
    here = {core.node_id: own.store}
    for peer in core.peers:
        standing, at = core.met.get(peer, (None, 0.0))
        if standing is not None and now - at < MET_S and not standing.identity and standing.origin == own.origin:
            here[peer] = standing.store
    return here


def _be_born(core: "Core", stores: dict[NodeId, StoreId]) -> None:
    """Write a set of the members' stores, and tell it at once: others make none while a disk takes its time (OWN-137).

    No vote depends on it before it is on this disk. Whoever adopts it meanwhile has it from then on: after a crash before the
    write has ended, this store is in that set still, and adopts it.
    """
    assert is_majority(_present(stores), len(core.members)), "nobody could ever be elected"
    core.birth_under_way = structs.replace(core.standing, identity=identity_of(stores), birth=stores)
    _write(core, core.birth_under_way)
    _introduce(core, asks=False)


# -- readmission ---------------------------------------------------------------------------------------------------------


def saw(core: "Core", peer: NodeId, standing: Standing, now: float) -> None:
    """Note the standing of a peer's hello, accepted or refused; readmit a store that says that it replaces its member's."""
    core.seen[peer] = core.last_hello[peer] = (standing, now)
    if standing.replaces:
        readmit_replaced(core, now)


def readmit_replaced(core: "Core", now: float) -> None:
    """As a leader: readmit the nodes that have replaced their store themselves, as soon as that is possible."""
    configuration = core.configuration
    if configuration is None or not isinstance(core.role, Leader):
        return
    for peer, (standing, _) in list(core.seen.items()):
        if standing.replaces and standing.replaces == configuration.stores.get(peer):
            readmit(core, peer, now)


def readmit(core: "Core", node_id: NodeId, now: float) -> str:
    """Propose the store of the last hello of `node_id` as its member's; return why not, "" if it is under way or done.

    One change at a time, and only after an entry of the leader's own term is committed (BUG-37; dissertation 4.1).
    """
    leader, configuration = core.role, core.configuration
    if not isinstance(leader, Leader):
        return f"node {core.node_id} does not lead"
    if node_id == core.node_id:
        return f"node {node_id} leads: its disk is at work"
    if node_id not in leader.progress:
        return f"there is no node {node_id}"
    if configuration is None:
        return (
            "the disks of an earlier version have no set yet: start all members with their disks, or, if one is lost, let the"
            f" cluster be born without it (bargetrio bootstrap), then readmit node {node_id}"
        )
    if not is_majority(len(core.members) - 1, len(core.members)):
        return no_majority_without(node_id, len(core.members))
    standing, _ = core.seen.get(node_id, (None, 0.0))
    if standing is None:
        return f"node {node_id} has not called yet: start it with its new disk, then ask again"
    if standing.store == configuration.stores[node_id]:
        if now - leader.progress[node_id].heard_at < core.election_max_s or core.uncounted == node_id:
            return ""
        return f"node {node_id} does not answer: start it with its new disk, then ask again"
    if standing.identity or standing.store in configuration.former:
        return f"node {node_id}'s folder is one of an older member, or of another cluster: give it an empty one, then ask again"
    if core.commit_index < leader.term_start:
        return "the leader has committed nothing in its term yet: ask again"
    if core.uncounted is not None:
        return f"node {core.uncounted} is being taken in: ask again when that is committed"
    _propose(core, leader, node_id, standing.store, now)
    return ""


def no_majority_without(node_id: NodeId, members: int) -> str:
    """Return, in words, that so many members can't take in this node, whoever runs, and what is left to do."""
    return f"of {members} members a majority of {majority_of(members)} can't be had without node {node_id}: {WHAT_IS_LEFT}"


def _propose(core: "Core", leader: Leader, node_id: NodeId, store: StoreId, now: float) -> None:
    old = core.configuration
    assert old is not None
    index = core.log.last_index + 1
    stores = {**old.stores, node_id: store}
    former = old.former if old.stores[node_id] == ABSENT else (*old.former, old.stores[node_id])
    configuration = Configuration(index=index, identity=old.identity, stores=stores, readmitted=node_id, former=former)
    core.append_own(leader, [Entry(core.current_term, encode_configuration(configuration))], (index,))
    leader.tickets.append(None)
    # What is known of its log was true of the old disk.
    leader.progress[node_id] = Progress(next_index=index + 1, heard_at=now)
    _append(core, configuration)


def learn_commit(core: "Core") -> None:
    """Before taking office, learn from the voters that the last readmission is committed: after a restart it may not be known.

    Without this, where a majority needs the readmitted node, its acknowledgements would never count and nothing would commit. The
    commit index does not rise by it: no voter has compared its log with this one yet, as an acknowledgement of an append does.
    """
    configuration = core.configuration
    if core.uncounted is not None and configuration is not None and core.known_commit >= configuration.index:
        core.settled_index = configuration.index
        refresh(core)


# -- lost tails, differing logs ------------------------------------------------------------------------------------------


def suspect(core: "Core", leader: Leader, progress: Progress, message: AppendReply) -> bool:
    """Look whether a refusal shows that the follower lost what it acknowledged; return whether it is dealt with here.

    The refusal may be an old one, sent before the follower had the entries. So the follower is probed once more, with a round
    number of its own (as for reads, BUG-44): if it refuses that, too, and has acknowledged nothing since, it has lost entries.
    """
    if progress.demotion:
        return True
    log, match_index, peer = core.log, progress.match_index, message.follower_id
    is_short = message.hint_index < match_index
    # Terms never fall along a log: its entry at `match_index` is of no higher term than the hint's (an old copy of the folder).
    is_another = match_index >= log.start_index and message.hint_term < log.term(match_index)
    if not is_short and not is_another:
        return False
    if progress.suspect_round == 0:
        leader.round += 1
        progress.suspect_round = leader.round
        replication.send_empty(core, leader, peer, progress)
    elif message.round >= progress.suspect_round:
        core.announce(TailLost(peer=peer, term=core.current_term, index=progress.match_index))
        _demote(core, peer, progress, "lost")
    return True


def _demote(core: "Core", peer: NodeId, progress: Progress, cause: Literal["differs", "lost"]) -> None:
    progress.demotion = cause
    progress.become_probe(progress.next_index)
    refresh(core)
    tell_demotion(core, peer, progress)


def tell_demotion(core: "Core", peer: NodeId, progress: Progress) -> None:
    """Send a follower its demotion; to one whose log differs only once an entry of this term is committed.

    Before that it is not known that the majority's log is this leader's.
    """
    leader = core.role
    assert isinstance(leader, Leader) and progress.demotion
    if progress.demotion == "differs":
        if core.commit_index < leader.term_start:
            return
        index = progress.next_index - 1
    else:
        index = progress.match_index
    configuration = core.configuration
    store = "" if configuration is None else configuration.stores[peer]
    demotion = Demotion(
        term=core.current_term,
        leader_id=core.node_id,
        cause=progress.demotion,
        index=index,
        entry_term=core.log.term(index) if index >= core.log.start_index else 0,
        store=store,
    )
    core.send(peer, demotion)


def on_log_differs(core: "Core", message: LogDiffers, now: float) -> None:
    """Stop counting a follower whose log differs; raise ConsensusViolation once so many differ that no majority is left."""
    progress = replication.progress_of(core, message.term, message.follower_id, now)
    if progress is None or progress.demotion:
        return
    leader = core.role
    assert isinstance(leader, Leader)
    core.announce(LogsDiffer(peer=message.follower_id, term=core.current_term, index=message.index))
    _demote(core, message.follower_id, progress, "differs")
    others = sorted(peer for peer, each in leader.progress.items() if each.demotion == "differs")
    if not is_majority(len(core.members) - len(others), len(core.members)):
        named = ", ".join(map(str, others))
        raise ConsensusViolation(
            f"the log differs at or before entry {message.index} from that of node {named}: no majority has it"
        )


def tell_difference(core: "Core", leader_id: NodeId, index: Index) -> None:
    """As a follower: report that the logs differ, instead of an acknowledgement."""
    core.announce(LogsDiffer(peer=leader_id, term=core.current_term, index=index))
    core.send(leader_id, LogDiffers(term=core.current_term, follower_id=core.node_id, index=index))


def on_demotion(core: "Core", message: Demotion, now: float) -> None:
    """Stop (`differs`), or replace the store and wait to be readmitted (`lost`)."""
    if message.term < core.current_term:
        return
    replication.follow(core, message.term, message.leader_id, now)
    if message.store not in ("", core.standing.store):
        return  # it is about the store that this node had before
    if message.cause == "differs":
        raise ConsensusViolation(f"the log differs from the majority's at or before entry {message.index}")
    log, index = core.log, message.index
    if log.holds(index, message.entry_term) if message.entry_term else log.last_index >= index:
        return  # an old demotion: the entries are here
    if core.is_writing_standing or (core.standing.origin == REPLACED and not message.store):
        return  # a repetition of one that is dealt with, or it will be repeated
    assert isinstance(core.role, Follower)
    _replace_store(core)
    refresh(core)
    _announce(core, f"lost entries up to {index} that it had acknowledged: it counts as a node with a new disk")
