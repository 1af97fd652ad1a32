"""Planted bugs about reads, and about the answers to clients."""

from typing import Any

from msgspec import structs

from bargetrio.kv.store import Store
from bargetrio.raft import appends, reads, replication
from bargetrio.raft.core import Core
from bargetrio.raft.effects import ProposalRefused, ReadReady
from bargetrio.raft.messages import AppendReply
from bargetrio.raft.roles import Leader, ReadRound
from bargetrio.raft.state import State
from bargetrio.simulator.breaks.registry import Patches, breaks, misreads
from bargetrio.simulator.clients import Call, WorkloadClient


@breaks("no read before an entry of the own term is committed", "6.4; BUG-42")
def read_before_first_commit(patches: Patches) -> None:
    def start_round(core: Core, leader: Leader) -> None:
        if not leader.new_reads:
            return
        leader.round += 1
        leader.rounds.append(ReadRound(leader.round, core.commit_index, leader.new_reads))
        leader.new_reads = []
        for peer, progress in leader.progress.items():
            appends.send_empty(core, leader, peer, progress)

    patches.set(reads, "start_round", start_round)


@breaks("a read is confirmed by a majority", "6.4; BUG-43")
def read_without_quorum(patches: Patches) -> None:
    def release(core: Core, leader: Leader) -> None:
        while leader.rounds:
            ready = leader.rounds.popleft()
            core.emit(ReadReady(ready.tickets, ready.read_index))

    patches.set(reads, "release", release)


@breaks("only answers to a later round confirm a read", "6.4; BUG-44")
def any_answer_confirms_a_read(patches: Patches) -> None:
    def misread(core: Core, message: AppendReply) -> AppendReply:
        return structs.replace(message, round=core.role.round) if isinstance(core.role, Leader) else message

    misreads(patches, replication, "on_append_reply", misread)


@breaks("an unknown outcome is not reported as a refusal", "docs/architecture.md; BUG-47")
def unknown_called_refused(patches: Patches) -> None:
    old = State._fail_pending

    def close_office(self: State, leader: Leader, leader_id: int | None) -> None:
        for ticket in leader.tickets:
            if ticket is not None:
                self.emit(ProposalRefused(ticket, "not_leader", leader_id))
        leader.tickets.clear()
        old(self, leader, leader_id)

    patches.set(State, "_fail_pending", close_office)


@breaks("a client does not repeat a write whose outcome is unknown", "BUG-47")
def unknown_repeated(patches: Patches) -> None:
    old = WorkloadClient.on_unknown

    def on_unknown(self: WorkloadClient, call: Call) -> None:
        if not call.done and not call.is_read and call.tries < 20:
            call.client.on_refused(call, None)
            self._world.after(1.5, self.on_unknown, call)
        else:
            old(self, call)

    patches.set(WorkloadClient, "on_unknown", on_unknown)


@breaks("a condition is evaluated when the write is applied", "docs/architecture.md")
def condition_ignored(patches: Patches) -> None:
    old = Store._put

    def put(self: Store, command: Any, index: int) -> Any:
        return old(self, structs.replace(command, if_index=None), index)

    patches.set(Store, "_put", put)
