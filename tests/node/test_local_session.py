"""A client in the node's process is checked and served as any other, and its end or its errors are nobody else's."""

from collections.abc import Sequence
from typing import Any

import pytest

from bargetrio.node import clients
from bargetrio.node.clients import MOST_UNSENT_BYTES
from bargetrio.node.local_session import InProcessSession
from bargetrio.protocol.requests import Delete, ErrorAnswer, Get, GetAnswer, Item, List, ListAnswer, Put, Request
from bargetrio.replica.inbox import Inbox
from bargetrio.replica.sessions import AnswerRoom, Ticket

LONG = "k" * 1025
INVALID: dict[str, Request] = {
    "no key": Get(id=0, key=""),
    "a long key": Put(id=0, key=LONG, value="x"),
    "a NUL": Get(id=0, key="a\0b"),
    "neither value": Put(id=0, key="a"),
    "both values": Put(id=0, key="a", value="x", value_b64="eA=="),
    "no base64": Put(id=0, key="a", value_b64="?"),
    "a long value": Put(id=0, key="a", value="x" * (1024 * 1024 + 1)),
    "two conditions": Put(id=0, key="a", value="x", if_index=1, if_absent=True),
    "an index below 0": Put(id=0, key="a", value="x", if_index=-1),
    "an index over the most": Delete(id=0, key="a", if_index=2**63),
    "a list of nothing": List(id=0, limit=0),
    "a list of a long prefix": List(id=0, prefix=LONG),
}


class Client:
    """A session of a node that only has its inbox."""

    def __init__(self, free: int = MOST_UNSENT_BYTES) -> None:
        self.inbox = Inbox(lambda: None)
        self.room = AnswerRoom(free)
        self.taken: list[Any] = []
        self.ended = self.woken = 0
        self.session = InProcessSession(self.inbox, self._wake, self.room, self._take, self._end)

    def _wake(self) -> None:
        self.woken += 1

    def _take(self, answers: Sequence[Any]) -> None:
        self.taken += answers
        if "bug" in self.taken:
            raise RuntimeError("a bug")

    def _end(self) -> None:
        self.ended += 1

    def deferred(self, key: str) -> Ticket:
        """Defer a read."""
        ticket = Ticket(self.session, 1, Get(id=1, key=key), 0.0)
        self.session.defer(ticket)
        return ticket


@pytest.mark.parametrize("name", INVALID)
def test_what_tcp_would_refuse_is_refused(name: str) -> None:
    """A follower stops at a command that is not valid: it must not come into the log by any way."""
    client = Client()
    good = Put(id=7, key="good", value="x")
    client.session.ask([good, INVALID[name]])
    (answer,) = client.taken
    assert isinstance(answer, ErrorAnswer)
    assert (answer.id, answer.error, answer.applied) == (0, "bad_request", False)
    ((_, batch),) = client.inbox.requests
    assert (batch.writes, batch.reads, client.woken) == ([good], [], 1)


def test_what_is_unusual_and_valid_is_passed_on_as_it_is() -> None:
    """Decoding its line changes nothing."""
    client = Client()
    writes: list[Request] = [
        Put(id=1, key="ä" * 512, value_b64="eA==", if_index=0),
        Delete(id=2, key="b"),
        Put(id=3, key="c", value=""),
    ]
    client.session.ask(writes)
    client.session.ask([List(id=4, limit=1), Get(id=5, key="x" * 1024, read="stale")])
    (_, first), (_, second) = client.inbox.requests
    assert first.writes == writes
    assert len(first.commands) == 3
    assert second.reads == [List(id=4, limit=1), Get(id=5, key="x" * 1024, read="stale")]
    assert not client.taken


def test_a_list_that_exceeds_a_line_is_an_error_here_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a client's daemon runs the leader makes no difference."""
    monkeypatch.setattr(clients, "LINE_BYTES", 100)
    client = Client()
    long = ListAnswer(id=1, items=[Item(key="k" * 100, index=1)], next=None, index=1)
    short = ListAnswer(id=2, items=[], next=None, index=1)
    client.session.answers += [long, short]
    client.session.flush()
    assert [(answer.id, answer.ok) for answer in client.taken] == [(1, False), (2, True)]


def test_a_flush_frees_the_room_of_its_answers() -> None:
    """They are taken at once."""
    client = Client()
    client.session.room = 5
    client.session.flush()
    assert client.session.room == MOST_UNSENT_BYTES


def test_reads_without_room_wait_for_the_next_step() -> None:
    """In their order, as many as there is room for; a flush frees the session's own."""
    client = Client()
    session = client.session
    tickets = [client.deferred(key) for key in "abc"]
    assert session.room == 0
    session.answers.append(GetAnswer(id=9, key="z", index=0))
    session.flush()
    assert client.inbox.sessions_with_room == [session]
    taken = []
    for ticket in session.take_deferred():
        taken.append(ticket)
        session.room -= MOST_UNSENT_BYTES // 2
    assert taken == tickets[:2]
    assert session.room == 0
    session.flush()
    assert session.room == 0
    assert client.inbox.sessions_with_room == [session] * 2
    assert list(session.take_deferred()) == tickets[2:]
    session.flush()
    assert session.room == MOST_UNSENT_BYTES


def test_reads_wait_while_all_clients_answers_are_too_many() -> None:
    """And are resumed with the others that wait, when there is room."""
    client = Client(free=0)
    ticket = client.deferred("a")
    assert list(client.session.take_deferred()) == []
    assert list(client.room.waiting) == [client.session]
    client.room.free = 1
    client.room.resume()
    assert client.inbox.sessions_with_room == [client.session]
    assert list(client.session.take_deferred()) == [ticket]


def test_the_end_is_reported_once_and_nothing_is_queued_after_it() -> None:
    """Reads that wait are over."""
    client = Client(free=0)
    before = client.deferred("a")
    client.session.end()
    client.session.end()
    after = client.deferred("b")
    assert not client.session.ask([Get(id=1, key="a")])
    assert client.ended == 1
    assert before.done
    assert after.done
    assert not client.inbox.requests
    assert not client.room.waiting


def test_an_error_in_the_client_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """It is raised in a step of the node, which goes on."""
    client = Client()
    client.session.answers.append("bug")  # type: ignore[arg-type]  # whatever it is
    client.session.flush()
    assert "answers were not taken" in caplog.text
    assert client.session.answers == []
