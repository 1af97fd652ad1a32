"""Clients of a seed: they write, read and compare-and-set a few keys, follow the leader, and record each answer in the history.

A client has one request at a time. A refusal is repeated elsewhere; an unknown outcome is recorded as unknown and never
repeated: the client goes on under a new number, since its old request may still take effect.
"""

from collections.abc import Sequence
from random import Random
from typing import Final

from bargetrio.protocol.requests import Delete, DeleteAnswer, ErrorAnswer, Get, GetAnswer, Put, PutAnswer
from bargetrio.raft.messages import NodeId
from bargetrio.simulator.answers import NO_LEADER_BACKOFF, AnyAnswer
from bargetrio.simulator.linearizability import Operation
from bargetrio.simulator.server import Server
from bargetrio.simulator.world import World

KEYS: Final = ("k0", "k1", "k2", "k3", "k4")
CLIENTS: Final = 4
PAUSE_S: Final = 0.2
"""Mean time between a client's requests: faults and all, four of them make about ten operations a second."""
GIVE_UP_S: Final = 1.5
REFUSALS: Final = frozenset({"not_leader", "no_leader", "overloaded"})
"""Errors of requests that were not proposed: they are asked again."""
BURST_KEYS: Final = tuple(f"b{number}" for number in range(30))
"""One for each write of a burst: many unknown outcomes on one key make the linearizability check expensive."""
PATIENCE_S: Final = 0.4
"""A read without an answer for this long is sent to another node; a write is not."""


Quiet = Sequence[tuple[float, float]]
"""Periods in which no client sends a request."""


class Call:
    """One request until its answer; implements answers.Asker."""

    def __init__(self, client: "WorkloadClient", process: int, request: Put | Delete | Get, key: str, called: float) -> None:
        self.client = client
        self.process = process
        self.request = request
        self.key = key
        self.called = called
        self.tries = 0
        self.done = False

    @property
    def is_read(self) -> bool:
        """Whether nothing is changed by it."""
        return isinstance(self.request, Get)

    def answered(self, answer: AnyAnswer) -> None:
        """Pass the answer to the client after the network's delay."""
        self.client.later(self.client.on_answer, self, answer)


class WorkloadClient:
    """One client; `history` is shared by all."""

    def __init__(
        self,
        number: int,
        world: World,
        servers: Sequence[Server],
        history: list[Operation],
        until: float,
        quiet: Quiet = (),
        long_values: tuple[int, int] = (400, 4000),
        give_up_s: float = GIVE_UP_S,
    ) -> None:
        self.acknowledged = 0
        self._give_up_s = give_up_s
        self._number = number
        self._process = number
        self._world = world
        self._servers = servers
        self._history = history
        self._until = until
        self._quiet = quiet
        self._long_values = long_values
        """Sizes, in bytes, of one of ten values."""
        self._random: Random = world.random(f"client {number}")
        self._stray = 0.7 if number == CLIENTS - 1 else 0.1
        self._target = self._random.randrange(len(servers))
        self._known: dict[str, tuple[str | None, int]] = {}
        self._writes = 0
        self._present: Call | None = None
        self._pause()

    # -- asking ----------------------------------------------------------------------------------------------------------

    def _pause(self) -> None:
        moment = self._world.now + self._random.expovariate(1 / PAUSE_S)
        for start, end in self._quiet:
            if start <= moment < end:
                moment = end
        self._world.at(moment, self._ask)

    def _ask(self) -> None:
        if self._world.now < self._until:
            if self._random.random() < self._stray / 2:
                self._target = self._random.randrange(len(self._servers))
            key = self._random.choice(KEYS)
            self._present = self.call(self._request(key), key)

    def burst(self, node_id: NodeId, count: int) -> None:
        """Send many writes at once to this node, beside what is under way; each is a process of its own."""
        self._target = node_id
        for key in BURST_KEYS[:count]:
            self._process += CLIENTS
            self._writes += 1
            self.call(Put(id=0, key=key, value=f"{self._number}.{self._writes}"), key)
        self._process += CLIENTS

    def _request(self, key: str) -> Put | Delete | Get:
        """Draw what to do with `key`."""
        what = self._random.random()
        if what < 0.4:
            return Get(id=0, key=key)
        self._writes += 1
        value = f"{self._number}.{self._writes}"
        if self._random.random() < 0.1:
            value += " " + "x" * self._random.randint(*self._long_values)
        if what < 0.7:
            return Put(id=0, key=key, value=value)
        if what < 0.88:
            return Put(id=0, key=key, value=value, if_index=self._known.get(key, (None, 0))[1])
        if what < 0.93:
            return Put(id=0, key=key, value=value, if_absent=True)
        if what < 0.97:
            return Delete(id=0, key=key)
        return Delete(id=0, key=key, if_index=self._known.get(key, (None, 0))[1])

    def call(self, request: Put | Delete | Get, key: str) -> Call:
        """Begin a request."""
        call = Call(self, self._process, request, key, self._world.now)
        self._send(call)
        self._world.after(self._give_up_s, self.on_unknown, call)
        return call

    def _send(self, call: Call) -> None:
        if call.done:
            return
        call.tries += 1
        self.later(self._arrive, call, call.tries)
        if call.is_read:
            self._world.after(PATIENCE_S, self._ask_elsewhere, call, call.tries)

    def _arrive(self, call: Call, tries: int) -> None:
        if call.done or tries != call.tries:
            return
        if not self._servers[self._target].take_request(call, call.request):
            self.later(self.on_refused, call, None)

    def _ask_elsewhere(self, call: Call, tries: int) -> None:
        if not call.done and call.tries == tries:
            self.on_refused(call, None)

    def later(self, action: object, *arguments: object) -> None:
        """Call `action` after the delay between client and server; nothing is lost on this way."""
        self._world.after(0.0002 + self._random.random() * 0.002, action, *arguments)  # type: ignore[arg-type]

    # -- answers ---------------------------------------------------------------------------------------------------------

    def on_answer(self, call: Call, answer: AnyAnswer) -> None:
        """Record the answer."""
        if call.done:
            return
        match answer:
            case PutAnswer():
                self._known[call.key] = (None, answer.index)
                self._end(call, "applied", index=answer.index)
            case DeleteAnswer():
                self._known[call.key] = (None, 0)
                self._end(call, "applied", index=answer.index, deleted=answer.deleted)
            case GetAnswer():
                self._known[call.key] = (answer.value, answer.index)
                self._end(call, "applied", index=answer.index, value=answer.value)
            case ErrorAnswer(error="precondition_failed"):
                self._end(call, "refused")
            case ErrorAnswer() if answer.error in REFUSALS or call.is_read:
                self.on_refused(call, answer.leader)
            case ErrorAnswer() if answer.applied is None:
                self.on_unknown(call)
            case _:
                raise AssertionError(f"{answer} for {call.request}")

    def on_refused(self, call: Call, leader: NodeId | None) -> None:
        """Retry after a pause: at the leader, if one was named, or at another node."""
        if call.done:
            return
        count = len(self._servers)
        stray = self._random.random() < self._stray
        self._target = leader if leader is not None and not stray else self._random.randrange(count)
        # Without a leader, wait longer: the nodes need time to elect one.
        self._world.after(self._random.uniform(0.005, 0.05) * (1 if leader is not None else NO_LEADER_BACKOFF), self._send, call)

    def on_unknown(self, call: Call) -> None:
        """Give up; a write may still take effect, a read has none."""
        if call.done:
            return
        self._target = self._random.randrange(len(self._servers))
        self._end(call, "unknown")
        self._process += CLIENTS

    def _end(
        self, call: Call, effect: str, index: int | None = None, value: str | None = None, deleted: bool | None = None
    ) -> None:
        call.done = True
        request = call.request
        self.acknowledged += effect != "unknown"
        self._history.append(
            Operation(
                process=call.process,
                kind="get" if isinstance(request, Get) else "put" if isinstance(request, Put) else "delete",
                key=call.key,
                called=call.called,
                ended=None if effect == "unknown" else self._world.now,
                effect=effect,  # type: ignore[arg-type]  # one of the three
                value=request.value if isinstance(request, Put) else value,
                index=index,
                if_index=None if isinstance(request, Get) else request.if_index,
                if_absent=isinstance(request, Put) and request.if_absent,
                deleted=deleted,
            )
        )
        if call is self._present:
            self._pause()
