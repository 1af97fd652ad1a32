"""The keys: the result of all committed commands, applied in order."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

import msgspec
from msgspec import Raw, Struct
from sortedcontainers import SortedList

from bargetrio.kv.commands import (
    Command,
    ConfigurationCommand,
    DeleteCommand,
    PutCommand,
    Stored,
    decode_command,
    decode_commands,
)
from bargetrio.kv.scan import SLICE_KEYS, Scan
from bargetrio.protocol.limits import PAGE_BYTES as PAGE_BYTES  # the simulators set it here, for a seed
from bargetrio.protocol.requests import Item


class Written(Struct, frozen=True, gc=False):
    """The put was applied."""

    key: str
    created: bool


class Removed(Struct, frozen=True, gc=False):
    """The delete was applied; `deleted` is False if the key did not exist."""

    key: str
    deleted: bool


class ConditionFailed(Struct, frozen=True, gc=False):
    """The condition did not hold when the command was applied: certainly no effect."""

    key: str
    detail: str


class MalformedCommand(Struct, frozen=True, gc=False):
    """The command is malformed: no effect, on every node alike (BUG-58)."""

    detail: str


decode_slice: Final = msgspec.json.Decoder(dict[str, Stored]).decode
"""Reads a line of a snapshot."""

Outcome = Written | Removed | ConditionFailed | MalformedCommand | None


class Store:
    """The state machine. `apply` is called once for every committed entry, in order."""

    def __init__(self) -> None:
        self._stored: dict[str, Stored] = {}
        self._order: SortedList[str] = SortedList()
        """The same keys, sorted: a write to a key that is there does not touch it."""
        self._scans: list[Scan] = []
        self.last_index = 0
        """The index of the last applied entry."""

    @property
    def stored(self) -> Mapping[str, Stored]:
        """The value of each key, unordered; read only."""
        return self._stored

    def __len__(self) -> int:
        return len(self._stored)

    def apply(self, raw: Raw, index: int) -> Outcome:
        """Apply the command of the entry at `index`; return None for the entry that begins a term. Never raises."""
        self.last_index = index
        try:
            command = decode_command(raw)
        except (ValueError, RecursionError) as problem:
            return MalformedCommand(f"entry {index} holds no command: {problem}")
        return self._do(command, index)

    def apply_all(self, raws: Sequence[Raw], first_index: int) -> None:
        """Apply entries in order, the first one at `first_index`, without outcomes. Never raises."""
        commands = _decode_all(raws)
        if commands is None:
            for index, raw in enumerate(raws, first_index):
                self.apply(raw, index)
            return
        stored, order, scans = self._stored, self._order, self._scans
        for index, command in enumerate(commands, first_index):
            if isinstance(command, PutCommand) and command.is_plain:  # the usual case, inlined
                key = command.key
                old = stored.get(key)
                for scan in scans:
                    scan.note(key, old)
                if old is None:
                    order.add(key)
                stored[key] = Stored(command.value or "", index)
            else:
                self._do(command, index)
        self.last_index = first_index + len(raws) - 1

    def apply_each(self, raws: Sequence[Raw], first_index: int) -> list[Outcome]:
        """Apply entries in order, the first one at `first_index`, and return the outcome of each. Never raises."""
        commands = _decode_all(raws)
        if commands is None:
            return [self.apply(raw, index) for index, raw in enumerate(raws, first_index)]
        self.last_index = first_index + len(raws) - 1
        return [self._do(command, index) for index, command in enumerate(commands, first_index)]

    def _do(self, command: Command | None, index: int) -> Outcome:
        match command:
            case PutCommand():
                return self._put(command, index)
            case DeleteCommand():
                return self._delete(command)
            case ConfigurationCommand() | None:
                return None

    def get(self, key: str) -> Stored | None:
        """Return the value of `key`, None if it does not exist."""
        return self._stored.get(key)

    def items(
        self, prefix: str, after: str, limit: int, *, keys_only: bool = False, most_bytes: int | None = None
    ) -> tuple[list[Item], str | None]:
        """Return up to `limit` keys in order, and the key to continue after, None at the end.

        Keys and values returned have at most `most_bytes` together, PAGE_BYTES if that is None; a larger first item is returned
        alone.
        """
        most_bytes = PAGE_BYTES if most_bytes is None else most_bytes
        found: list[Item] = []
        size = 0
        for key in islice(self._from(prefix, after), limit + 1):
            if not key.startswith(prefix):
                break
            stored = self._stored[key]
            size_of_this = _size(key) if keys_only else _size(key) + _size(stored.value)
            if found and (len(found) == limit or size + size_of_this > most_bytes):
                return found, found[-1].key
            found.append(_item(key, stored, keys_only))
            size += size_of_this
        return found, None

    # -- snapshots -------------------------------------------------------------------------------------------------------

    def scan(self, slice_keys: int = SLICE_KEYS) -> Scan:
        """Return a scan of the keys as they are now, whatever is applied meanwhile."""
        scan = Scan(self, slice_keys)
        self._scans.append(scan)
        return scan

    @property
    def is_scanned(self) -> bool:
        """Whether a scan has not ended."""
        return bool(self._scans)

    def end_scan(self, scan: Scan) -> None:
        """Remove a scan; called by `Scan.close`."""
        self._scans.remove(scan)

    def slice_after(self, after: str | None, count: int) -> dict[str, Stored]:
        """Return up to `count` keys after `after` (None: from the first one) in order, with their values."""
        order = self._order
        keys = list(islice(order.irange(after, inclusive=(False, True)) if after is not None else order, count))
        return dict(zip(keys, map(self._stored.__getitem__, keys), strict=True))

    def load(self, payload: bytes) -> None:
        """Add a slice of a snapshot; raise ValueError if it is malformed."""
        found = decode_slice(payload)
        self._order.update(found.keys() - self._stored.keys())
        self._stored.update(found)

    def drop(self, count: int) -> bool:
        """Free `count` keys of a replaced store without a scan; return whether there are more. A million at once takes 0.1 s."""
        assert not self._scans, "a scan would miss them"
        stored, order = self._stored, self._order
        for _ in range(min(count, len(stored))):
            del stored[order.pop()]
        return bool(stored)

    @classmethod
    def of(cls, found: dict[str, Stored], last_index: int) -> "Store":
        """Return a store with these keys, made in half the time of `load`; blocks until it is done."""
        store = cls()
        store._stored = found
        store._order = SortedList(found)
        store.last_index = last_index
        return store

    def _from(self, prefix: str, after: str) -> Iterator[str]:
        if after >= prefix:
            return iter(self._order.irange(after, inclusive=(False, True)) if after else self._order)
        return iter(self._order.irange(prefix))

    def _put(self, command: PutCommand, index: int) -> Outcome:
        key = command.key
        old = self._stored.get(key)
        if command.if_absent and old is not None:
            return ConditionFailed(key, f"the key exists, last changed at index {old.index}")
        if command.if_index is not None and (why := _mismatch(command.if_index, old)):
            return ConditionFailed(key, why)
        for scan in self._scans:
            scan.note(key, old)
        value, is_b64 = (command.value, False) if command.value is not None else (command.value_b64 or "", True)
        if old is None:
            self._order.add(key)
        self._stored[key] = Stored(value, index, is_b64)
        return Written(key, old is None)

    def _delete(self, command: DeleteCommand) -> Outcome:
        old = self._stored.get(command.key)
        if command.if_index is not None and (why := _mismatch(command.if_index, old)):
            return ConditionFailed(command.key, why)
        if old is not None:
            for scan in self._scans:
                scan.note(command.key, old, removed=True)
            self._order.remove(command.key)
            del self._stored[command.key]
        return Removed(command.key, old is not None)


def _decode_all(raws: Sequence[Raw]) -> list[Command | None] | None:
    """Return the commands, None if one of them is malformed: then each must be decoded by itself."""
    try:
        return decode_commands(raws)
    except (ValueError, RecursionError):
        return None


def _mismatch(if_index: int, old: Stored | None) -> str:
    found = 0 if old is None else old.index
    if found == if_index:
        return ""
    return "there is no such key" if old is None else f"the key was last changed at index {found}, not {if_index}"


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _item(key: str, stored: Stored, keys_only: bool) -> Item:
    if keys_only:
        return Item(key=key, index=stored.index)
    if stored.is_b64:
        return Item(key=key, index=stored.index, value_b64=stored.value)
    return Item(key=key, index=stored.index, value=stored.value)
