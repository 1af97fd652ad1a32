"""The keys as they were at one moment, read in slices while writes go on (5.1: "copy-on-write").

A write to a key that the walk has not come to leaves the key's *before image* here, the first one only; a slice takes the image
where there is one, and the store's present value elsewhere. So nothing is copied but what changes under way.
"""

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec
from sortedcontainers import SortedDict

if TYPE_CHECKING:
    from bargetrio.kv.store import Store, Stored

SLICE_KEYS: Final = 500
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
        self._images: SortedDict[str, Stored | None] = SortedDict()
        """What was stored under keys that changed since; None where there was nothing."""
        self.is_open = True

    def note(self, key: str, old: "Stored | None") -> None:
        """`key` is about to change; `old` is what it held."""
        if (self._after is None or key > self._after) and key not in self._images:
            self._images[key] = old

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
        store, images = self._store, self._images
        found: dict[str, Stored] = {}
        size = 0
        end: str | None = None
        for key in islice(store.keys_after(self._after), self._slice_keys):
            found[key] = stored = store.stored(key)
            size += len(stored.value)
            end = key
            if size >= SLICE_BYTES:
                break
        if len(found) < self._slice_keys and size < SLICE_BYTES:
            end = None  # the last slice: the images behind the last key belong to it
        if images:
            found = self._as_it_was(found, end)
        if end is None:
            self.close()
        self._after = end
        return found

    def _as_it_was(self, found: "dict[str, Stored]", end: str | None) -> "dict[str, Stored]":
        """Put the images up to `end` in the place of what is there now, in order."""
        images = self._images
        covered: Iterable[str] = list(images.irange(maximum=end) if end is not None else images)
        for key in covered:
            old = images.pop(key)
            if old is None:
                found.pop(key, None)
            else:
                found[key] = old
        return dict(sorted(found.items()))
