"""A point-in-time scan of the keys, in slices while writes go on (Ongaro 5.1: "copy-on-write").

A write to a key that the scan has not reached saves the key's *before image* here, the first one only; a slice uses the image if
there is one, else the store's present value. So only keys that change during the scan are copied.
"""

from itertools import islice
from operator import attrgetter
from typing import Final, Protocol

import msgspec
from sortedcontainers import SortedList

from bargetrio.kv.commands import Stored

SLICE_KEYS: Final = 2000
SLICE_BYTES: Final = 256 * 1024
"""A slice ends with the key that goes beyond either."""

_value_of: Final = attrgetter("value")
_encode: Final = msgspec.json.Encoder().encode


class Keys(Protocol):
    """The part of the store that a scan needs."""

    def slice_after(self, after: str | None, count: int) -> dict[str, Stored]:
        """As `Store.slice_after`."""
        ...

    def end_scan(self, scan: "Scan") -> None:
        """As `Store.end_scan`."""
        ...


class Scan:
    """One scan, begun by `Store.scan`. It ends with the last slice, or with `close`."""

    def __init__(self, store: Keys, slice_keys: int) -> None:
        self._store = store
        self._slice_keys = slice_keys
        self._after: str | None = None
        """The last key that a slice has covered; None before the first."""
        self._images: dict[str, Stored | None] = {}
        """What was stored under keys that changed since; None where there was nothing."""
        self._removed: SortedList[str] = SortedList()
        """Keys that were removed since, which a slice does not find in the store."""
        self.is_open = True

    def note(self, key: str, old: Stored | None, *, removed: bool = False) -> None:
        """Save the before image: `key` is about to change, `old` is its value."""
        if self._after is not None and key <= self._after:
            return
        if key not in self._images:
            self._images[key] = old
        if removed and key not in self._removed:
            self._removed.add(key)

    def next_slice(self) -> bytes | None:
        """Return the next keys as one JSON object, `{key: [value, index, is_b64]}`; None at the end.

        b"": the slice holds only keys that were added since; call again. This keeps each call short.
        """
        if not self.is_open:
            return None
        found = self._next()
        if found:
            return _encode(found)
        return b"" if self.is_open else None

    def close(self) -> None:
        """End the scan: the store saves no more before images. Idempotent."""
        if self.is_open:
            self.is_open = False
            self._images.clear()
            self._store.end_scan(self)

    def _next(self) -> dict[str, Stored]:
        found = self._store.slice_after(self._after, self._slice_keys)
        end = next(reversed(found)) if len(found) >= self._slice_keys else None  # removed keys may follow the last one
        if self._removed:
            found, end = self._with_removed(found, end)
        images = self._images
        changed = images.keys() & found.keys()
        for key in changed:
            old = images[key]
            if old is None:
                del found[key]
            else:
                found[key] = old
        if sum(map(len, map(_value_of, found.values()))) > SLICE_BYTES:  # before images may be longer than the values
            found = _begin_of(found)
            end = next(reversed(found))
        for key in changed:
            if end is None or key <= end:
                del images[key]
        self._forget_removed(end)
        if end is None:
            self.close()
        self._after = end
        return found

    def _with_removed(self, found: dict[str, Stored], end: str | None) -> tuple[dict[str, Stored], str | None]:
        """Add the keys up to `end` that have been removed since, in order; return a nearer end if there are many."""
        removed = list(islice(self._removed.irange(maximum=end), self._slice_keys))
        if len(removed) == self._slice_keys:
            end = removed[-1]
            found = {key: stored for key, stored in found.items() if key <= end}
        for key in removed:
            old = self._images.get(key)  # None: added after the scan began, and removed again
            if old is not None:
                found[key] = old
        return dict(sorted(found.items())), end

    def _forget_removed(self, end: str | None) -> None:
        """Drop the removed keys that this slice has covered."""
        removed = self._removed
        if removed:
            count = len(removed) if end is None else removed.bisect_right(end)
            for key in removed[:count]:
                self._images.pop(key, None)
            del removed[:count]


def _begin_of(found: dict[str, Stored]) -> dict[str, Stored]:
    """Return the first keys, up to the one that makes the slice large enough."""
    size = 0
    for count, stored in enumerate(found.values(), 1):
        size += len(stored.value)
        if size > SLICE_BYTES:
            return dict(islice(found.items(), count))
    return found
