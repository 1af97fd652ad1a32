"""Planted bugs about membership: replaced disks, new clusters, other lists, other logs, lost entries.

Each is what Barge did before the log took nodes in (docs/bugs.md).
"""

from typing import Any

from msgspec import structs

from bargetrio.raft import birth, demotion, membership, readmission, receiving, replication
from bargetrio.raft.core import Core
from bargetrio.raft.log import Log
from bargetrio.raft.messages import AppendReply, Demotion
from bargetrio.raft.progress import Progress
from bargetrio.raft.quorum import is_majority
from bargetrio.raft.roles import Leader
from bargetrio.raft.standing import EMPTY
from bargetrio.raft.state import State
from bargetrio.simulator import peers
from bargetrio.simulator.breaks.registry import Patches, breaks
from bargetrio.storage.folder import Folder


@breaks("a node with another disk counts when a majority without it has committed that", "Ongaro 4.1; BUG-38")
def replaced_disk_counts_at_once(patches: Patches) -> None:
    old_refresh = membership.refresh

    def refresh(core: Core) -> None:
        old_refresh(core)
        core.membership.uncounted = None
        core.is_settled = core.may_vote and core.standing.identity != ""
        if isinstance(core.role, Leader):
            for progress in core.role.progress.values():
                progress.is_counted = not progress.demotion

    patches.set(membership, "refresh", refresh)


@breaks("a node with another disk votes when the entry that takes it in is committed", "Ongaro 4.1; BUG-38")
def replaced_disk_votes_with_its_first_entries(patches: Patches) -> None:
    old = membership.maybe_admit

    def maybe_admit(core: Core) -> None:
        commit_index = core.commit_index
        core.commit_index = core.log.last_index
        try:
            old(core)
        finally:
            core.commit_index = commit_index

    patches.set(membership, "maybe_admit", maybe_admit)


@breaks("a node with another disk votes when its disk holds the entry that takes it in, its term and its vote", "3.8; BUG-50")
def replaced_disk_votes_before_it_has_synced(patches: Patches) -> None:
    old = membership.maybe_admit

    def maybe_admit(core: Core) -> None:
        durability = core.durability
        index, number = durability.durable_index, durability.synced_number
        durability.durable_index, durability.synced_number = core.log.last_index, durability.hard_state_number
        try:
            old(core)
        finally:
            durability.durable_index, durability.synced_number = index, number

    patches.set(membership, "maybe_admit", maybe_admit)


@breaks("an empty folder votes only in a cluster that all its members have begun", "BUG-38")
def empty_folder_votes(patches: Patches) -> None:
    old = membership.refresh

    def refresh(core: Core) -> None:
        old(core)
        if core.standing.origin == EMPTY and not core.standing.identity:
            core.may_vote = True

    patches.set(membership, "refresh", refresh)


@breaks("a cluster is born when all its members have met", "BUG-38")
def born_by_a_majority(patches: Patches) -> None:
    old = birth.maybe_be_born

    def maybe_be_born(core: Core, now: float) -> None:
        old(core, now)
        own = core.standing
        here = birth._met_unborn(core, now)
        if not own.identity and not core.membership.is_writing_standing and is_majority(len(here), len(core.members)):
            birth._be_born(core, {node_id: here.get(node_id, "") for node_id in core.members})

    patches.set(birth, "maybe_be_born", maybe_be_born)


@breaks("a folder is opened with the list of nodes that it was made with", "BUG-40")
def other_nodes_accepted(patches: Patches) -> None:
    old = Folder.__init__

    def init(self: Folder, *arguments: Any, members: tuple[int, ...] | None = None, **others: Any) -> None:
        old(self, *arguments, members=None, **others)
        if members is not None:
            self._meta = structs.replace(self._meta, members=members)

    patches.set(Folder, "__init__", init)


@breaks("an unborn store states the list of nodes of its configuration", "OWN-187")
def other_list_not_stated(patches: Patches) -> None:
    patches.set(membership, "as_stated", lambda standing, members: standing)
    patches.set(peers, "as_stated", lambda standing, members: standing)


@breaks("a node is readmitted only with the members' list of nodes", "OWN-187", faults=frozenset({"other_nodes", "crashes"}))
def other_list_readmitted(patches: Patches) -> None:
    patches.set(readmission, "why_other_members", lambda peer_id, theirs, members, *, is_born=False: "")


@breaks("nodes that began with different backups do not hear each other", "docs/operations.md")
def other_backups_accepted(patches: Patches) -> None:
    from bargetrio.raft import standing
    from bargetrio.replica import hellos

    def why_refused(ours: Any, configuration: Any, peer_id: int, theirs: Any, members: Any = ()) -> str:
        return old(structs.replace(ours, origin=EMPTY), configuration, peer_id, structs.replace(theirs, origin=EMPTY), members)

    old = standing.why_refused
    patches.set(hellos, "why_refused", why_refused)

    old_met = birth._met_unborn

    def met_unborn(core: Core, now: float) -> dict[int, str]:
        met = dict(core.membership.met)
        for peer, (theirs, at) in met.items():
            core.membership.met[peer] = (structs.replace(theirs, origin=core.standing.origin), at)
        try:
            return old_met(core, now)
        finally:
            core.membership.met = met

    patches.set(birth, "_met_unborn", met_unborn)


@breaks("logs are compared by their digests, too", "5.3, Log Matching")
def digests_not_compared(patches: Patches) -> None:
    patches.set(Log, "differs", lambda self, prev_log_index, prev_digest, known: False)
    patches.set(receiving, "_differs", lambda core, snapshot: False)


@breaks("a follower that lost what it acknowledged is distinguished from one whose refusal is old", "docs/storage_format.md")
def every_refusal_is_an_old_one(patches: Patches) -> None:
    def suspect(core: Core, leader: Leader, progress: Progress, message: AppendReply) -> bool:
        return message.hint_index < progress.match_index

    patches.set(demotion, "suspect", suspect)


@breaks("only a refusal of what was asked after the first one proves a loss", "docs/storage_format.md; BUG-44")
def second_refusal_proves_a_loss(patches: Patches) -> None:
    old = demotion.suspect

    def suspect(core: Core, leader: Leader, progress: Progress, message: AppendReply) -> bool:
        return old(core, leader, progress, structs.replace(message, round=leader.round))

    patches.set(demotion, "suspect", suspect)


@breaks("what a follower acknowledges begins the suspicion anew", "OWN-94")
def suspicion_outlives_an_acknowledgement(patches: Patches) -> None:
    old = replication._on_success

    def on_success(core: Core, progress: Progress, message: AppendReply) -> None:
        suspect_round = progress.suspect_round
        old(core, progress, message)
        progress.suspect_round = suspect_round

    patches.set(replication, "_on_success", on_success)


@breaks("a leader remembers what was acknowledged to it in earlier terms", "OWN-175")
def earlier_acknowledgements_forgotten(patches: Patches) -> None:
    patches.set(State, "_remember_acknowledged", lambda state, leader: None)


@breaks("what is said of a node's disk before is not about the one it has now", "OWN-98")
def demotion_of_another_store_is_heard(patches: Patches) -> None:
    old = demotion.on_demotion

    def on_demotion(core: Core, message: Demotion, now: float) -> None:
        store = core.standing.store if message.store else ""
        old(core, structs.replace(message, store=store), now)

    patches.set(demotion, "on_demotion", on_demotion)


@breaks("what another store says is dropped", "BUG-38")
def other_store_is_heard(patches: Patches) -> None:
    from bargetrio.replica import hellos

    old = hellos.__dict__["why_refused"]

    def why_refused(ours: Any, configuration: Any, peer_id: int, theirs: Any, members: Any = ()) -> str:
        reason: str = old(ours, configuration, peer_id, theirs, members)
        return "" if "another store" in reason or "lost entries" in reason else reason

    patches.set(hellos, "why_refused", why_refused)
