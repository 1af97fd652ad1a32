"""Clients of ring 2: half of them use REST, half the forwarder; what is certainly not applied is retried."""

import json
from random import Random
from typing import Any

import trio

from bargetrio.cluster.cluster import Cluster
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.requests import Delete, DeleteAnswer, Get, GetAnswer, Put, PutAnswer, Write
from bargetrio.simulator.linearizability import Operation
from bargetrio.simulator.stack.http import HttpAnswer, ask
from bargetrio.simulator.stack.ledger import Effect, Ledger
from bargetrio.web.guard import App

KEYS = ("k0", "k1", "k2")
CLIENTS = 6
PAUSE_S = 0.25
BULK_PAUSE_S = 0.4

NEARLY_FULL = "is nearly full"
TOO_MANY = "too many writes wait"
JSON = {"content-type": "application/json"}


class RequestResult:
    """The meaning of an answer: `effect` None if it certainly had none and may be retried."""

    def __init__(
        self,
        effect: str | None,
        value: str | None = None,
        index: int | None = None,
        deleted: bool | None = None,
        created: bool | None = None,
    ) -> None:
        self.effect = effect
        self.value = value
        self.index = index
        self.deleted = deleted
        self.created = created


class StackClient:
    """One client; one request at a time."""

    def __init__(self, number: int, cluster: Cluster, app: App, random: Random, history: list[Operation], ledger: Ledger) -> None:
        self._number = number
        self.large_values = False
        """Whether one of ten values has 5 to 50 kB."""
        self.refused_no_room = 0
        """How many writes were refused because the leader's disk is nearly full, as far as the forwarder reported it."""
        self.refused_overload = 0
        """The same, because too many writes waited to be committed."""
        self._process = number
        self._cluster = cluster
        self._app = app
        self._random = random
        self._history = history
        self._ledger = ledger
        self._known: dict[str, int] = {}
        self._writes = 0

    async def run(self, until: float) -> None:
        """Send requests until that time."""
        while trio.current_time() < until:
            await trio.sleep(self._random.expovariate(1 / PAUSE_S))
            await self.ask(self._random.choice(KEYS), self._random.random())

    async def ask(self, key: str, what: float) -> Operation | None:
        """Send a request, retried without effect, until there is an outcome or 3 s pass; below 0.4 `what` means a read."""
        request = self._request(key, what)
        called = trio.current_time()
        result = RequestResult(None)
        while result.effect is None and trio.current_time() < called + 3:
            result = await (self._by_rest(request) if self._number % 2 else self._directly(request))
            if not isinstance(request, Get):
                note(self._ledger, request, result, "REST" if self._number % 2 else "forwarder")
            if result.effect is None:
                await trio.sleep(self._random.uniform(0.01, 0.1))
        if result.effect is None or (result.effect == "unknown" and isinstance(request, Get)):
            return None
        return self._note(request, called, result)

    def _request(self, key: str, what: float) -> Put | Get | Delete:
        if what < 0.4:
            return Get(id=0, key=key)
        self._writes += 1
        value = f"{self._number}.{self._writes}"
        if self.large_values and self._random.random() < 0.1:
            value += " " + "x" * self._random.randint(5_000, 50_000)
        last = self._known.get(key, 0)
        if what < 0.7:
            return Put(id=0, key=key, value=value)
        if what < 0.88:
            return Put(id=0, key=key, value=value, if_index=last)
        if what < 0.93:
            return Put(id=0, key=key, value=value, if_absent=True)
        return Delete(id=0, key=key, if_index=last if what > 0.97 and last else None)

    def _note(self, request: Put | Get | Delete, called: float, result: RequestResult) -> Operation:
        if result.effect == "applied":
            self._known[request.key] = 0 if isinstance(request, Delete) else result.index or 0
        operation = Operation(
            process=self._process,
            kind="get" if isinstance(request, Get) else "put" if isinstance(request, Put) else "delete",
            key=request.key,
            called=called,
            ended=None if result.effect == "unknown" else trio.current_time(),
            effect=result.effect,  # type: ignore[arg-type]  # one of the three
            value=request.value if isinstance(request, Put) else result.value,
            index=result.index,
            if_index=None if isinstance(request, Get) else request.if_index,
            if_absent=isinstance(request, Put) and request.if_absent,
            deleted=result.deleted,
        )
        if result.effect == "unknown":
            self._process += CLIENTS
        self._history.append(operation)
        return operation

    async def _directly(self, request: Put | Get | Delete) -> RequestResult:
        try:
            answer = await self._cluster.execute(request)
        except BargeError as error:
            if error.code == "precondition_failed":
                return RequestResult("refused")
            self.refused_no_room += NEARLY_FULL in error.detail
            self.refused_overload += TOO_MANY in error.detail
            return RequestResult("unknown" if error.applied is None else None)
        match answer:
            case PutAnswer():
                return RequestResult("applied", index=answer.index, created=answer.created is True)
            case GetAnswer():
                return RequestResult("applied", value=answer.value, index=answer.index)
            case DeleteAnswer():
                return RequestResult("applied", index=answer.index, deleted=answer.deleted)
            case _:
                raise AssertionError(answer)

    async def _by_rest(self, request: Put | Get | Delete) -> RequestResult:
        path = f"/keys/{request.key}"
        match request:
            case Get():
                return _result_of_get(await ask(self._app, "GET", path))
            case Put():
                headers = dict(JSON)
                if request.if_index is not None:
                    headers["if-match"] = f'"{request.if_index}"'
                if request.if_absent:
                    headers["if-none-match"] = "*"
                body = json.dumps({"value": request.value}).encode()
                return _result_of_write(await ask(self._app, "PUT", path, body, headers))
            case Delete():
                headers = {} if request.if_index is None else {"if-match": f'"{request.if_index}"'}
                return _result_of_write(await ask(self._app, "DELETE", path, b"", headers))


class BulkWriter:
    """Writes lines in batches by NDJSON, each a unique put under keys of its own."""

    def __init__(self, app: App, random: Random, ledger: Ledger) -> None:
        self._app = app
        self._random = random
        self._ledger = ledger
        self._writes = 0

    async def run(self, until: float) -> None:
        """Write until that time; failed writes are not retried."""
        while trio.current_time() < until:
            await trio.sleep(self._random.expovariate(1 / BULK_PAUSE_S))
            puts = [self._put() for _ in range(self._random.randint(1, 6))]
            body = b"".join(json.dumps(_fields(put)).encode() + b"\n" for put in puts)
            answer = await ask(self._app, "POST", "/keys", body, {"content-type": "application/x-ndjson"})
            lines = {} if answer.status != 200 else {line["line"]: line for line in map(json.loads, answer.body.splitlines())}
            for number, put in enumerate(puts, 1):
                result = _result_of_line(lines.get(number)) if answer.status == 200 else _result_of_write(answer)
                note(self._ledger, put, result, "a bulk write's line")

    def _put(self) -> Put:
        self._writes += 1
        what = self._random.random()
        key = f"bulk{self._random.randrange(4)}"
        return Put(id=0, key=key, value=f"bulk {self._writes}", if_absent=what < 0.2, if_index=0 if what > 0.9 else None)


def note(ledger: Ledger, request: Write, result: RequestResult, way: str) -> None:
    """Record the outcome of a write."""
    effects: dict[str | None, Effect] = {None: "not done", "applied": "applied", "refused": "refused", "unknown": "unknown"}
    ledger.note(request, effects[result.effect], way, index=result.index, created=result.created, deleted=result.deleted)


def _fields(put: Put) -> dict[str, Any]:
    fields: dict[str, Any] = {"key": put.key, "value": put.value}
    if put.if_index is not None:
        fields["if_index"] = put.if_index
    return {**fields, "if_absent": True} if put.if_absent else fields


def _result_of_line(line: dict[str, Any] | None) -> RequestResult:
    if line is None:
        return RequestResult("unknown")
    if line["ok"]:
        return RequestResult("applied", index=line["index"])
    if line["error"] == "precondition_failed":
        return RequestResult("refused")
    return RequestResult("unknown" if line["applied"] is None else None)


def _result_of_get(answer: HttpAnswer) -> RequestResult:
    if answer.status == 200:
        return RequestResult("applied", value=answer.json["value"], index=answer.json["index"])
    if answer.status == 404:
        return RequestResult("applied", index=0)
    return RequestResult(None)


def _result_of_write(answer: HttpAnswer) -> RequestResult:
    if answer.status in (200, 201):
        return RequestResult("applied", index=answer.json["index"], created=answer.status == 201)
    if answer.status == 204:
        return RequestResult("applied", index=int(answer.headers["barge-index"]), deleted=True)
    problem = answer.json
    if answer.status == 404 and problem["error"] == "not_found":
        return RequestResult("applied", deleted=False)
    if answer.status == 412:
        return RequestResult("refused")
    if problem["applied"] is None:
        return RequestResult("unknown")
    assert answer.status == 503, problem
    return RequestResult(None)
