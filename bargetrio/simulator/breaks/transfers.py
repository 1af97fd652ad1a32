"""Planted bugs about leadership transfer (Ongaro 3.10)."""

from bargetrio.raft import election, transfer
from bargetrio.raft.core import Core
from bargetrio.raft.messages import TimeoutNow, VoteRequest
from bargetrio.raft.roles import Leader
from bargetrio.raft.state import State
from bargetrio.simulator.breaks.registry import Patches, breaks

TRANSFERS = frozenset({"transfers", "partitions", "crashes", "loss", "delays", "slow_links"})


@breaks("a follower is asked to stand for election when it holds all the leader's entries", "Ongaro 3.10", faults=TRANSFERS)
def target_asked_too_early(patches: Patches) -> None:
    def advance(state: State, leader: Leader) -> None:
        if leader.transfer is not None and not leader.transfer.is_asked:
            leader.transfer.is_asked = True
            state.send(leader.transfer.target, TimeoutNow(term=state.current_term, leader_id=state.node_id))

    patches.set(transfer, "advance", advance)


@breaks("a leader that transfers its leadership takes no proposals", "Ongaro 3.10", faults=TRANSFERS)
def proposals_while_transferring(patches: Patches) -> None:
    for name in ("propose", "propose_all"):
        _without_transfer(patches, name)


def _without_transfer(patches: Patches, name: str) -> None:
    old = getattr(Core, name)

    def propose(self: Core, *arguments: object) -> None:
        role = self.role
        if not isinstance(role, Leader):
            old(self, *arguments)
            return
        under_way, role.transfer = role.transfer, None
        old(self, *arguments)
        role.transfer = under_way

    patches.set(Core, name, propose)


@breaks("a vote goes only to a log at least as up to date, also where leadership is transferred", "Raft 5.4.1", faults=TRANSFERS)
def transfer_without_comparing_logs(patches: Patches) -> None:
    old = election._why_no_vote

    def why_no_vote(state: State, message: VoteRequest, now: float) -> str:
        reason = old(state, message, now)
        return "" if message.transfers and "its log ends at" in reason else reason

    patches.set(election, "_why_no_vote", why_no_vote)
