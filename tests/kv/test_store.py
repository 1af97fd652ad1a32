"""The state machine: what commands do to keys, and that no command can break it."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from bargetrio.kv.commands import DeleteCommand, PutCommand, Stored, check_commands, decode_command, encode_command
from bargetrio.kv.store import ConditionFailed, MalformedCommand, Removed, Store, Written
from bargetrio.protocol.limits import LINE_BYTES, PAGE_BYTES
from bargetrio.protocol.requests import Delete, Item, Put


def store_with(**values: str) -> Store:
    """A store whose keys were written in order, from index 1 on."""
    store = Store()
    for index, (key, value) in enumerate(values.items(), 1):
        store.apply(put(key, value), index)
    return store


def put(key: str, value: str, if_index: int | None = None, if_absent: bool = False) -> Raw:
    """A put as in the log."""
    return encode_command(Put(id=0, key=key, value=value, if_index=if_index, if_absent=if_absent))


def delete(key: str, if_index: int | None = None) -> Raw:
    """A delete as in the log."""
    return encode_command(Delete(id=0, key=key, if_index=if_index))


def test_a_command_is_short_and_readable_in_the_log() -> None:
    """The bytes that go over the wire and onto the disk."""
    assert bytes(put("100", "Some Value")) == b'{"op":"put","key":"100","value":"Some Value"}'
    assert bytes(delete("100")) == b'{"op":"delete","key":"100"}'
    assert bytes(put("a", "b", if_absent=True)) == b'{"op":"put","key":"a","value":"b","if_absent":true}'
    assert decode_command(put("a", "b", 3)) == PutCommand("a", "b", if_index=3)
    assert decode_command(delete("a", 3)) == DeleteCommand("a", 3)


def test_a_binary_value_that_is_text_is_kept_as_text() -> None:
    """value_b64 only where the bytes are not UTF-8."""
    assert bytes(encode_command(Put(id=1, key="a", value_b64="aGk="))) == b'{"op":"put","key":"a","value":"hi"}'
    store = Store()
    store.apply(encode_command(Put(id=1, key="a", value_b64="/w==")), 1)
    assert store.get("a") == Stored("/w==", 1, True)


def test_put_get_delete() -> None:
    """The index of a key is that of its last change."""
    store = Store()
    assert store.apply(put("a", "1"), 1) == Written("a", True)
    assert store.apply(put("a", "2"), 2) == Written("a", False)
    assert store.get("a") == Stored("2", 2)
    assert store.apply(delete("a"), 3) == Removed("a", True)
    assert store.apply(delete("a"), 4) == Removed("a", False)
    assert store.get("a") is None
    assert store.last_index == 4


def test_conditions_are_evaluated_when_applied() -> None:
    """Compare-and-set: the state at the entry's position in the log decides."""
    store = store_with(a="1")
    assert isinstance(store.apply(put("a", "2", if_absent=True), 2), ConditionFailed)
    assert isinstance(store.apply(put("a", "2", if_index=9), 3), ConditionFailed)
    assert isinstance(store.apply(put("b", "2", if_index=9), 4), ConditionFailed)
    assert isinstance(store.apply(delete("a", if_index=9), 5), ConditionFailed)
    assert store.get("a") == Stored("1", 1)
    assert store.apply(put("b", "2", if_index=0), 6) == Written("b", True)
    assert store.apply(put("a", "2", if_index=1), 7) == Written("a", False)
    assert store.apply(delete("a", if_index=7), 8) == Removed("a", True)
    assert store.apply(put("a", "3", if_absent=True), 9) == Written("a", True)


def test_a_malformed_command_changes_nothing_and_ends_no_node() -> None:
    """BUG-58: an entry that can't be applied must not kill every replica in turn."""
    store = store_with(a="1")
    for index, raw in enumerate([b"{}", b'{"op":"fly"}', b"12", b"[", b'{"op":"put","key":1}', b"\xff", b"[" * 100_000], 2):
        assert isinstance(store.apply(Raw(raw), index), MalformedCommand)
    assert store.apply(Raw(b"null"), 9) is None
    assert store.items("", "", 10) == ([Item(key="a", index=1, value="1")], None)


def test_a_follower_detects_a_malformed_entry_before_it_persists() -> None:
    """msgspec.Raw is not validation."""
    check_commands([put("a", "b"), delete("a"), Raw(b"null")])
    for raw in (b'{"op":"put","key":"a"}', b'{"op":"put","key":"","value":"x"}', b'{"op":"get","key":"a"}', b"1"):
        try:
            check_commands([Raw(raw)])
        except Exception:
            continue
        raise AssertionError(f"{raw!r} passed")


@pytest.mark.slow
@given(
    st.dictionaries(st.text("ab/", min_size=1, max_size=4), st.text(max_size=2), max_size=12),
    st.text("ab/", max_size=2),
    st.text("ab/", max_size=4),
    st.integers(1, 5),
)
def test_a_list_is_in_order_and_its_pages_join(values: dict[str, str], prefix: str, after: str, limit: int) -> None:
    """Whatever the page size, the pages are the sorted keys that start with the prefix, after `after`."""
    store = store_with(**values)
    wanted = sorted(key for key in values if key.startswith(prefix) and key > after)
    found: list[str] = []
    cursor: str | None = after
    while cursor is not None:
        items, cursor = store.items(prefix, cursor, limit)
        assert len(items) <= limit
        found += [item.key for item in items]
    assert found == wanted


def test_a_page_ends_by_bytes_too() -> None:
    """One line holds an answer, whatever the values are; a larger item comes alone, and the pages join."""
    store = store_with(a="x" * 6, b="y" * 4, c="z" * 40, d="ä" * 4, e="", f="w" * 10)
    pages: list[list[str]] = []
    cursor: str | None = ""
    while cursor is not None:
        items, cursor = store.items("", cursor, 10, most_bytes=12)
        pages.append([item.key for item in items])
    assert pages == [["a", "b"], ["c"], ["d", "e"], ["f"]]
    assert store.items("", "", 10, keys_only=True, most_bytes=6)[1] is None
    assert store.items("", "", 2, most_bytes=100)[1] == "b"
    for key, value in (("a", "ä" * 4), ("ä" * 4, "x")):  # 9 bytes, 5 characters
        found, cursor = store_with(**{key: value, "é": "x" * 4}).items("", "", 10, most_bytes=12)
        assert ([item.key for item in found], cursor) == (([key], key))


def test_a_page_with_the_worst_values_fits_a_line() -> None:
    """JSON makes six bytes of a control character."""
    store = store_with(**{f"\x01{number}": "\x01" * (PAGE_BYTES // 3 - 10) for number in range(6)})
    items, cursor = store.items("", "", 100)
    assert len(items) == 3 and cursor is not None
    assert len(msgspec.json.encode(items)) > 6 * PAGE_BYTES - 1000
    assert len(msgspec.json.encode(items)) < LINE_BYTES


def test_two_stores_that_apply_the_same_are_the_same() -> None:
    """State machine safety rests on it: no clock, no chance, no order of a set."""
    commands = [put("a", "1"), delete("b"), put("b", "2", if_absent=True), put("a", "3", if_index=1), delete("a", 9)]
    first, second = Store(), Store()
    outcomes = [[store.apply(raw, index) for index, raw in enumerate(commands, 1)] for store in (first, second)]
    assert outcomes[0] == outcomes[1]
    assert first.items("", "", 10) == second.items("", "", 10)


PUTS = [put("a", "1"), put("b", "2"), put("a", "3", if_index=1), put("c", "4", if_absent=True)]
COMMANDS = st.sampled_from([*PUTS, delete("a"), delete("b", 2), Raw(b"null"), Raw(b'{"op":"none"}')])


@given(st.lists(COMMANDS, max_size=8))
def test_together_is_as_one_by_one(commands: list[Raw]) -> None:
    """With outcomes as a leader, or without as a follower, in small batches or large ones: the result is the same."""
    one, each, everything = Store(), Store(), Store()
    outcomes = [one.apply(command, index) for index, command in enumerate(commands, 1)]
    assert each.apply_each(commands, 1) == outcomes
    everything.apply_all(commands, 1)
    assert one.items("", "", 100) == each.items("", "", 100) == everything.items("", "", 100)
    assert one.last_index == each.last_index == everything.last_index == len(commands)
