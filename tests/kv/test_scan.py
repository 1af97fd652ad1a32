"""The scan of the keys for a snapshot: it shows one point in time, whatever is written meanwhile."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from bargetrio.kv.commands import Stored, encode_command
from bargetrio.kv.scan import SLICE_BYTES
from bargetrio.kv.store import Store
from bargetrio.protocol.requests import Delete, Put

KEYS = st.sampled_from([f"k{number}" for number in range(12)])
WRITES = st.lists(st.tuples(KEYS, st.booleans(), st.integers(0, 3)), max_size=40)


def write(store: Store, key: str, deletes: bool) -> None:
    """Put a new value, or delete; alternately with and without outcomes."""
    index = store.last_index + 1
    command = encode_command(Delete(id=0, key=key) if deletes else Put(id=0, key=key, value=f"v{index}"))
    if index % 2:
        store.apply(command, index)
    else:
        store.apply_all([command], index)


def content(store: Store) -> dict[str, Stored]:
    """Return all keys, in order."""
    return dict(store.slice_after(None, 1000))


def read(line: bytes) -> dict[str, Stored]:
    """Return the content of a slice."""
    return {} if not line else msgspec.json.decode(line, type=dict[str, Stored])


@given(WRITES, WRITES, st.integers(1, 5))
def test_a_scan_shows_the_keys_at_its_start(
    before: list[tuple[str, bool, int]], meanwhile: list[tuple[str, bool, int]], slice_keys: int
) -> None:
    """Keys changed, removed, added, removed and added again, before and after its position: it shows none of it (BUG-29)."""
    store = Store()
    for key, deletes, _ in before:
        write(store, key, deletes)
    expected = content(store)
    scan = store.scan(slice_keys)
    found: dict[str, Stored] = {}
    keys: list[str] = []
    for key, deletes, slices in meanwhile:
        write(store, key, deletes)
        for _ in range(slices):
            line = scan.next_slice()
            if line:
                keys.extend(read(line))
                found.update(read(line))
    while (line := scan.next_slice()) is not None:
        keys.extend(read(line))
        found.update(read(line))
    assert found == expected
    assert keys == sorted(expected), "every key once, in order"
    assert not scan.is_open


@given(WRITES, st.integers(1, 5))
def test_a_state_is_loaded_as_it_was_saved(writes: list[tuple[str, bool, int]], slice_keys: int) -> None:
    """Slice by slice into an empty store."""
    store, other = Store(), Store()
    for key, deletes, _ in writes:
        write(store, key, deletes)
    scan = store.scan(slice_keys)
    while (line := scan.next_slice()) is not None:
        other.load(line)
    assert content(other) == content(store)


def test_two_scans_run_concurrently() -> None:
    """Each shows its own point in time; one that is closed early leaves no before images."""
    store = Store()
    for number in range(10):
        write(store, f"k{number}", deletes=False)
    first, begin = store.scan(3), content(store)
    assert first.next_slice() is not None
    write(store, "k9", deletes=True)
    second, later = store.scan(3), content(store)
    write(store, "k8", deletes=False)
    given_up = store.scan(3)
    given_up.close()
    assert given_up.next_slice() is None
    rest: dict[str, Stored] = {}
    while (line := first.next_slice()) is not None:
        rest.update(read(line))
    assert rest == {key: stored for key, stored in begin.items() if key > "k2"}
    found: dict[str, Stored] = {}
    while (line := second.next_slice()) is not None:
        found.update(read(line))
    assert found == later


def test_a_slice_ends_when_it_is_long() -> None:
    """A thousand long values are not in one slice."""
    store = Store()
    for number in range(4):
        store.apply(encode_command(Put(id=0, key=f"k{number}", value="x" * (SLICE_BYTES + 1))), number + 1)
    scan = store.scan(1000)
    lines: list[bytes] = []
    while (line := scan.next_slice()) is not None:
        lines.append(line)
    assert [list(read(line)) for line in lines] == [["k0"], ["k1"], ["k2"], ["k3"]]


def test_a_slice_is_short_though_all_behind_it_was_removed() -> None:
    """A thousand keys removed during a scan are returned in slices, not in one: it would block the loop."""
    store = Store()
    for number in range(1000):
        write(store, f"k{number:03}", deletes=False)
    scan, begin = store.scan(10), content(store)
    for number in range(1000):
        write(store, f"k{number:03}", deletes=True)
    found: dict[str, Stored] = {}
    while (line := scan.next_slice()) is not None:
        assert len(read(line)) <= 20
        found.update(read(line))
    assert found == begin


def test_a_call_is_short_though_all_behind_it_is_new() -> None:
    """A thousand keys added during a scan are skipped in as many calls as if they were returned."""
    store = Store()
    write(store, "a", deletes=False)
    scan, begin = store.scan(10), content(store)
    for number in range(1000):
        write(store, f"k{number:03}", deletes=False)
    lines: list[bytes] = []
    while (line := scan.next_slice()) is not None:
        lines.append(line)
    assert read(lines[0]) == begin
    assert len(lines) == 100
    assert set(lines[1:]) == {b""}


def test_a_slice_is_short_though_its_keys_were_long() -> None:
    """Long values that were since replaced by short ones count with their old length."""
    store = Store()
    for number in range(4):
        store.apply(encode_command(Put(id=0, key=f"k{number}", value="x" * (SLICE_BYTES + 1))), number + 1)
    scan = store.scan(1000)
    for number in range(4):
        write(store, f"k{number}", deletes=False)
    lines: list[bytes] = []
    while (line := scan.next_slice()) is not None:
        lines.append(line)
    assert [list(read(line)) for line in lines if line] == [["k0"], ["k1"], ["k2"], ["k3"]]
