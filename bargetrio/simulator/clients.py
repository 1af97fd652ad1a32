"""Clients of a seed: they write, read and compare-and-set a few keys, follow the leader, and remember what they were told.

A client has one request at a time. A refusal is repeated elsewhere; an unknown outcome is remembered as unknown and never
repeated: the client goes on under a new number, since its old request may still take effect.
"""

from collections.abc import Sequence
from random import Random
from typing import Final

from bargetrio.kv.commands import encode_command
from bargetrio.kv.store import ConditionFailed, Outcome, Removed, Store, Written
from bargetrio.protocol.requests import Delete, Put, Write
from bargetrio.raft.messages import Command, NodeId, Term
from bargetrio.simulator.linearizability import Operation
from bargetrio.simulator.server import Server
from bargetrio.simulator.world import World

KEYS: Final = ("k0", "k1", "k2", "k3", "k4")
CLIENTS: Final = 4
PAUSE_S: Final = 0.2
"""Mean time between a client's requests: faults and all, four of them make about ten operations a second."""
GIVE_UP_S: Final = 1.5
BURST_KEYS: Final = tuple(f"b{number}" for number in range(30))
"""One for each write of a burst: many to one key, of which nobody knows whether they were done, are hard to judge."""
PATIENCE_S: Final = 0.4
"""After so long without an answer a read is asked of another node; a write is not."""


Quiet = Sequence[tuple[float, float]]
"""Stretches of time in which nobody asks."""


class Call:
    """One request until its answer; implements port.Ticket."""

    def __init__(self, client: "Client", process: int, request: Write | None, key: str, called: float) -> None:
        self.client = client
        self.process = process
        self.request = request
        self.key = key
        self.called = called
        self.command: Command | None = None if request is None else encode_command(request)
        self.tries = 0
        self.done = False

    def committed(self, outcome: Outcome, index: int, term: Term) -> None:
        """The write was applied."""
        self.client.later(self.client.on_committed, self, outcome, index)

    def read_at(self, store: Store) -> None:
        """Look up the key now, and tell it a moment later."""
        stored = store.get(self.key)
        found = (None, 0) if stored is None else (stored.value, stored.index)
        self.client.later(self.client.on_read, self, *found)

    def refused(self, leader: NodeId | None) -> None:
        """Nothing was done."""
        self.client.later(self.client.on_refused, self, leader)

    def unknown(self) -> None:
        """Nobody can tell."""
        self.client.later(self.client.on_unknown, self)


class Client:
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

    def _request(self, key: str) -> Write | None:
        """Draw what to do with `key`; None is a read."""
        what = self._random.random()
        if what < 0.4:
            return None
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

    def call(self, request: Write | None, key: str) -> Call:
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
        if call.request is None:
            self._world.after(PATIENCE_S, self._ask_elsewhere, call, call.tries)

    def _arrive(self, call: Call, tries: int) -> None:
        if call.done or tries != call.tries:
            return
        if not self._servers[self._target].take_request(call, call.command):
            self.later(self.on_refused, call, None)

    def _ask_elsewhere(self, call: Call, tries: int) -> None:
        if not call.done and call.tries == tries:
            self.on_refused(call, None)

    def later(self, action: object, *arguments: object) -> None:
        """Do it after the way between client and server, which loses nothing but takes its time."""
        self._world.after(0.0002 + self._random.random() * 0.002, action, *arguments)  # type: ignore[arg-type]

    # -- answers ---------------------------------------------------------------------------------------------------------

    def on_committed(self, call: Call, outcome: Outcome, index: int) -> None:
        """Remember what the write was told."""
        if call.done:
            return
        match outcome:
            case Written():
                self._known[call.key] = (None, index)
                self._end(call, "applied", index=index)
            case Removed():
                self._known[call.key] = (None, 0)
                self._end(call, "applied", index=index, deleted=outcome.deleted)
            case ConditionFailed():
                self._end(call, "refused")
            case _:
                raise AssertionError(f"{outcome} for a write")

    def on_read(self, call: Call, value: str | None, index: int) -> None:
        """Remember what the read returned."""
        if not call.done:
            self._known[call.key] = (value, index)
            self._end(call, "applied", index=index, value=value)

    def on_refused(self, call: Call, leader: NodeId | None) -> None:
        """Ask the leader, if one was named, or somebody else, after a moment."""
        if call.done:
            return
        count = len(self._servers)
        stray = self._random.random() < self._stray
        self._target = leader if leader is not None and not stray else self._random.randrange(count)
        self._world.after(self._random.uniform(0.005, 0.05), self._send, call)

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
                kind="get" if request is None else "put" if isinstance(request, Put) else "delete",
                key=call.key,
                called=call.called,
                ended=None if effect == "unknown" else self._world.now,
                effect=effect,  # type: ignore[arg-type]  # one of the three
                value=request.value if isinstance(request, Put) else value,
                index=index,
                if_index=None if request is None else request.if_index,
                if_absent=isinstance(request, Put) and request.if_absent,
                deleted=deleted,
            )
        )
        if call is self._present:
            self._pause()
