"""Linearizable reads without a log entry: ReadIndex (Ongaro 6.4).

A read that arrived before a round of heartbeats was sent may be answered from the state at `read_index`, once a majority has
answered that round: no other leader can have committed anything in between. Replies carry the round's number, so a late reply to
an earlier round confirms nothing (BUG-44).
"""

from collections.abc import Callable
from typing import Final

from bargetrio.raft import appends
from bargetrio.raft.effects import ReadReady, ReturnedTicket
from bargetrio.raft.facts import ReadServed
from bargetrio.raft.quorum import committed_index
from bargetrio.raft.roles import Leader, ReadRound
from bargetrio.raft.state import State

ROUNDS_UNDER_WAY: Final = 2
"""Reads that come while this many rounds are unanswered wait, and share the next one: under load a round serves hundreds."""


def start_round(state: State, leader: Leader) -> None:
    """Start one round of heartbeats for all waiting reads; not before an entry of the own term is committed (BUG-42).

    If a round's heartbeats are lost, the next regular ones carry its number.
    """
    if not leader.new_reads or state.commit_index < leader.term_start or len(leader.rounds) >= ROUNDS_UNDER_WAY:
        return
    leader.round += 1
    leader.rounds.append(ReadRound(leader.round, state.commit_index, leader.new_reads))
    leader.new_reads = []
    for peer, progress in leader.progress.items():
        appends.send_empty(state, leader, peer, progress)


def confirm(leader: Leader) -> None:
    """Move the rounds that a majority has acknowledged from `rounds` to `confirmed`."""
    if not leader.rounds:
        return
    acknowledged = [progress.acknowledged_round if progress.is_counted else 0 for progress in leader.progress.values()]
    acknowledged.append(leader.round)
    confirmed = committed_index(acknowledged)
    while leader.rounds and leader.rounds[0].number <= confirmed:
        leader.confirmed.append(leader.rounds.popleft())


def release(state: State, leader: Leader) -> None:
    """Answer the reads whose round a majority has acknowledged and whose index is applied."""
    confirm(leader)
    while leader.confirmed and leader.confirmed[0].read_index <= state.last_applied:
        ready = leader.confirmed.popleft()
        state.announce(ReadServed(term=state.current_term, index=ready.read_index, count=len(ready.tickets), round=ready.number))
        state.emit(ReadReady(ready.tickets, ready.read_index))


def forget(leader: Leader, is_over: Callable[[ReturnedTicket], bool]) -> None:
    """Drop the oldest reads while `is_over` is true of them: a leader that cannot commit or apply must not accumulate them."""
    for waiting in (leader.new_reads, *[under_way.tickets for under_way in (*leader.rounds, *leader.confirmed)]):
        count = 0
        while count < len(waiting) and is_over(waiting[count]):
            count += 1
        del waiting[:count]
