"""Readers in ring 2 beside the clients: ranges by REST and by the forwarder, stale reads of single nodes, and backups.

Each answer is compared with what the log makes of the keys at the index that it states (simulator/lists.py).
"""

from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any, Final
from urllib.parse import urlencode
from zlib import crc32

import msgspec
import trio
from msgspec import Raw

from bargetrio.cluster.cluster import Cluster
from bargetrio.cluster.in_flight import RequestBatch
from bargetrio.cluster.node_link import NodeLink
from bargetrio.eventlog.host_facts import HostFact
from bargetrio.eventlog.recorder import Recorder
from bargetrio.kv.commands import Stored
from bargetrio.kv.store import Outcome, Store
from bargetrio.protocol.errors import BargeError, NoAnswer, NotSent
from bargetrio.protocol.requests import Delete, Get, GetAnswer, Item, List, ListAnswer, Put
from bargetrio.raft import core as raft_core
from bargetrio.raft.core import Core
from bargetrio.raft.facts import AppendSent, Applied, CommitAdvanced, Fact
from bargetrio.raft.log import Log
from bargetrio.raft.messages import Command, Entry, Term
from bargetrio.raft.roles import Leader
from bargetrio.simulator.goals import look_at_window
from bargetrio.simulator.linearizability import Operation
from bargetrio.simulator.lists import OWN_KEYS, Page, Range, StaleReads, check_order, check_page
from bargetrio.simulator.memory import Breach, Committed
from bargetrio.simulator.snapshot_labels import BytesFile
from bargetrio.simulator.stack.http import HttpAnswer, ask
from bargetrio.simulator.stack.tails import Tails
from bargetrio.storage.errors import DamagedSnapshot
from bargetrio.storage.snapshots import read_snapshot
from bargetrio.web.guard import App

PAUSE_S: Final = 0.15
PATIENCE_S: Final = 3.0


class States(Recorder):
    """The recorder of ring 2; it also keeps what all keys hold after each committed entry, from a store without faults."""

    def __init__(self, core_of: Callable[[int], Core], tails: Tails, hit: Callable[..., None], run: str, **options: Any) -> None:
        super().__init__(run, **options)
        self.tails = tails
        self._hit = hit
        self.states: list[dict[str, Stored]] = [{}]
        self.commands: list[Raw] = [Raw(b"null")]
        self.outcomes: list[Outcome] = [None]
        """By index: the committed entries' commands, and the outcome of each."""
        self._reference = Store()
        self._core_of = core_of

    def begin_with(self, term: Term, commands: list[Command]) -> None:
        """All nodes begin with a backup in which these were committed."""
        log = Log([Entry(term, command) for command in commands])
        for index, command in enumerate(commands, 1):
            self.commands.append(command)
            self.outcomes.append(self._reference.apply(command, index))
            self.states.append(dict(self._reference.stored))
            self.tails.committed.append(Committed(term, log.digest(index), term))

    def stage(self, node_id: int | None, fact: Fact | HostFact) -> None:
        """The first node that reports an entry as committed still has it."""
        if isinstance(fact, CommitAdvanced) and fact.index >= len(self.states):
            assert node_id is not None
            log = self._core_of(node_id).log
            for index in range(len(self.states), fact.index + 1):
                self.commands.append(log.entry(index).command)
                self.outcomes.append(self._reference.apply(self.commands[index], index))
                self.states.append(dict(self._reference.stored))
        self._count(node_id, fact)
        if node_id is not None:
            self.tails.take(node_id, fact)
        super().stage(node_id, fact)

    def _count(self, node_id: int | None, fact: Fact | HostFact) -> None:
        """Count what ends appends and slices of the log that are applied."""
        if node_id is None or not isinstance(fact, (AppendSent, Applied)):
            return
        core = self._core_of(node_id)
        if isinstance(core.role, Leader) and isinstance(fact, AppendSent) and fact.count:
            look_at_window(core.role, core, self._hit)
        elif isinstance(fact, Applied) and core.log.start_index < fact.first_index and fact.index < core.commit_index:
            is_full = fact.index - fact.first_index + 1 >= raft_core.APPLY_SLICE
            size = core.log.bytes_between(fact.first_index - 1, fact.index + 1)
            if not is_full and size > raft_core.APPLY_BYTES:
                self._hit("apply_cut_by_bytes")


class StackReader:
    """One reader; requests are not retried."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        app: App,
        links: dict[int, NodeLink],
        life_of: Callable[[int], int],
        random: Random,
        states: list[dict[str, Stored]],
        history: list[Operation],
        keys: tuple[str, ...],
        hit: Callable[..., None],
        slice_keys: int,
    ) -> None:
        self._slice_keys = slice_keys
        self.pages: list[Page] = []
        self._hit = hit
        self._cluster = cluster
        self._app = app
        self._links = links
        self._life_of = life_of
        self._random = random
        self._states = states
        self._history = history
        self._keys = (*keys, *OWN_KEYS)
        self._stale = StaleReads()

    async def run(self, until: float) -> None:
        """Send requests until that time; raise Breach."""
        kinds = (self._walk, self._walk, self._write_and_leave, self._look, self._look, self._backup)
        while trio.current_time() < until:
            await trio.sleep(self._random.expovariate(1 / PAUSE_S))
            with trio.move_on_after(PATIENCE_S):
                await self._random.choice(kinds)()

    def judge(self) -> None:
        """Check all pages against the clients' history; raise Breach."""
        check_order(self.pages, self._history)

    async def _walk(self) -> None:
        """Read a range, page by page, until there is no answer."""
        by_rest = self._random.random() < 0.5
        walk = Range(self._random, self._keys)
        while True:
            called = trio.current_time()
            answer = await (self._list_by_rest(walk.asked) if by_rest else self._list(walk.asked))
            if answer is None:
                return
            page = self._page(walk.asked, answer, called)
            check_page(page, self._states)
            self.pages.append(page)
            if page.next is not None and len(page.items) < page.asked.limit:
                self._hit("page_cut_by_bytes")
            if not walk.go_on(page):
                return
            self._hit("list_goes_on")

    async def _list(self, asked: List) -> ListAnswer | None:
        with suppress(BargeError):
            answer = await self._cluster.execute(asked)
            assert isinstance(answer, ListAnswer)
            return answer
        return None

    async def _list_by_rest(self, asked: List) -> ListAnswer | None:
        query = {"prefix": asked.prefix, "after": asked.after, "limit": asked.limit, "keys_only": int(asked.keys_only)}
        answer = await ask(self._app, "GET", "/keys", query=urlencode(query))
        if answer.status != 200:
            return None
        found = answer.json
        if int(answer.headers["barge-index"]) != found["index"]:
            raise Breach("lists show the state at their index", f"the header says {answer.headers['barge-index']}: {found}")
        return ListAnswer(id=0, items=msgspec.convert(found["items"], list[Item]), next=found["next"], index=found["index"])

    async def _write_and_leave(self) -> None:
        """Write a key that is not checked, and perhaps do not wait for the answer."""
        key = self._random.choice(OWN_KEYS)
        request = Put(id=0, key=key, value=f"{trio.current_time():.3f}") if self._random.random() < 0.7 else Delete(id=0, key=key)
        with trio.move_on_after(self._random.choice((0.001, 0.01, 0.05, 2.0))), suppress(BargeError):
            await self._cluster.execute(request)

    async def _look(self) -> None:
        """Read from one node, at read level stale."""
        node_id = self._random.choice(list(self._links))
        life, called = self._life_of(node_id), trio.current_time()
        walk = Range(self._random, self._keys).asked
        asked: Get | List = List(
            id=0, prefix=walk.prefix, after=walk.after, limit=walk.limit, keys_only=walk.keys_only, read="stale"
        )
        if self._random.random() < 0.5:
            asked = Get(id=0, key=self._random.choice(self._keys), read="stale")
        batch = RequestBatch([asked])
        with suppress(NoAnswer, NotSent):
            await self._links[node_id].ask(batch)
        (answer,) = batch.answers
        if life != self._life_of(node_id):
            return  # the node may have been restarted
        if isinstance(answer, ListAnswer) and isinstance(asked, List):
            self._stale.page(self._page(asked, answer, called, node_id, life), self._states)
        elif isinstance(answer, GetAnswer):
            self._stale.get(node_id, life, answer, self._states)

    async def _backup(self) -> None:
        """A backup covers all writes answered before its request, is complete, and matches its headers."""
        floor = max((operation.index or 0 for operation in self._history if operation.effect == "applied"), default=0)
        floor = max([floor, *(page.index for page in self.pages)])
        answer: HttpAnswer | None = None
        try:
            answer = await ask(self._app, "GET", "/snapshot")
        except* OSError:
            pass  # the disk that it is read from failed: the server closes the connection before the answer's end
        if answer is None or answer.status != 200:
            return
        rule = "a backup is whole and new"
        store, data, slices = Store(), answer.body, list[int]()

        def load(line: bytes) -> None:
            before = len(store.stored)
            store.load(line)
            slices.append(len(store.stored) - before)

        try:
            _, meta = read_snapshot(BytesFile(data), "the backup", load)
        except DamagedSnapshot as problem:
            raise Breach(rule, str(problem)) from None
        stated = answer.headers["barge-index"], answer.headers["barge-checksum"], answer.headers["content-length"]
        if stated != (str(meta.last_index), f"{crc32(data):08x}", str(len(data))):
            raise Breach(rule, f"its headers say {stated}, it ends at {meta.last_index}")
        if meta.last_index < floor:
            raise Breach(rule, f"it ends at entry {meta.last_index}, and {floor} had been answered before it was asked for")
        if store.stored != self._states[meta.last_index]:
            raise Breach(rule, f"it is not what the log makes of the keys up to {meta.last_index}")
        self._hit("backup_read")
        if any(count < self._slice_keys for count in slices[:-1]):
            self._hit("slice_cut_by_bytes")

    def _page(self, asked: List, answer: ListAnswer, called: float, node: int | None = None, life: int = 0) -> Page:
        return Page(
            asked=asked,
            items=tuple(answer.items),
            next=answer.next,
            index=answer.index,
            called=called,
            ended=trio.current_time(),
            node=node,
            life=life,
        )
