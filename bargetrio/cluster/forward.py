"""Requests of this daemon's own clients, carried to the leader over the client protocol and through elections.

A write is sent again only if it is certain that it was never proposed. Once its line has left and the connection is cut, nobody
knows (BUG-47): the caller is told so.
"""

import logging
from collections.abc import Callable
from typing import Any, Final, overload

import msgspec
import trio

from bargetrio.protocol.addresses import parse_address
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.hello import ClientHello, NodeHello, answer_decoder
from bargetrio.protocol.limits import LINE_BYTES, PROTOCOL_VERSION
from bargetrio.protocol.lines import LineReader, LineTooLong
from bargetrio.protocol.requests import (
    Answer,
    Delete,
    DeleteAnswer,
    ErrorAnswer,
    Get,
    GetAnswer,
    List,
    ListAnswer,
    Put,
    PutAnswer,
    Request,
)
from bargetrio.transport.stream import Broken, Connection, Network

log = logging.getLogger(__name__)

GoodAnswer = PutAnswer | GetAnswer | DeleteAnswer | ListAnswer

DIAL_S: Final = 1.0
PAUSE_S: Final = 0.02
"""How long to wait before looking for the leader again."""
GRACE_S: Final = 0.25
"""How much longer than the node's own time-out we wait, so that its answer comes first."""

WATCH_S: Final = 0.1
WRITE_GRACE_S: Final = 1.0
READ_GRACE_S: Final = 0.2
"""How long a node that was asked may still answer after somebody else leads: it may be deposed, or stand still."""

_encode: Final = msgspec.json.Encoder().encode
_decode_envelope: Final = msgspec.json.Decoder(Answer).decode
_decode_error: Final = msgspec.json.Decoder(ErrorAnswer).decode
_DECODE: Final[dict[type[Request], Callable[[bytes], Any]]] = {
    Put: msgspec.json.Decoder(PutAnswer).decode,
    Get: msgspec.json.Decoder(GetAnswer).decode,
    Delete: msgspec.json.Decoder(DeleteAnswer).decode,
    List: msgspec.json.Decoder(ListAnswer).decode,
}


class Cut(Exception):
    """The connection ended after the request had left."""


class NotSent(Exception):
    """There is no connection: the request has not left."""


class NodeLink:
    """A connection to one node as its client, dialled when first needed; requests are pipelined."""

    def __init__(self, address: str, cluster: str, network: Network, nursery: trio.Nursery) -> None:
        self._address = address
        self._cluster = cluster
        self._network = network
        self._nursery = nursery
        self._connection: Connection | None = None
        self._dialling = trio.Lock()
        self._waiting: dict[int, _Waiter] = {}
        self._last_id = 0

    async def ask(self, request: Request) -> GoodAnswer | ErrorAnswer:
        """Send and wait for the answer; raise NotSent or Cut. Cancelled, the request may still take effect."""
        connection = await self._connected()
        self._last_id += 1
        number = self._last_id
        waiter = self._waiting[number] = _Waiter()
        try:
            connection.post(_encode(msgspec.structs.replace(request, id=number)) + b"\n")
            await waiter.event.wait()
        finally:
            self._waiting.pop(number, None)
        if waiter.line is None:
            raise Cut("the connection was cut")
        if _decode_envelope(waiter.line).ok:
            answer: GoodAnswer = _DECODE[type(request)](waiter.line)
            return answer
        return _decode_error(waiter.line)

    async def _connected(self) -> Connection:
        async with self._dialling:
            if self._connection is None:
                try:
                    with trio.fail_after(DIAL_S):
                        connection, reader, lines = await self._dial()
                except (OSError, Broken, trio.TooSlowError, LineTooLong, msgspec.DecodeError) as problem:
                    raise NotSent(f"{self._address}: {problem}") from None
                self._connection = connection
                self._nursery.start_soon(self._serve, connection, reader, lines)
            return self._connection

    async def _dial(self) -> tuple[Connection, LineReader, list[bytes]]:
        connection = await self._network.connect(*parse_address(self._address))
        try:
            connection.post(_encode(ClientHello(protocol=PROTOCOL_VERSION, cluster=self._cluster)) + b"\n")
            reader = LineReader(LINE_BYTES)
            lines: list[bytes] = []
            while not lines:
                data = await connection.receive()
                if not data:
                    raise Broken("closed before its hello")
                lines = reader.feed(data)
            hello = answer_decoder.decode(lines[0])
            if not isinstance(hello, NodeHello):
                raise Broken(f"refused: {hello.detail}")
            return connection, reader, lines[1:]
        except BaseException:
            connection.close()
            raise

    async def _serve(self, connection: Connection, reader: LineReader, lines: list[bytes]) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.write)
                await self._read(connection, reader, lines)
                nursery.cancel_scope.cancel()
        except Exception as problem:  # one connection's bug is not the daemon's end
            log.error("the connection to %s ended by an error", self._address, exc_info=problem)
        finally:
            connection.close()
            self._connection = None
            for waiter in self._waiting.values():
                waiter.event.set()

    async def _read(self, connection: Connection, reader: LineReader, lines: list[bytes]) -> None:
        try:
            while True:
                for line in lines:
                    waiter = self._waiting.get(_decode_envelope(line).id)
                    if waiter is not None:
                        waiter.line = line
                        waiter.event.set()
                data = await connection.receive()
                if not data:
                    return
                lines = reader.feed(data)
        except (Broken, LineTooLong, msgspec.DecodeError):
            return  # an answer without id is the node's goodbye: this side sent what it does not take


class _Waiter:
    __slots__ = ("event", "line")

    def __init__(self) -> None:
        self.event = trio.Event()
        self.line: bytes | None = None


class _Ask:
    """A request that a node was sent; cancelled when that node no longer leads and does not say so itself."""

    __slots__ = ("grace_s", "moved_at", "node_id", "scope")

    def __init__(self, node_id: int, grace_s: float) -> None:
        self.node_id = node_id
        self.grace_s = grace_s
        self.moved_at: float | None = None
        self.scope = trio.CancelScope()


class Forwarder:
    """Finds the leader for each request and stays with it until there is an answer or the time is over."""

    def __init__(
        self,
        *,
        cluster: str,
        addresses: dict[int, str],
        request_timeout_s: float,
        leader_hint: Callable[[], int | None],
        local_ids: Callable[[], list[int]],
        can_lead: Callable[[int], bool],
        network: Network,
        nursery: trio.Nursery,
    ) -> None:
        self._request_timeout_s = request_timeout_s
        self._leader_hint = leader_hint
        self._local_ids = local_ids
        self._can_lead = can_lead
        self._node_ids = sorted(addresses)
        self._links = {node_id: NodeLink(address, cluster, network, nursery) for node_id, address in addresses.items()}
        self._told_leader: int | None = None
        self._turn = 0
        self._asks: dict[_Ask, None] = {}
        nursery.start_soon(self._watch)

    @overload
    async def execute(self, request: Put) -> PutAnswer: ...
    @overload
    async def execute(self, request: Get) -> GetAnswer: ...
    @overload
    async def execute(self, request: Delete) -> DeleteAnswer: ...
    @overload
    async def execute(self, request: List) -> ListAnswer: ...
    @overload
    async def execute(self, request: Request) -> GoodAnswer: ...
    async def execute(self, request: Request) -> GoodAnswer:
        """Return the good answer; raise BargeError. Waits at most the request time-out."""
        is_write = isinstance(request, (Put, Delete))
        sent = False
        why = "no node answers"
        with trio.move_on_after(self._request_timeout_s + GRACE_S) as scope:
            end = trio.current_time() + self._request_timeout_s
            while trio.current_time() < end:
                node_id = self._next_node(request)
                if node_id is None:
                    why = "no leader is known"
                    await trio.sleep(PAUSE_S)
                    continue
                try:
                    sent = is_write
                    answer = await self._ask(node_id, request, WRITE_GRACE_S if is_write else READ_GRACE_S)
                except NotSent as problem:
                    sent, why = False, str(problem)
                    self._forget(node_id)
                except Cut as problem:
                    self._forget(node_id)
                    if is_write:
                        raise _unknown(f"no answer of node {node_id}: {problem}") from problem
                    why = f"no answer of node {node_id}: {problem}"
                else:
                    sent = False
                    if not isinstance(answer, ErrorAnswer):
                        if not _is_stale(request):
                            self._told_leader = node_id
                        return answer
                    self._consider(answer, is_write)
                    why = answer.detail
                await trio.sleep(PAUSE_S)
        if scope.cancelled_caught and sent:
            raise _unknown("no answer in time; the write may still be applied")
        raise BargeError("no_leader", f"no leader within {self._request_timeout_s:g} s: {why}")

    async def _ask(self, node_id: int, request: Request, grace_s: float) -> GoodAnswer | ErrorAnswer:
        """Ask one node; raise Cut, too, when another leads and this one has been silent since."""
        ask = _Ask(node_id, grace_s)
        self._asks[ask] = None
        try:
            with ask.scope:
                return await self._links[node_id].ask(request)
        finally:
            self._asks.pop(ask, None)
        raise Cut("it does not answer, and another node leads now")

    async def _watch(self) -> None:
        """Look now and then who leads, for all that wait."""
        while True:
            await trio.sleep(WATCH_S)
            leader, now = self._leader_hint() if self._asks else None, trio.current_time()
            for ask in list(self._asks):
                if leader is None or leader == ask.node_id:
                    ask.moved_at = None
                elif ask.moved_at is None:
                    ask.moved_at = now
                elif now - ask.moved_at > ask.grace_s:
                    ask.scope.cancel()

    def _consider(self, answer: ErrorAnswer, is_write: bool) -> None:
        """Raise what ends the request; return if the leader must be looked for again."""
        if answer.error == "not_leader":
            self._told_leader = answer.leader
            return
        if answer.error == "no_leader" or (answer.error == "storage_failed" and not is_write):
            self._told_leader = None
            return
        raise answer.as_error()

    def _next_node(self, request: Request) -> int | None:
        if _is_stale(request):
            ids = self._local_ids() or self._node_ids
            self._turn += 1
            return ids[self._turn % len(ids)]
        leader = self._leader_hint()
        if leader is not None:
            return leader
        told = self._told_leader
        if told is not None and told in self._links and self._can_lead(told):
            return told
        others = [node_id for node_id in self._node_ids if self._can_lead(node_id) and node_id not in self._local_ids()]
        if not others:
            return None
        self._turn += 1
        return others[self._turn % len(others)]

    def _forget(self, node_id: int) -> None:
        if self._told_leader == node_id:
            self._told_leader = None


def _is_stale(request: Request) -> bool:
    return isinstance(request, (Get, List)) and request.read == "stale"


def _unknown(detail: str) -> BargeError:
    return BargeError("outcome_unknown", detail)
