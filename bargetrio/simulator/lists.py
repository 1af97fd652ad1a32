"""Lists in the simulators: a client that reads pages of keys, and the check of what a page must show.

A page is one read of all keys in its range at the index that it states: the state of the log up to there. The index is at least
that of every answer given before the page was asked for, and below that of every write called after it was answered. A stale page
shows its node's applied state; at one node, in one life, its index never falls.
"""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Final

from msgspec import Struct

from bargetrio.kv import store
from bargetrio.kv.commands import Stored
from bargetrio.kv.lookup import look_up
from bargetrio.protocol.requests import Delete, ErrorAnswer, Get, GetAnswer, Item, List, ListAnswer, Put
from bargetrio.raft.messages import NodeId
from bargetrio.simulator.answers import NO_LEADER_BACKOFF, AnyAnswer
from bargetrio.simulator.linearizability import Operation, describe
from bargetrio.simulator.memory import Breach
from bargetrio.simulator.server import Server
from bargetrio.simulator.world import World

OWN_KEYS: Final = ("k", "k0a", "k0ab", "l", "l1", "l10", "l11", "l1a", "l2")
"""Written by the reader, so that there are keys that are the beginning of others; no client's history has these."""
PREFIXES: Final = ("", "", "k", "k0", "k0a", "k1", "l", "l1", "l10", "l2", "b", "b1", "m")
PAUSE_S: Final = 0.4
PATIENCE_S: Final = 0.4
MOST_PAGES: Final = 8
"""A longer walk is given up: while others write, it need not end."""


class Page(Struct, frozen=True, kw_only=True):
    """A request and its answer; times are seconds on the history's clock. `node` and `life` are known of a stale page."""

    asked: List
    items: tuple[Item, ...]
    next: str | None
    index: int
    called: float
    ended: float
    node: NodeId | None = None
    life: int = 0

    def describe(self) -> str:
        """Return it for people."""
        asked = f"prefix {self.asked.prefix!r}, after {self.asked.after!r}, limit {self.asked.limit}"
        where = "" if self.node is None else f" of node {self.node}"
        shown = [item.key for item in self.items]
        return f"the {self.asked.read} page{where} ({asked}) at index {self.index} shows {shown}, next {self.next!r}"


def page_of(state: Mapping[str, Stored], asked: List) -> tuple[tuple[Item, ...], str | None]:
    """Return what a page of `state` must show, by the simplest way: a scan of all keys."""
    keys = sorted(key for key in state if key.startswith(asked.prefix) and key > asked.after)
    shown, size = list[str](), 0
    for key in keys[: asked.limit]:
        size += len(key.encode()) + (0 if asked.keys_only else len(state[key].value.encode()))
        if shown and size > store.PAGE_BYTES:
            break
        shown.append(key)
    return tuple(_item(key, state[key], asked.keys_only) for key in shown), shown[-1] if len(keys) > len(shown) else None


def check_page(page: Page, states: Sequence[Mapping[str, Stored]]) -> None:
    """The page shows the state at its index; raise Breach."""
    if page.index >= len(states):
        raise Breach("lists show the state at their index", f"{page.describe()}, and only {len(states) - 1} are committed")
    expected = page_of(states[page.index], page.asked)
    if (page.items, page.next) != expected:
        should = f"{[item.key for item in expected[0]]}, next {expected[1]!r}"
        raise Breach("lists show the state at their index", f"{page.describe()}, and there are {should}")


def check_order(pages: Sequence[Page], history: Sequence[Operation]) -> None:
    """A page is not older than any answer given before it was asked for, nor newer than a write called later; raise Breach."""
    fresh = sorted((page for page in pages if page.asked.read != "stale"), key=lambda page: page.called)
    answers = [(operation.ended, operation.index, describe(operation)) for operation in history if _has_index(operation)]
    answers += [(page.ended, page.index, page.describe()) for page in fresh]
    answers.sort(key=lambda moment: moment[0] or 0.0)
    place, highest, by_whom = 0, 0, ""
    for page in fresh:
        while place < len(answers) and (answers[place][0] or 0.0) < page.called:
            if (answers[place][1] or 0) > highest:
                highest, by_whom = answers[place][1] or 0, answers[place][2]
            place += 1
        if page.index < highest:
            raise Breach("lists see the past", f"{page.describe()}, asked for after {by_whom} had been answered")
    fresh.sort(key=lambda page: page.ended)
    place, latest = 0, None
    for write in sorted((one for one in history if one.kind != "get" and _has_index(one)), key=lambda one: one.called):
        while place < len(fresh) and fresh[place].ended < write.called:
            if latest is None or fresh[place].index > latest.index:
                latest = fresh[place]
            place += 1
        if latest is not None and (write.index or 0) <= latest.index:
            raise Breach("lists see the past", f"{latest.describe()}, and {describe(write)} came later")


class StaleReads:
    """Stale reads, answered by a node from its own state: never older than an earlier answer of the same life."""

    def __init__(self) -> None:
        self._least: dict[tuple[NodeId, int], int] = {}

    def page(self, page: Page, states: Sequence[Mapping[str, Stored]]) -> None:
        """Take the next page of a life; raise Breach."""
        assert page.node is not None
        check_page(page, states)
        least = self._least.get((page.node, page.life), 0)
        if page.index < least:
            raise Breach("a node's reads do not go back", f"{page.describe()}, after a read at {least}")
        self._least[page.node, page.life] = page.index

    def get(self, node: NodeId, life: int, answer: GetAnswer, states: Sequence[Mapping[str, Stored]]) -> None:
        """Take the next stale read of a key, which has no index: some state since the last read must show it; raise Breach."""
        found = None if not answer.index else Stored(answer.value or answer.value_b64 or "", answer.index, bool(answer.value_b64))
        least = self._least.get((node, life), 0)
        for index in range(least, len(states)):
            if states[index].get(answer.key) == found:
                self._least[node, life] = index
                return
        text = f"node {node} shows {found} under {answer.key!r}, which was not there from entry {least} on"
        raise Breach("a node's reads do not go back", text)


class Range:
    """A walk over a range of keys, a page after the other, drawn at random."""

    def __init__(self, random: Random, keys: Sequence[str]) -> None:
        prefix = random.choice(PREFIXES)
        after = random.choice(("", "", "", prefix, random.choice(keys), random.choice(keys), prefix[:-1], "z"))
        limit, keys_only = random.choice((1, 2, 2, 3, 5, 100)), random.random() < 0.3
        self.asked = List(id=0, prefix=prefix, after=after, limit=limit, keys_only=keys_only)
        self.pages = 0

    def go_on(self, page: Page) -> bool:
        """Return whether there is another page to ask for."""
        self.pages += 1
        if page.next is None or self.pages == MOST_PAGES:
            return False
        asked = self.asked
        self.asked = List(id=0, prefix=asked.prefix, after=page.next, limit=asked.limit, keys_only=asked.keys_only)
        return True


class _Asked:
    """A page that is waited for; implements answers.Asker."""

    def __init__(self, reader: "Reader", called: float) -> None:
        self.reader = reader
        self.called = called
        self.done = False

    def answered(self, answer: AnyAnswer) -> None:
        """Take the page, or retry at another node."""
        if isinstance(answer, ErrorAnswer):
            self.reader.ask_elsewhere(self, answer.leader)
        else:
            assert isinstance(answer, ListAnswer)
            self.reader.take(self, answer)


class _Written:
    """A write whose answer is of no interest; implements answers.Asker."""

    def answered(self, answer: AnyAnswer) -> None:
        """Whatever it is."""


class Reader:
    """Walks over ranges of keys in ring 1, and makes stale reads of single nodes in between; each answer is checked at once."""

    def __init__(
        self, world: World, servers: Sequence[Server], states: Sequence[Mapping[str, Stored]], keys: Sequence[str], until: float
    ) -> None:
        self.pages: list[Page] = []
        self.goes_on = 0
        """Pages that went on where another had ended."""
        self._stale = StaleReads()
        self._world = world
        self._servers = servers
        self._states = states
        self._keys = (*keys, *OWN_KEYS)
        self._until = until
        self._random = world.random("lists")
        self._target = 0
        self._range = Range(self._random, self._keys)
        self._plan()

    def _plan(self) -> None:
        self._world.after(self._random.expovariate(1 / PAUSE_S), self._begin)

    def _begin(self) -> None:
        if self._world.now >= self._until:
            return
        what = self._random.random()
        if what < 0.35:
            self._write()
            self._plan()
        elif what < 0.6:
            self._look()
            self._plan()
        else:
            self._range = Range(self._random, self._keys)
            self._ask()

    def _write(self) -> None:
        """Write or delete a key, so that there is something to list; its outcome is not needed."""
        key = self._random.choice(OWN_KEYS)
        is_put = self._random.random() < 0.7
        request = Put(id=0, key=key, value=f"{self._world.now:.3f}") if is_put else Delete(id=0, key=key)
        self._servers[self._target].take_request(_Written(), request)

    def _look(self) -> None:
        """Send a stale read to one node."""
        server = self._random.choice(self._servers)
        if server.core is None or self._world.now < server.machine.paused_until:
            return
        if self._random.random() < 0.5:
            answer, _ = look_up(server.store, Get(id=0, key=self._random.choice(self._keys), read="stale"))
            assert isinstance(answer, GetAnswer)
            self._stale.get(server.node_id, server.lives, answer, self._states)
            return
        asked = Range(self._random, self._keys).asked
        asked = List(id=0, prefix=asked.prefix, after=asked.after, limit=asked.limit, keys_only=asked.keys_only, read="stale")
        answer, _ = look_up(server.store, asked)
        assert isinstance(answer, ListAnswer)
        page = self._page(answer, asked, self._world.now, server.node_id, server.lives)
        self._stale.page(page, self._states)

    def _ask(self) -> None:
        self._send(_Asked(self, self._world.now))

    def _send(self, asked: _Asked) -> None:
        if asked.done:
            return
        if not self._servers[self._target].take_request(asked, self._range.asked):
            self.ask_elsewhere(asked, None)
            return
        self._world.after(PATIENCE_S, self._lose_patience, asked)

    def _lose_patience(self, asked: _Asked) -> None:
        """Retry: an answer to the former request is ignored."""
        if not asked.done:
            asked.done = True
            self._target = self._random.randrange(len(self._servers))
            self._ask_again()

    def ask_elsewhere(self, asked: _Asked, leader: NodeId | None) -> None:
        """Retry after a pause: at the leader, if one was named, or at any node."""
        if not asked.done:
            asked.done = True
            self._target = self._random.randrange(len(self._servers)) if leader is None else leader
            self._world.after(self._random.uniform(0.02, 0.1) * (1 if leader is not None else NO_LEADER_BACKOFF), self._ask_again)

    def _ask_again(self) -> None:
        if self._world.now < self._until:
            self._ask()

    def take(self, asked: _Asked, answer: ListAnswer) -> None:
        """Check a page, then ask for the next one."""
        if asked.done:
            return
        asked.done = True
        page = self._page(answer, self._range.asked, asked.called)
        check_page(page, self._states)
        self.pages.append(page)
        self.goes_on += self._range.pages > 0
        if self._range.go_on(page):
            self._world.after(self._random.uniform(0.001, 0.05), self._ask_again)
        else:
            self._plan()

    def _page(self, answer: ListAnswer, asked: List, called: float, node: NodeId | None = None, life: int = 0) -> Page:
        return Page(
            asked=asked,
            items=tuple(answer.items),
            next=answer.next,
            index=answer.index,
            called=called,
            ended=self._world.now,
            node=node,
            life=life,
        )


def _has_index(operation: Operation) -> bool:
    return operation.ended is not None and operation.effect == "applied" and bool(operation.index)


def _item(key: str, stored: Stored, keys_only: bool) -> Item:
    value = None if keys_only or stored.is_b64 else stored.value
    value_b64 = stored.value if stored.is_b64 and not keys_only else None
    return Item(key=key, index=stored.index, value=value, value_b64=value_b64)
