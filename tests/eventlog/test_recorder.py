"""The recorder: numbers, bounds, filters, and previews that keep no reference to a batch."""

import sys
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from msgspec import Raw

from bargetrio.eventlog.host_facts import HostFact, LinkDown, NodeKilled, NodeRecovered, RequestReceived
from bargetrio.eventlog.jsonl import LONGEST_LINE
from bargetrio.eventlog.preview import compact_copy, preview_of, preview_text
from bargetrio.eventlog.recorder import TEXT_CHARACTERS, Recorder, format_id, parse_id
from bargetrio.kv.commands import encode_command
from bargetrio.protocol.events import KINDS, Event
from bargetrio.protocol.requests import Delete, Put
from bargetrio.raft.facts import AppendAccepted, AppendSent, Applied, CommitAdvanced, Fact, RoleChanged
from bargetrio.raft.messages import NO_OP


def commit(index: int) -> CommitAdvanced:
    return CommitAdvanced(term=1, index=index, old_index=index - 1, digest=7)


def sent(count: int) -> AppendSent:
    command = encode_command(Put(id=0, key="100", value="Some Value"))
    return AppendSent(
        peer=1,
        term=2,
        index=9,
        first_index=10 - count,
        first_term=1,
        last_term=2,
        count=count,
        leader_commit=8,
        first_commands=(command,) * count,
        digest=5,
    )


def heard(peer: int) -> AppendAccepted:
    return AppendAccepted(
        peer=peer, term=2, index=9, first_index=10, first_term=0, last_term=0, count=0, first_commands=(), digest=5
    )


def make(capacity: int = 100, heartbeats: int = 10, *, hide_values: bool = False) -> Recorder:
    clock = iter(range(1_000_000))
    return Recorder(
        "run", wall_clock=lambda: float(next(clock)), capacity=capacity, heartbeats=heartbeats, hide_values=hide_values
    )


def test_every_fact_has_a_kind_that_is_listed() -> None:
    """One list of kinds for page, filters and documents."""
    kinds = {fact.kind for union in (Fact, HostFact) for fact in union.__args__}
    assert kinds <= set(KINDS)
    later: set[str] = set()
    assert set(KINDS) - kinds == later


def test_an_event_is_shown_whole() -> None:
    """{id, time, node, peer, kind, term, index, heartbeat, detail}."""
    recorder = make()
    recorder.record(0, RoleChanged(term=2, old="candidate", new="leader", reason="has votes"))
    recorder.record(0, sent(1))
    page = recorder.page(None, limit=10)
    event = recorder.event(page.events[1])
    assert event == Event(
        id="run-2",
        time=1.0,
        node=0,
        peer=1,
        kind="append_sent",
        term=2,
        index=9,
        heartbeat=False,
        detail={
            "first_index": 9,
            "first_term": 1,
            "last_term": 2,
            "count": 1,
            "leader_commit": 8,
            "digest": 5,
            "entries": [{"key": "100", "value": "Some Value"}],
            "role": "leader",
        },
    )


def test_heartbeats_have_a_ring_of_their_own_and_are_counted() -> None:
    """An hour of them does not push out last night's election."""
    recorder = make(capacity=5, heartbeats=3)
    recorder.record(0, commit(1))
    for _ in range(50):
        recorder.record(0, sent(0))
    page = recorder.page(None, limit=100)
    assert ([kept.seq for kept in page.events], page.heartbeats, page.dropped) == ([1], 50, 0)
    both = recorder.page(None, heartbeats=True, limit=100)
    assert [kept.seq for kept in both.events] == [1, 49, 50, 51]


def test_the_ring_is_bounded_and_says_what_it_dropped() -> None:
    """A late reader gets the number of lost events."""
    recorder = make(capacity=5)
    for index in range(1, 13):
        recorder.record(0, commit(index))
    assert [kept.seq for kept in recorder.page(None, limit=100).events] == [8, 9, 10, 11, 12]
    assert recorder.page(None, limit=100).dropped == 7
    assert recorder.page(4, limit=100).dropped == 3
    assert recorder.page(9, limit=100).dropped == 0


def test_reading_on_misses_nothing_and_repeats_nothing() -> None:
    """Page by page with last_seq."""
    recorder = make()
    for index in range(1, 26):
        recorder.record(0, commit(index))
    seen: list[int] = []
    after = 0
    while True:
        page = recorder.page(after, limit=10)
        if not page.events:
            break
        seen += [kept.seq for kept in page.events]
        after = page.last_seq
    assert seen == list(range(1, 26))
    assert [kept.seq for kept in recorder.page(None, limit=3).events] == [23, 24, 25]


def test_filters_by_node_and_kind() -> None:
    """An event of no node passes every filter of nodes."""
    recorder = make()
    recorder.record(0, commit(1))
    recorder.record(1, NodeKilled())
    recorder.record(1, commit(1))
    assert [kept.seq for kept in recorder.page(None, nodes=frozenset({1}), limit=9).events] == [2, 3]
    assert [kept.seq for kept in recorder.page(None, kinds=frozenset({"commit_advanced"}), limit=9).events] == [1, 3]


def test_the_role_of_the_moment_is_kept() -> None:
    """The page colours a cell by what the node was then."""
    recorder = make()
    recorder.record(0, RoleChanged(term=1, old="candidate", new="leader", reason=""))
    recorder.record(0, commit(1))
    recorder.record(0, NodeKilled())
    recorder.record(0, NodeRecovered(term=1, index=1, voted_for=0, seconds=0.1))
    assert [kept.role for kept in recorder.page(None, limit=9).events] == ["leader", "leader", "killed", "follower"]


async def test_waiting_for_events_is_not_ended_by_heartbeats() -> None:
    """A page that follows the log sleeps while only heartbeats pass."""
    recorder = make()
    woken: list[int] = []

    async def wait() -> None:
        await recorder.wait(0)
        woken.append(recorder.last_seq)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        recorder.record(0, sent(0))
        await trio.testing.wait_all_tasks_blocked()
        assert woken == []
        recorder.record(0, commit(1))
    assert woken == [2]


def test_previews_are_short_and_say_what_they_cut() -> None:
    """32 characters of a value, without decoding a mebibyte."""
    put = encode_command(Put(id=0, key="100", value="v" * 1_000_000))
    delete = encode_command(Delete(id=0, key="gone", if_index=3))
    binary = encode_command(Put(id=0, key="b", value_b64="/////w=="))
    texts = [preview_text(preview_of(compact_copy(command))) for command in (put, delete, binary, Raw(b"null"), Raw(b"{"))]
    assert texts == [
        '{key: 100, value: "' + "v" * 32 + '…"}',
        "{key: gone, delete, if_index: 3}",
        "{key: b, value_b64: /////w==}",
        "{no-op}",
        "{unreadable}",
    ]


def test_a_cut_goes_through_no_character_and_no_escape() -> None:
    """Whatever the value is made of."""
    for value in ("é" * 500, "😀" * 300, '"' * 500, "\\" * 500, "\u2028" * 500, "a\n" * 400):
        preview = preview_of(compact_copy(encode_command(Put(id=0, key="k", value=value))))
        assert preview["value"] == value[:32] + "…"


def test_values_can_be_hidden() -> None:
    """An option for confidential values."""
    recorder = make(hide_values=True)
    recorder.record(0, sent(1))
    (kept,) = recorder.page(None, limit=1).events
    assert b"Some Value" not in msgspec.json.encode(recorder.event(kept))


def test_facts_keep_no_reference_to_the_batch() -> None:
    """A preview is a few words; the megabyte that it came in is free to go."""
    recorder = make()
    line = b'{"op":"put","key":"k","value":"' + b"x" * 1_000_000 + b'"}'
    fact = Applied(term=1, index=1, first_index=1, first_term=1, first_commands=(Raw(line),), digest=1)
    recorder.record(0, fact)
    (kept,) = recorder.page(None, limit=1).events
    assert isinstance(kept.fact, Applied)
    assert not any(isinstance(command, Raw) for command in kept.fact.first_commands)


def test_ids_are_read_back() -> None:
    """<run>-<seq>; anything else is refused."""
    assert parse_id(format_id("ab-c", 12)) == ("ab-c", 12)
    for text in ("", "12", "-12", "run-", "run-x", "run-1e5", "run-" + "9" * 30):
        try:
            parse_id(text)
        except ValueError:
            continue
        raise AssertionError(f"{text!r} was taken")


def test_a_page_that_lags_gets_elections_and_faults() -> None:
    """Of thousands of appends and commits the newest of each node and peer; of elections and faults every one."""
    recorder = make(capacity=1000)
    for index in range(1, 301):
        recorder.record(0, commit(index))
        recorder.record(1, commit(index))
        if index % 100 == 0:
            recorder.record(1, NodeKilled())
    page = recorder.page(0, limit=200, thin=True)
    assert [kept.fact.kind for kept in page.events] == [*["node_killed"] * 2, *["commit_advanced"] * 2, "node_killed"]
    newest = {kept.node: kept.fact.index for kept in page.events if isinstance(kept.fact, CommitAdvanced)}
    assert newest == {0: 300, 1: 300}
    assert (page.skipped, page.last_seq) == (598, recorder.last_seq)
    assert recorder.page(page.last_seq, limit=200, thin=True).events == []


def test_a_summary_of_heartbeats() -> None:
    """The newest that each node received, and its age."""
    recorder = make()
    for peer in (2, 0):
        recorder.record(1, heard(peer))
    recorder.record(2, heard(0))
    recorder.record(0, sent(0))
    assert [(beat.node, beat.peer, beat.age_ms) for beat in recorder.beats()] == [(1, 0, 3000.0), (2, 0, 2000.0)]


def test_what_is_staged_has_its_time_and_is_kept_in_its_order_when_it_is_flushed() -> None:
    """A node's step sends first. Facts recorded meanwhile come after those staged before."""
    clock = iter([10.0, 11.0, 12.0])
    recorder = Recorder("run", wall_clock=lambda: next(clock))
    recorder.stage(1, CommitAdvanced(term=1, index=5, old_index=4, digest=0))
    assert (recorder.last_seq, recorder.page(None, limit=9).events) == (0, [])
    recorder.stage(1, RoleChanged(term=2, old="leader", new="follower", reason="a higher term"))
    recorder.record(2, NodeKilled())
    told = [(kept.seq, kept.time, kept.node, kept.fact.kind, kept.role) for kept in recorder.page(None, limit=9).events]
    assert told == [
        (1, 10.0, 1, "commit_advanced", ""),
        (2, 11.0, 1, "role_changed", "follower"),
        (3, 12.0, 2, "node_killed", "killed"),
    ]
    recorder.flush()
    assert recorder.last_seq == 3


def test_facts_about_the_same_commands_share_their_copies_and_others_do_not() -> None:
    """A leader's step announces each write three times: received, and sent twice. An empty entry is always the same object."""
    recorder = Recorder("run", wall_clock=lambda: 0.0)
    first, second = Raw(b'{"op":"put","key":"a","value":"1"}'), Raw(b'{"op":"put","key":"b","value":"2"}')
    shapes = [(first, second), (first, second), (first,), (second,), (second, first), (second, second), ()]
    shapes += [(NO_OP, first, NO_OP), (NO_OP, second, NO_OP)]
    for commands in shapes:
        recorder.stage(0, RequestReceived(count=len(commands), op="write", first_commands=commands))
    recorder.flush()
    told = [kept.fact.first_commands for kept in recorder.page(None, limit=9).events if isinstance(kept.fact, RequestReceived)]
    assert told == [tuple([bytes(command) for command in commands]) for commands in shapes]
    assert told[0] is told[1]


def test_no_number_is_given_twice_though_a_fact_can_not_be_kept() -> None:
    """That would be a bug; a reader that continues by number must not lose more events by it."""
    recorder = Recorder("run", wall_clock=lambda: 0.0)
    recorder.stage(0, commit(1))
    broken: Any = None
    recorder.stage(0, RequestReceived(count=1, op="write", first_commands=(broken,)))
    with pytest.raises(TypeError):
        recorder.flush()
    recorder.record(0, commit(2))
    assert [kept.seq for kept in recorder.page(None, limit=9).events] == [1, 3]


def test_no_command_is_held_once_its_facts_are_kept() -> None:
    """It may lie in the bytes of a whole batch."""
    recorder = Recorder("run", wall_clock=lambda: 0.0)
    command = Raw(b'{"op":"put","key":"a","value":"1"}')
    before = sys.getrefcount(command)
    recorder.record(0, RequestReceived(count=1, op="write", first_commands=(command,)))
    assert sys.getrefcount(command) == before


MOST_BYTES = 5 * 1024
"""Of an event that is kept, as docs/limits.md says."""
LONG = "\U0001f600" * 100_000
LONGEST_COMMANDS = (
    encode_command(Put(id=0, key="\U0001f600" * 256, value=LONG)),
    encode_command(Put(id=0, key="\U0001f601" * 256, value=LONG, if_index=2**62)),
    encode_command(Put(id=0, key="k", value="v" * 450)),
)


def weight(value: Any) -> int:
    """Return the bytes of a value and all that it refers to."""
    size = sys.getsizeof(value)
    if isinstance(value, msgspec.Struct):
        return size + sum(weight(getattr(value, name)) for name in value.__struct_fields__)
    if isinstance(value, dict):
        return size + sum(weight(part) for pair in value.items() for part in pair)
    if isinstance(value, tuple):
        return size + sum(map(weight, value))
    return size


@pytest.mark.parametrize("kind", [*Fact.__args__, *HostFact.__args__], ids=lambda kind: str(kind.kind))
def test_an_event_is_bounded_in_bytes(kind: Any) -> None:
    """A peer's malformed line of 8 MiB was quoted in the reason that its connection ended, and 20,000 events are kept."""
    values: dict[Any, Any] = {str: LONG, bool: True, float: 0.5, dict[str, Any]: {}, tuple[Any, ...]: LONGEST_COMMANDS}
    fields = {}
    for field in msgspec.structs.fields(kind):
        is_frequent = kind.kind in ("request_received", "request_answered")
        fields[field.name] = "overloaded" if is_frequent and field.type is str else values.get(field.type, 2**62)
        if field.name == "first_commands":
            fields[field.name] = LONGEST_COMMANDS
        if field.name in ("old", "new"):
            fields[field.name] = "pre_candidate"
    recorder = make()
    recorder.record(0, kind(**fields))
    (kept,) = recorder.page(None, heartbeats=True, limit=9).events
    assert weight(kept) <= MOST_BYTES
    assert len(msgspec.json.encode(recorder.event(kept))) <= LONGEST_LINE


def test_a_long_reason_is_cut_and_a_short_one_is_not() -> None:
    """The beginning says what happened."""
    recorder = make()
    for length in (TEXT_CHARACTERS, TEXT_CHARACTERS + 1):
        recorder.record(0, LinkDown(peer=1, reason="r" * length))
    whole, cut = [kept.fact.reason for kept in recorder.page(None, limit=9).events if isinstance(kept.fact, LinkDown)]
    assert whole == "r" * TEXT_CHARACTERS
    assert cut == "r" * TEXT_CHARACTERS + "…"
