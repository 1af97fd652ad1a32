"""The store beside a naive twin, a dict: both show the same keys in every range, however commands are applied."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from bargetrio.kv.commands import Stored, encode_command
from bargetrio.kv.lookup import look_up
from bargetrio.kv.scan import Scan
from bargetrio.kv.store import Store, decode_slice
from bargetrio.protocol.requests import Delete, Get, GetAnswer, List, ListAnswer, Put
from bargetrio.simulator.lists import page_of

KEYS = st.text(alphabet="ab\x01é\U0001f600", min_size=1, max_size=4)
BITS = st.text(alphabet="ab\x01é\U0001f600", max_size=3)
"""Few letters, so that keys are the beginning of others; some sort differently as UTF-16."""
ACTIONS = st.lists(st.tuples(KEYS, st.booleans(), st.booleans()), max_size=25)


def command(key: str, index: int, is_put: bool, is_binary: bool) -> Raw:
    """A put of its own index, or a delete."""
    if not is_put:
        return encode_command(Delete(id=0, key=key))
    return encode_command(Put(id=0, key=key, value_b64="//8=") if is_binary else Put(id=0, key=key, value=f"v{index}"))


def filled(actions: Sequence[tuple[str, bool, bool]], ways: Sequence[int]) -> tuple[Store, dict[str, Stored]]:
    """The store, its commands applied one by one, in batches, or in batches with outcomes; and its twin."""
    store, twin = Store(), dict[str, Stored]()
    commands = [command(key, index, is_put, is_binary) for index, (key, is_put, is_binary) in enumerate(actions, 1)]
    for index, (key, is_put, is_binary) in enumerate(actions, 1):
        twin.pop(key, None)
        if is_put:
            twin[key] = Stored("//8=", index, True) if is_binary else Stored(f"v{index}", index)
    place = 0
    for way in ways:
        batch = commands[place : place + 1 + way // 3]
        if way % 3 == 0:
            for offset, raw in enumerate(batch):
                store.apply(raw, place + offset + 1)
        elif batch and way % 3 == 1:
            store.apply_all(batch, place + 1)
        elif batch:
            store.apply_each(batch, place + 1)
        place += len(batch)
    if commands[place:]:
        store.apply_all(commands[place:], place + 1)
    return store, twin


def whole(scan: Scan) -> dict[str, Stored]:
    """Return all slices of a scan."""
    found: dict[str, Stored] = {}
    while (line := scan.next_slice()) is not None:
        if line:
            found.update(decode_slice(line))
    return found


@settings(max_examples=300)
@given(ACTIONS, st.lists(st.integers(0, 14), max_size=12), BITS, BITS, st.integers(1, 6), st.booleans())
def test_every_page_shows_what_the_twin_shows(
    actions: list[tuple[str, bool, bool]], ways: list[int], prefix: str, after: str, limit: int, keys_only: bool
) -> None:
    """And so do all pages together: each key once."""
    store, twin = filled(actions, ways)
    assert dict(store.stored) == twin
    assert len(store) == len(twin)
    assert store.last_index == len(actions)
    seen: list[str] = []
    while True:
        asked = List(id=7, prefix=prefix, after=after, limit=limit, keys_only=keys_only)
        answer, _ = look_up(store, asked)
        assert isinstance(answer, ListAnswer)
        assert (tuple(answer.items), answer.next) == page_of(twin, asked)
        assert (answer.id, answer.index) == (7, len(actions))
        seen += [item.key for item in answer.items]
        if answer.next is None:
            break
        after = answer.next
    assert len(seen) == len(set(seen))


@settings(max_examples=150)
@given(ACTIONS, ACTIONS, st.integers(1, 4), st.integers(0, 3))
def test_a_scan_shows_the_keys_at_its_start_and_a_store_loaded_from_it_is_equal(
    before: list[tuple[str, bool, bool]], meanwhile: list[tuple[str, bool, bool]], slice_keys: int, steps: int
) -> None:
    """Whatever is applied while it goes on; each key in one slice only, and in order."""
    store, twin = filled(before, [])
    scan = store.scan(slice_keys)
    lines = []
    for index, (key, is_put, is_binary) in enumerate(meanwhile, len(before) + 1):
        if index % (steps + 1) == 0 and (line := scan.next_slice()) is not None:
            lines.append(line)
        store.apply(command(key, index, is_put, is_binary), index)
    while (line := scan.next_slice()) is not None:
        lines.append(line)
    slices = [decode_slice(line) for line in lines if line]
    keys = [key for each in slices for key in each]
    assert keys == sorted(set(keys))
    assert {key: stored for each in slices for key, stored in each.items()} == twin
    loaded = Store()
    for line in lines:
        if line:
            loaded.load(line)
    assert dict(loaded.stored) == twin
    assert loaded.items("", "", 1000)[0] == list(page_of(twin, List(id=0, limit=1000))[0])
    assert whole(loaded.scan(1)) == twin
    assert store._scans == []


@given(ACTIONS, KEYS)
def test_a_get_shows_what_the_twin_shows(actions: list[tuple[str, bool, bool]], key: str) -> None:
    """The index is that of the key's last change, 0 for no such key."""
    store, twin = filled(actions, [])
    answer, _ = look_up(store, Get(id=3, key=key))
    assert isinstance(answer, GetAnswer)
    stored = twin.get(key)
    assert answer.index == (0 if stored is None else stored.index)
    assert (answer.value, answer.value_b64 or None) == (
        (None, None) if stored is None else (None, stored.value) if stored.is_b64 else (stored.value, None)
    )
