"""The keys as they were at one moment, read in slices while writes go on (5.1: "copy-on-write").

A write to a key that the walk has not come to leaves the key's *before image* here, the first one only; a slice takes the image
where there is one, and the store's present value elsewhere. So nothing is copied but what changes under way.
"""

from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec
from sortedcontainers import SortedList

if TYPE_CHECKING:
    from bargetrio.kv.store import Store, Stored

SLICE_KEYS: Final = 2000
SLICE_BYTES: Final = 256 * 1024
"""A slice ends with the key that goes beyond either."""

_encode: Final = msgspec.json.Encoder().encode


class Scan:
    """One walk; `Store.scan` begins it. It ends with the last slice, or with `close`."""

    def __init__(self, store: "Store", slice_keys: int) -> None:
        self._store = store
        self._slice_keys = slice_keys
        self._after: str | None = None
        """The last key that a slice has covered; None before the first."""
        self._images: dict[str, Stored | None] = {}
        """What was stored under keys that changed since; None where there was nothing."""
        self._removed: SortedList[str] = SortedList()
        """Keys that were removed since: a slice does not come by them in the store."""
        self.is_open = True

    def note(self, key: str, old: "Stored | None", *, removed: bool = False) -> None:
        """`key` is about to change; `old` is what it held."""
        if self._after is not None and key <= self._after:
            return
        if key not in self._images:
            self._images[key] = old
        if removed and key not in self._removed:
            self._removed.add(key)

    def next_slice(self) -> bytes | None:
        """Return the next keys as one JSON object, `{key: [value, index, is_b64]}`; None at the end."""
        while self.is_open:
            found = self._next()
            if found:
                return _encode(found)
        return None

    def close(self) -> None:
        """Give up, or note the end; the store goes on as if nobody had looked."""
        if self.is_open:
            self.is_open = False
            self._images.clear()
            self._store.end_scan(self)

    def _next(self) -> "dict[str, Stored]":
        found = self._store.slice_after(self._after, self._slice_keys)
        is_last = len(found) < self._slice_keys
        if sum(len(stored.value) for stored in found.values()) > SLICE_BYTES:
            found, is_last = _begin_of(found), False
        end = None if is_last else next(reversed(found))  # behind the last key there may be removed ones
        self._put_back(found)
        if self._removed:
            found = self._with_removed(found, end)
        if is_last:
            self.close()
        self._after = end
        return found

    def _put_back(self, found: "dict[str, Stored]") -> None:
        """Undo what has changed since, among the keys of this slice."""
        images = self._images
        for key in images.keys() & found.keys():
            old = images.pop(key)
            if old is None:
                del found[key]
            else:
                found[key] = old

    def _with_removed(self, found: "dict[str, Stored]", end: str | None) -> "dict[str, Stored]":
        """Add what was there up to `end` and is not any more, in order."""
        for key in list(self._removed.irange(maximum=end) if end is not None else self._removed):
            self._removed.remove(key)
            old = self._images.pop(key, None)  # gone from the images: it came back, and the store had it
            if old is not None:
                found[key] = old
        return dict(sorted(found.items()))


def _begin_of(found: "dict[str, Stored]") -> "dict[str, Stored]":
    """Return the first keys, up to the one that makes the slice large enough."""
    size = 0
    for count, stored in enumerate(found.values(), 1):
        size += len(stored.value)
        if size > SLICE_BYTES:
            return dict(islice(found.items(), count))
    return found
